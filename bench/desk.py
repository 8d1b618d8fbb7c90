"""`python -m bench.desk`: how fast the steps from a venue's message to a strategy's order are; see README.md.

What is measured in this process is of CPU time, so other load does not change it much; what runs as a stack does need
a quiet machine.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from bench.goals import Report, goal_line, judge, row_line

ROOT = Path(__file__).resolve().parents[1]


def measure_normalize(seconds: float) -> Report:
    """The normalizer's machine over the recorded week, with every kind of bar that it makes by default."""
    from trade2026.domain.instruments import Instrument
    from trade2026.gateway.recording import load_bitstamp
    from trade2026.gateway.replay import Replay
    from trade2026.normalizer.machine import Normalizer
    from trade2026.normalizer.raw import PaperTrade

    instrument = Instrument(
        symbol="BTCUSD", venue="B", base="BTC", quote="USD", settlement="USD", tick_size=10**7, lot_size=1
    )
    recording = load_bitstamp()
    replay, times = Replay(recording, instrument), recording.source_times()
    messages = [PaperTrade(ts, replay.trade_at(row)) for row, ts in enumerate(times)]
    ticks, outputs, cpu = 0, 0, 0
    while cpu < seconds * 1e9:
        machine = Normalizer([instrument])
        begin = time.process_time_ns()
        for message in messages:
            outputs += len(machine.on_trade(message.ts, message))
        cpu += time.process_time_ns() - begin
        ticks += len(messages)
    rate = round(ticks * 1e9 / cpu)
    return {"normalize": {"ticks_per_s": rate, "us": round(1e6 / rate, 2), "outputs": outputs}}


ROWS = ("normalize", "lake", "store", "journey", "footprint")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.desk", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"which: {', '.join(ROWS)}; all if none is named")
    parser.add_argument("--seconds", type=float, default=10.0, help="for a row")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--port-offset", type=int, default=20_000)
    parser.add_argument("--dir", type=Path, help="where the state lies")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "services"))
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(unknown)}")
    rows: Report = {}
    with tempfile.TemporaryDirectory(prefix="trade2026-desk-", dir=options.dir) as folder:
        for name in options.rows or ROWS:
            found = _measure(name, Path(folder), options)
            for title, row in found.items():
                print(row_line(title, row), flush=True)
            rows |= found
    print()
    for verdict in judge(rows):
        print(goal_line(verdict))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def _measure(name: str, where: Path, options: argparse.Namespace) -> Report:
    from bench.footprint import measure_footprint
    from bench.journey import measure_journey
    from bench.lake import measure_lake
    from bench.timeseries import measure_store

    match name:
        case "normalize":
            return measure_normalize(options.seconds)
        case "lake":
            return measure_lake(where, options.seconds)
        case "store":
            return measure_store(where, options.seconds)
        case "journey":
            return measure_journey(where, options.port_offset, options.seconds)
        case _:
            return measure_footprint(where, options.port_offset, options.seconds)


if __name__ == "__main__":
    main()
