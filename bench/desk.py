"""`python -m bench.desk`: how fast the steps from a venue's message to a strategy are; see README.md.

Rows of one step each, on one core, in this process. A rate is of CPU time, so other load does not change it much.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TICKS_PER_SECOND_MIN = 100_000


def measure_normalize(seconds: float) -> dict[str, Any]:
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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.desk", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of CPU time for a row")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "services"))
    rows = measure_normalize(options.seconds)
    for name, row in rows.items():
        reached = "reached" if row["ticks_per_s"] >= TICKS_PER_SECOND_MIN else "MISSED"
        print(
            f"{name:<12} {row['ticks_per_s']:,} ticks/s ({row['us']} µs CPU each); {TICKS_PER_SECOND_MIN:,}: {reached}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
