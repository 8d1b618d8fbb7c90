"""ClickHouse's SQL for what the port does, by what an engine can. Pure."""

from collections.abc import Collection, Mapping, Sequence

from trade2026.stores.analytics.port import Capability, Selection
from trade2026.stores.analytics.schema import Column, Kind, Table

POSITIONS = Table(
    "positions",
    (Column("name", Kind.TEXT), Column("position", Kind.INTEGER), Column("written", Kind.INTEGER)),
    keys=("name",),
    version="written",
    order=("position",),
    time="written",
)
"""How far writers have come: the newest of each name counts."""

_SINCE: Mapping[Capability, tuple[int, int]] = {
    Capability.LATEST: (19, 14),
    Capability.RETENTION: (19, 6),
    Capability.WORDS: (19, 14),
    Capability.TIMES: (20, 5),
    Capability.WINDOWS: (21, 9),
}
"""The version of ClickHouse from which on each is there and needs no setting."""

_TYPES = {Kind.TEXT: "String", Kind.INTEGER: "Int64", Kind.NUMBER: "Float64"}


def capabilities_of(version: tuple[int, int]) -> frozenset[Capability]:
    """What an engine of this version can do."""
    return frozenset(capability for capability, since in _SINCE.items() if version >= since)


def text(value: str) -> str:
    """A text as a literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def moment(ns: int, able: Collection[Capability]) -> str:
    """A time as a literal that compares with a time column."""
    return f"fromUnixTimestamp64Nano(toInt64({ns}), 'UTC')" if Capability.TIMES in able else f"toInt64({ns})"


def type_of(kind: Kind, able: Collection[Capability]) -> str:
    """The type of a column."""
    if kind is Kind.WORD:
        return "LowCardinality(String)" if Capability.WORDS in able else "String"
    if kind is Kind.TIME:
        return "DateTime64(9, 'UTC')" if Capability.TIMES in able else "Int64"
    return _TYPES[kind]


def create(table: Table, able: Collection[Capability], settings: str) -> str:
    """Make the table where there is none.

    No partitions: history that comes in one piece may span any number of months, and rows are one by key only within
    a partition.
    """
    columns = ", ".join(f"{column.name} {type_of(column.kind, able)}" for column in table.columns)
    ttl = ""
    if table.retention_days and Capability.RETENTION in able and Capability.TIMES in able:
        ttl = f" TTL toDateTime({table.time}) + INTERVAL {table.retention_days} DAY"
    return (
        f"CREATE TABLE IF NOT EXISTS {table.name} ({columns}) ENGINE = ReplacingMergeTree({table.version})"
        f" ORDER BY ({', '.join(table.keys)}){ttl}{settings}"
    )


def add(table: Table, column: Column, able: Collection[Capability]) -> str:
    """Give an older table a column."""
    return f"ALTER TABLE {table.name} ADD COLUMN {column.name} {type_of(column.kind, able)}"


def count(table: Table) -> str:
    """How many keys there are."""
    return f"SELECT count() FROM {table.name} FINAL"


def scan(table: Table, wanted: Selection, able: Collection[Capability]) -> str:
    """Rows in order."""
    terms = _equal(wanted.equal)
    for bound, sign in ((wanted.since_ns, ">="), (wanted.until_ns, "<")):
        if bound is not None:
            terms.append(f"r.{table.order[0]} {sign} {_bound(table, bound, able)}")
    return (
        f"SELECT {_columns(table, able)} FROM (SELECT * FROM {table.name} FINAL) AS r{_where(terms)}"
        f" ORDER BY {', '.join(f'r.{name}' for name in table.order)} LIMIT {wanted.limit}"
    )


def latest(
    table: Table, by: str, asked: Sequence[tuple[str, int]], equal: Mapping[str, str], able: Collection[Capability]
) -> str:
    """The number of each question that has an answer, and its row.

    ASOF compares one column, so of rows with the same time the last one is chosen before.
    """
    assert Capability.LATEST in able and Capability.TIMES in able
    time, *ties = table.order
    groups = sorted({group for group, _ in asked})
    terms = [*_equal(equal), f"r.{by} IN ({', '.join(map(text, groups))})"]
    ordered = ", ".join(f"r.{name} DESC" for name in ties)
    rows = (
        f"SELECT {_columns(table, able)}, r.{by} AS asof_group, toUnixTimestamp64Nano(r.{time}) AS asof_ns"
        f" FROM (SELECT * FROM {table.name} FINAL) AS r{_where(terms)}"
        f" ORDER BY {ordered} LIMIT 1 BY r.{by}, r.{time}"
    )
    numbers = ", ".join(map(str, range(len(asked))))
    names = ", ".join(text(group) for group, _ in asked)
    times = ", ".join(f"toInt64({ns})" for _, ns in asked)
    questions = (
        f"SELECT q.1 AS number, q.2 AS asked_group, q.3 AS asked_ns"
        f" FROM (SELECT arrayJoin(arrayZip([{numbers}], [{names}], [{times}])) AS q)"
    )
    found = ", ".join(f"found.{name}" for name in table.names)
    return (
        f"SELECT question.number, {found} FROM ({questions}) AS question ASOF INNER JOIN ({rows}) AS found"
        f" ON question.asked_group = found.asof_group AND question.asked_ns >= found.asof_ns"
    )


def limited(sql: str, limit: int) -> str:
    """A query that `guarded` has seen, as a part of one that has an end."""
    return f"SELECT * FROM (\n{sql}\n) LIMIT {limit}"


def _bound(table: Table, ns: int, able: Collection[Capability]) -> str:
    return moment(ns, able) if table.column(table.order[0]).kind is Kind.TIME else str(ns)


def _columns(table: Table, able: Collection[Capability]) -> str:
    """Every column as the port answers it: the names of the inner columns stay what they were."""
    as_ns = Capability.TIMES in able
    return ", ".join(
        f"toUnixTimestamp64Nano(r.{column.name}) AS {column.name}"
        if as_ns and column.kind is Kind.TIME
        else f"r.{column.name} AS {column.name}"
        for column in table.columns
    )


def _equal(equal: Mapping[str, str]) -> list[str]:
    return [f"r.{name} = {text(value)}" for name, value in equal.items()]


def _where(terms: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(terms)}" if terms else ""
