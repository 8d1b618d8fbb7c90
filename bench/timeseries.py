"""How fast ticks go into the time-series store: decoded, made rows and columns, and committed."""

import time
from pathlib import Path

from bench.goals import Report

_ROWS = 50_000
_RECORDS_PER_BATCH = 10_000
"""As many as the service writes at once when it is behind."""


def measure_store(where: Path, seconds: float) -> Report:
    """Ticks from the log's records to a commit, on all threads of the process."""
    from trade2026.domain.events import Envelope, decode, encode
    from trade2026.domain.market import Trade
    from trade2026.domain.numbers import SCALE
    from trade2026.questdb_writer.machine import RowMachine
    from trade2026.stores.timeseries.duckdb_store import DuckDbStore
    from trade2026.stores.timeseries.port import Batch

    begun_ns = time.time_ns()
    bodies = [
        encode(
            Envelope(
                seq, 1, begun_ns + seq * 1_000, begun_ns + seq * 1_000, "bench", "market", "", "", "",
                Trade("BTCUSDT.SIM", f"b13-0-{seq}", 45_000 * SCALE + seq % 997 * 10**7, SCALE + seq % 89, "BUY", seq),
            )
        )
        for seq in range(_ROWS)
    ]  # fmt: skip
    rows, cpu, rounds = 0, 0, 0
    while cpu < seconds * 1e9:
        store, machine = DuckDbStore(where / f"series-{rounds}.duckdb"), RowMachine()
        begin = time.process_time_ns()
        for first in range(0, _ROWS, _RECORDS_PER_BATCH):
            batch = Batch(offsets={("market.ticks", 0): first + _RECORDS_PER_BATCH})
            for body in bodies[first : first + _RECORDS_PER_BATCH]:
                for name, row in machine.rows("market.ticks", decode(body)):
                    batch.rows.setdefault(name, []).append(row)
            store.write(batch)
        cpu += time.process_time_ns() - begin
        store.close()
        rows, rounds = rows + _ROWS, rounds + 1
    rate = round(rows * 1e9 / cpu)
    return {"store": {"ticks_per_s": rate, "us": round(1e6 / rate, 2)}}
