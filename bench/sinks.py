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
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from bench import columns
from trade2026.local.infra.questdb import QuestDb
from trade2026.stores.timeseries.port import Batch, TimeSeriesStore
from trade2026.stores.timeseries.questdb_http import QuestDbHttp, QuestDbSettings
from trade2026.stores.timeseries.questdb_store import QuestDbStore, ddl_of
from trade2026.stores.timeseries.schema import TABLES, Kind, Row

TICKS = TABLES["ticks"]
BATCH_ROWS = 10_000
"""As many as the service writes at once when it is behind."""
STORES = ("duckdb", "questdb", "chdb", "clickhouse", "s3")
_WARM_SECONDS = 2.0
_TURNS = 4
Write = Callable[[list[Row], int], None]
"""Writes rows that reach to a position; returns when they are durable."""


def ticks(first: int, count: int) -> list[Row]:
    """Rows, a millisecond apart."""
    start = 1_385_337_600 * 10**9
    return [
        (
            start + n * 10**6, "BTCUSDT.SIM", f"b13-0-{n}", "BUY" if n % 3 else "SELL", 45_000 * 10**9 + n % 997 * 10**7,
            10**9 + n % 89 * 10**6, n, start + n * 10**6 + 250_000, 0, n,
        )
        for n in range(first, first + count)
    ]  # fmt: skip


class Meter:
    """Rows, seconds and CPU of one way to write, over several turns.

    Args:
        finish: Waits until all rows can be asked for; at the end of each turn.
        make: Makes so many rows from a number on.
        batch_rows: As many as the service writes at once when it is behind.
    """

    def __init__(
        self,
        write: Write,
        finish: Callable[[], None] = lambda: None,
        *,
        make: Callable[[int, int], list[Row]] | None = None,
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        self._write, self._finish = write, finish
        self._make, self._batch_rows = make or ticks, batch_rows
        self.rows = self._before = 0
        self._took = self._cpu = 0.0

    def turn(self, seconds: float) -> None:
        """Write batch after batch for a while."""
        end = self._took + seconds
        while self._took < end:
            batch = self._make(self.rows, self._batch_rows)  # not on the clock
            self.rows += self._batch_rows
            self._clocked(lambda batch=batch: self._write(batch, self.rows))
        self._clocked(self._finish)

    def forget(self) -> None:
        """Begin to count."""
        self._before, self._took, self._cpu = self.rows, 0.0, 0.0

    def row(self) -> dict[str, Any]:
        """What it came to."""
        rows = self.rows - self._before
        return {"rows_per_s": round(rows / self._took), "cpu_us": round(self._cpu / rows * 1e6, 2)}

    def _clocked(self, work: Callable[[], None]) -> None:
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        work()
        self._took += time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF)
        self._cpu += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def side_by_side(meters: dict[str, Meter], seconds: float) -> dict[str, dict[str, Any]]:
    """Each in turn, several times, so that what else the machine does meets all of them."""
    for meter in meters.values():
        meter.turn(_WARM_SECONDS)
        meter.forget()
    for _ in range(_TURNS):
        for meter in meters.values():
            meter.turn(seconds / _TURNS)
    return {name: meter.row() for name, meter in meters.items()}


def into(store: TimeSeriesStore) -> Write:
    """Ours, with the positions."""
    return lambda rows, end: store.write(Batch({"ticks": rows}, {("market.ticks", 0): end}))


def plain_duckdb(connection: Any) -> Write:
    """Arrow columns into a table of the same types, a commit each batch."""
    import arro3.core as arrow

    from trade2026.stores.timeseries.duckdb_store import ddl_of as duckdb_ddl

    texts = (Kind.SYMBOL, Kind.VARCHAR)
    kinds = [arrow.DataType.string() if each.kind in texts else arrow.DataType.int64() for each in TICKS.columns]
    connection.execute(duckdb_ddl(TICKS))

    def write(rows: list[Row], end: int) -> None:
        columns = zip(*rows, strict=True)
        arrays = [arrow.Array(values, type=kind) for values, kind in zip(columns, kinds, strict=True)]
        connection.register("incoming", arrow.Table.from_arrays(arrays, names=list(TICKS.names)))
        connection.execute(
            "INSERT INTO ticks SELECT make_timestamp(timestamp // 1000), symbol, trade_id, side, price / 1e9,"
            " quantity / 1e9, venue_seq, make_timestamp(ts_recv // 1000), NULL, seq FROM incoming"
        )

    return write


