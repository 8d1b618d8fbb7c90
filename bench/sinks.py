"""`python -m bench.sinks`: rows a second into each store, ours beside the store's own client, both on this machine.

The same ticks in the same batches, each batch durable before the next begins. Ours checks every row, turns amounts into
their units, takes a row with the keys of an older one in its place, and keeps positions; the client does what its
documentation shows first.
"""

import argparse
import contextlib
import importlib.util
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trade2026.local.infra.questdb import QuestDb
from trade2026.stores.timeseries.port import Batch, TimeSeriesStore
from trade2026.stores.timeseries.questdb_http import QuestDbHttp, QuestDbSettings
from trade2026.stores.timeseries.questdb_store import QuestDbStore, ddl_of
from trade2026.stores.timeseries.schema import TABLES, Row

TICKS = TABLES["ticks"]
BATCH_ROWS = 10_000
"""As many as the service writes at once when it is behind."""
_WARM_SECONDS = 2.0
Write = Callable[[list[Row], int], None]
"""Writes rows that reach to a position; returns when they are durable."""


def ticks(first: int) -> list[Row]:
    """A batch of rows, a millisecond apart."""
    start = 1_385_337_600 * 10**9
    return [
        (
            start + n * 10**6, "BTCUSDT.SIM", f"b13-0-{n}", "BUY" if n % 3 else "SELL", 45_000 * 10**9 + n % 997 * 10**7,
            10**9 + n % 89 * 10**6, n, start + n * 10**6 + 250_000, 0, n,
        )
        for n in range(first, first + BATCH_ROWS)
    ]  # fmt: skip


def measure(write: Write, seconds: float, finish: Callable[[int], None] = lambda rows: None) -> dict[str, Any]:
    """Write batch after batch for a while; `finish` waits until all rows can be asked for."""
    rows, took, cpu = 0, 0.0, 0.0
    while took < seconds:
        batch = ticks(rows)  # not on the clock
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        write(batch, rows + BATCH_ROWS)
        took += time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        rows += BATCH_ROWS
    began = time.perf_counter()
    finish(rows)
    took += time.perf_counter() - began
    return {"rows_per_s": round(rows / took), "cpu_us": round(cpu / rows * 1e6, 2)}


def into(store: TimeSeriesStore) -> Write:
    """Ours, with the positions."""
    return lambda rows, end: store.write(Batch({"ticks": rows}, {("market.ticks", 0): end}))


# ── the embedded store ──────────────────────────────────────────────────────────────────────────────


def ours_embedded(where: Path, seconds: float) -> dict[str, Any]:
    """DuckDB behind the port."""
    from trade2026.stores.timeseries.duckdb_store import DuckDbStore

    with contextlib.closing(DuckDbStore(where / "ours.duckdb")) as store:
        return measure(into(store), seconds)


def plain_duckdb(where: Path, seconds: float) -> dict[str, Any]:
    """Arrow columns into a table of the same types, a commit each batch."""
    import arro3.core as arrow
    import duckdb

    from trade2026.stores.timeseries.duckdb_store import ddl_of as duckdb_ddl

    kinds = [
        arrow.DataType.string() if c.kind in ("SYMBOL", "VARCHAR") else arrow.DataType.int64() for c in TICKS.columns
    ]
    with contextlib.closing(duckdb.connect(where / "plain.duckdb", config={"threads": "1"})) as connection:
        connection.execute(duckdb_ddl(TICKS))

        def write(rows: list[Row], end: int) -> None:
            columns = zip(*rows, strict=True)
            arrays = [arrow.Array(values, type=kind) for values, kind in zip(columns, kinds, strict=True)]
            connection.register("incoming", arrow.Table.from_arrays(arrays, names=list(TICKS.names)))
            connection.execute(
                "INSERT INTO ticks SELECT make_timestamp(timestamp // 1000), symbol, trade_id, side, price / 1e9,"
                " quantity / 1e9, venue_seq, make_timestamp(ts_recv // 1000), NULL, seq FROM incoming"
            )

        return measure(write, seconds)


# ── QuestDB ─────────────────────────────────────────────────────────────────────────────────────────


def ours_questdb(settings: QuestDbSettings, seconds: float) -> dict[str, Any]:
    """QuestDB behind the port: a write returns when its rows can be asked for."""
    with contextlib.closing(QuestDbStore(settings, "bench")) as store:
        measure(into(store), _WARM_SECONDS)
        return measure(into(store), seconds)


def plain_questdb(settings: QuestDbSettings, seconds: float, *, waits: bool) -> dict[str, Any]:
    """QuestDB's own client, `Sender.row`, and a flush each batch.

    Args:
        waits: Wait after each batch until its rows can be asked for, as ours does; else once, at the end.
    """
    from questdb import Sender, TimestampMicros, TimestampNanos  # pyright: ignore[reportMissingImports]

    with contextlib.closing(QuestDbHttp(settings)) as http:
        http.rows("DROP TABLE IF EXISTS plain")
        http.rows(ddl_of(TICKS).replace(" ticks ", " plain "))

        def applied(rows: int) -> None:
            while http.rows("SELECT count() FROM wal_tables() WHERE name = 'plain' AND writerTxn < sequencerTxn") != [
                [0]
            ]:
                time.sleep(0.002)

        with Sender.from_conf(f"http::addr={settings.url.removeprefix('http://')};auto_flush=off;") as sender:

            def write(rows: list[Row], end: int) -> None:
                for row in rows:
                    sender.row(
                        "plain",
                        symbols={"symbol": row[1], "side": row[3]},
                        columns={
                            "trade_id": row[2],
                            "price": row[4] / 1e9,
                            "quantity": row[5] / 1e9,
                            "venue_seq": row[6],
                            "ts_recv": TimestampMicros(row[7] // 1000),
                            "seq": row[9],
                        },
                        at=TimestampNanos(row[0]),
                    )
                sender.flush()
                if waits:
                    applied(end)

            measure(write, _WARM_SECONDS, applied)
            return measure(write, seconds, applied)


def run(where: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """Every store, and its client."""
    rows = {"DuckDB, ours": ours_embedded(where, seconds), "duckdb": plain_duckdb(where, seconds)}
    if importlib.util.find_spec("questdb") is None:
        print("without QuestDB: its client is missing, `pip install questdb` brings it")
        return rows
    server = QuestDb(where / "questdb", heap_mb=1024)
    server.start()
    try:
        settings = QuestDbSettings(url=f"http://{server.address}")
        rows["QuestDB, ours"] = ours_questdb(settings, seconds)
        rows["questdb, waits"] = plain_questdb(settings, seconds, waits=True)
        rows["questdb"] = plain_questdb(settings, seconds, waits=False)
    finally:
        server.stop()
    return rows


def main() -> None:
    """Measure, print a line a row, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="Length of each measurement.")
    parser.add_argument("--json", type=Path, help="Write all rows there.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trade2026-bench-") as folder:
        rows = run(Path(folder), options.seconds)
    for name, row in rows.items():
        print(f"{name:16} " + "  ".join(f"{key} {value:>10,}" for key, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
