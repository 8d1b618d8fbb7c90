"""How fast market data goes into the lake: decoded, made rows, columns and Parquet, and committed."""

import time
from pathlib import Path

from bench.goals import Report

_ROWS = 50_000
_RECORDS_PER_BATCH = 25_000
"""What the service's bound of 8 MiB a batch comes to."""


def measure_lake(where: Path, seconds: float) -> Report:
    """Ticks from the log's records to a commit, on all threads of the process."""
    from trade2026.domain.events import Envelope, decode, encode
    from trade2026.domain.market import Trade
    from trade2026.domain.numbers import SCALE
    from trade2026.sink_ticks.tables import FEEDS
    from trade2026.sinks.machine import Intake
    from trade2026.stores.delta import DeltaLake

    feed, begun_ns = FEEDS[0], time.time_ns()
    bodies = [
        encode(
            Envelope(
                seq, 1, begun_ns + seq, begun_ns + seq, "bench", "market", "", "", "",
                Trade("BTCUSDT.SIM", f"b13-0-{seq}", 45_000 * SCALE + seq % 997 * 10**7, SCALE + seq % 89, "BUY", seq),
            )
        )
        for seq in range(_ROWS)
    ]  # fmt: skip
    rows, cpu, rounds = 0, 0, 0
    while cpu < seconds * 1e9:
        lake, intake = DeltaLake(where / f"lake-{rounds}"), Intake(feed, {}, 0, 0)
        begin = time.process_time_ns()
        for first in range(0, _ROWS, _RECORDS_PER_BATCH):
            for body in bodies[first : first + _RECORDS_PER_BATCH]:
                intake.take(decode(body))
            lake.append(feed.spec, intake.columns(), intake.offsets())
            intake.rows = []
        cpu += time.process_time_ns() - begin
        rows, rounds = rows + _ROWS, rounds + 1
    rate = round(rows * 1e9 / cpu)
    return {"lake": {"ticks_per_s": rate, "us": round(1e6 / rate, 2)}}