def plain_questdb(sender: Any, table: str) -> Write:
    """`Sender.row` of QuestDB's own client, and a flush each batch."""
    from questdb import TimestampMicros, TimestampNanos  # pyright: ignore[reportMissingImports]

    def write(rows: list[Row], end: int) -> None:
        for row in rows:
            sender.row(
                table,
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

    return write


def measure_duckdb(where: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """The embedded store beside plain DuckDB."""
    import duckdb

    from trade2026.stores.timeseries.duckdb_store import DuckDbStore

    with contextlib.ExitStack() as closing:
        store = closing.enter_context(contextlib.closing(DuckDbStore(where / "ours.duckdb")))
        plain = duckdb.connect(where / "plain.duckdb", config={"threads": "1"})
        closing.enter_context(contextlib.closing(plain))
        return side_by_side({"DuckDB, ours": Meter(into(store)), "duckdb": Meter(plain_duckdb(plain))}, seconds)


def measure_questdb(settings: QuestDbSettings, seconds: float) -> dict[str, dict[str, Any]]:
    """QuestDB behind the port beside its client: once as it is, once waiting until each batch can be asked for."""
    from questdb import Sender  # pyright: ignore[reportMissingImports]

    with contextlib.ExitStack() as closing:
        http = closing.enter_context(contextlib.closing(QuestDbHttp(settings)))
        store = closing.enter_context(contextlib.closing(QuestDbStore(settings, "bench")))
        for table in ("plain", "waits"):
            http.rows(ddl_of(TICKS).replace(" ticks ", f" {table} "))
        conf = f"http::addr={settings.url.removeprefix('http://')};auto_flush=off;"
        sender = closing.enter_context(Sender.from_conf(conf))

        def applied() -> None:
            while http.rows("SELECT count() FROM wal_tables() WHERE writerTxn < sequencerTxn") != [[0]]:
                time.sleep(0.002)

        send = plain_questdb(sender, "waits")

        def send_and_wait(rows: list[Row], end: int) -> None:
            send(rows, end)
            applied()

        return side_by_side(
            {
                "QuestDB, ours": Meter(into(store), applied),
                "questdb, waits": Meter(send_and_wait, applied),
                "questdb": Meter(plain_questdb(sender, "plain"), applied),
            },
            seconds,
        )


def measure_columns(where: Path, seconds: float, chosen: Collection[str]) -> dict[str, dict[str, Any]]:
    """Analytics and the lake: batches as large as those of sink-alt and sink-ticks that are behind."""
    parts = {
        "chdb": (columns.analytics_embedded, columns.records, 20_000),
        "clickhouse": (columns.analytics_server, columns.records, 20_000),
        "s3": (columns.lake_on_s3, columns.lake_ticks, 25_000),
    }
    found: dict[str, dict[str, Any]] = {}
    for name in (name for name in parts if name in chosen):
        opened, make, batch_rows = parts[name]
        with opened(where) as writers:
            meters = {each: Meter(write, make=make, batch_rows=batch_rows) for each, write in writers.items()}
            found |= side_by_side(meters, seconds)
    return found


def run(where: Path, seconds: float, chosen: Collection[str] = STORES) -> dict[str, dict[str, Any]]:
    """The chosen stores, each with its client."""
    rows = measure_duckdb(where, seconds) if "duckdb" in chosen else {}
    rows |= measure_columns(where, seconds, chosen)
    if "questdb" not in chosen:
        return rows
    if importlib.util.find_spec("questdb") is None:
        print("without QuestDB: its client is missing, `pip install questdb` brings it")
        return rows
    server = QuestDb(where / "questdb", heap_mb=1024)
    server.start()
    try:
        return rows | measure_questdb(QuestDbSettings(url=f"http://{server.address}"), seconds)
    finally:
        server.stop()


def main() -> None:
    """Measure, print a line a row, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="Length of each measurement.")
    parser.add_argument(
        "--stores", nargs="+", choices=STORES, default=STORES, help="Which; all of them if none is named."
    )
    parser.add_argument("--json", type=Path, help="Write all rows there.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trade2026-bench-") as folder:
        rows = run(Path(folder), options.seconds, options.stores)
    for name, row in rows.items():
        print(f"{name:16} " + "  ".join(f"{key} {value:>10,}" for key, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
