"""Analytics and the lake beside their stores' own clients, for `bench.sinks`: the same records and ticks, in batches."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trade2026.domain.numbers import SCALE
from trade2026.local.infra.clickhouse import ClickHouse
from trade2026.local.infra.seaweedfs import SeaweedFs
from trade2026.sink_alt.analytics import RECORDS_TABLE
from trade2026.sink_ticks.tables import TICKS
from trade2026.stores.analytics.dialect import create
from trade2026.stores.analytics.embedded import ChdbEngine, open_embedded
from trade2026.stores.analytics.port import Analytics, Capability
from trade2026.stores.analytics.server import open_server
from trade2026.stores.arrow import schema_of
from trade2026.stores.delta import DeltaLake
from trade2026.stores.s3 import S3Settings

Rows = list[tuple[Any, ...]]
Write = Callable[[Rows, int], None]
"""Writes rows that reach to a position; returns when they are durable."""
START_NS = 1_385_337_600 * 10**9
KEYS = {"AWS_ACCESS_KEY_ID": "trade2026", "AWS_SECRET_ACCESS_KEY": "open-sesame"}
DAY = START_NS // (86_400 * 10**9)


def records(first: int, count: int) -> Rows:
    """Records of alternative data, a millisecond apart, 60 bytes of JSON each."""
    times = [START_NS + n * 10**6 for n in range(first, first + count)]
    return [
        ("mood", "ABC"[n % 3], f"record-{n}", n, 1, 1, ns, ns + 10**6, ns + 2 * 10**6, f'{{"score": 0.{n % 997:03}, "text": "what somebody said of it, {n % 89}"}}')
        for n, ns in enumerate(times, first)
    ]  # fmt: skip


def lake_ticks(first: int, count: int) -> Rows:
    """Ticks as the lake's sink has them."""
    return [
        (DAY, "BTCUSDT.SIM", n, 1, ns, ns, f"b13-0-{n}", 45_000 * SCALE + n % 997 * 10**7, SCALE + n % 89, "BUY", n, ns, 0)
        for n in range(first, first + count)
        for ns in (START_NS + n * 10**3,)
    ]  # fmt: skip


def into_analytics(store: Analytics) -> Write:
    """Ours, with the position."""
    return lambda rows, end: store.write(RECORDS_TABLE, rows, {"alt.records/0": end})


def plain_chdb(engine: ChdbEngine) -> Write:
    """What chdb's documentation shows for rows in Python: a DataFrame by its columns, in a table of the same types."""
    import pandas as pd

    session: Any = engine._session
    names = ", ".join(RECORDS_TABLE.names)
    chosen = ", ".join(
        f"fromUnixTimestamp64Nano({name}, 'UTC')" if name.startswith("ts_") else name for name in RECORDS_TABLE.names
    )
    engine.run(create(RECORDS_TABLE, frozenset(Capability), engine.settings).replace(" records ", " plain "))

    def write(rows: Rows, end: int) -> None:
        frame = pd.DataFrame(dict(zip(RECORDS_TABLE.names, map(list, zip(*rows, strict=True)), strict=True)))  # noqa: F841 - the SQL names it
        session.query(f"INSERT INTO plain ({names}) SELECT {chosen} FROM Python(frame)")

    return write


def plain_clickhouse(address: str) -> Write:
    """`Client.execute` of clickhouse-driver with rows."""
    from clickhouse_driver import Client

    host, _, port = address.partition(":")
    client = Client(host, port=int(port))
    client.execute(create(RECORDS_TABLE, (), ""))
    statement = f"INSERT INTO records ({', '.join(RECORDS_TABLE.names)}) VALUES"
    return lambda rows, end: client.execute(statement, rows)


def into_lake(lake: DeltaLake) -> Write:
    """Ours: columns, and a commit with the position."""
    names = [column.name for column in TICKS.columns]

    def write(rows: Rows, end: int) -> None:
        lake.append(TICKS, dict(zip(names, zip(*rows, strict=True), strict=True)), {"market.ticks/0": end})

    return write


def plain_delta(address: str, options: dict[str, str]) -> Write:
    """`write_deltalake` of pyarrow columns, amounts as decimals, to a table that stays open, as ours does."""
    import pyarrow as pa
    from deltalake import DeltaTable, write_deltalake

    schema = pa.schema(schema_of(TICKS))
    amounts = pa.decimal128(38, 9)
    opened = DeltaTable.create(address, schema, partition_by=["date", "symbol"], storage_options=options)

    def column(values: tuple[Any, ...], kind: Any) -> Any:
        if kind != amounts:
            return pa.array(values, kind)
        return pa.array(values, pa.int64()).cast(pa.decimal128(38, 0)).view(amounts)

    def write(rows: Rows, end: int) -> None:
        arrays = [column(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
        table = pa.Table.from_arrays(arrays, schema=schema)
        write_deltalake(opened, table, mode="append")

    return write


@contextlib.contextmanager
def analytics_embedded(where: Path) -> Any:
    """The embedded store's writers by name."""
    with contextlib.closing(open_embedded(where / "chdb")) as store:
        engine: Any = store._engine  # one process has one engine, so both write into its directory
        yield {"chdb, ours": into_analytics(store), "chdb": plain_chdb(engine)}


@contextlib.contextmanager
def analytics_server(where: Path) -> Any:
    """A server's writers by name."""
    server = ClickHouse(where / "clickhouse")
    server.start()
    try:
        with contextlib.closing(open_server(f"clickhouse://{server.address}", database="desk")) as store:
            yield {"ClickHouse, ours": into_analytics(store), "clickhouse-driver": plain_clickhouse(server.address)}
    finally:
        server.stop()


@contextlib.contextmanager
def lake_on_s3(where: Path) -> Any:
    """The writers of a lake on a store of objects, by name."""
    server = SeaweedFs(where / "seaweedfs", keys=("trade2026", "open-sesame"))
    server.start()
    try:
        options = S3Settings(url="s3://lake/desk", endpoint=f"http://{server.address}").options(KEYS)
        yield {
            "S3, ours": into_lake(DeltaLake("s3://lake/ours", options)),
            "deltalake": plain_delta("s3://lake/plain", options),
        }
    finally:
        server.stop()
