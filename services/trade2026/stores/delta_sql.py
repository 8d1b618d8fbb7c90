"""The SQL (of DataFusion) for what a lake on Delta is asked. Pure. Columns that are not stored yet are left out."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date

from trade2026.stores.lake import Selection, TableSpec

TABLE = "wanted"
"""Under which name the table is known to it."""
NUMBER = "question"
"""The column of `latest` that says which question a row answers."""
_DAY_NS = 86_400 * 10**9
_EPOCH = date(1970, 1, 1).toordinal()


def select(spec: TableSpec, wanted: Selection, stored: Collection[str]) -> str:
    """For a selection; one row more than the limit is asked for."""
    equal = dict(wanted.equal)
    if wanted.symbol is not None:
        equal["symbol"] = wanted.symbol
    terms = _equal(equal)
    for bound, sign in ((wanted.from_ns, ">="), (wanted.to_ns, "<")):
        if bound is not None:
            terms.append(f'"{spec.time}" {sign} {bound}')
            if spec.dated_by_time:
                terms.append(f"\"date\" {sign[0]}= DATE '{day_text(bound // _DAY_NS)}'")
    if wanted.after is not None:
        terms.append(_beyond(spec.order, wanted.after))
    return f"SELECT {_columns(spec, stored)} FROM {TABLE}{_where(terms)} ORDER BY {_list(spec.order)} LIMIT {wanted.limit + 1}"


def latest(
    spec: TableSpec, by: str, asked: Sequence[tuple[str, int]], equal: Mapping[str, str], stored: Collection[str]
) -> str:
    """For the last row as of each time.

    Questions and rows are put into one order, and each question takes over the place of the row before it: one sort,
    however many questions there are.
    """
    names = ", ".join(sorted({text(group) for group, _ in asked}))
    terms = _where([*_equal(equal), f'"{by}" IN ({names})', f'"{spec.time}" <= {max(ns for _, ns in asked)}'])
    places = [f"place_{number}" for number in range(len(spec.order))]
    ties = ", ".join(f'"{name}" AS {place}' for name, place in zip(spec.order, places, strict=True))
    nothing = ", ".join(f"CAST(NULL AS BIGINT) AS {place}" for place in places)
    values = ", ".join(f"({number}, {text(group)}, {ns})" for number, (group, ns) in enumerate(asked))
    window = (
        f"OVER (PARTITION BY asked_by ORDER BY asked_ns, kind, {', '.join(places)}"
        " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    )
    taken = ", ".join(f"last_value({place}) IGNORE NULLS {window} AS {place}" for place in places)
    on = " AND ".join(f'{TABLE}."{name}" = found.{place}' for name, place in zip(spec.order, places, strict=True))
    return (
        f"WITH line AS ("
        f'SELECT CAST(NULL AS BIGINT) AS number, "{by}" AS asked_by, "{spec.time}" AS asked_ns, 0 AS kind, {ties}'
        f" FROM {TABLE}{terms}"
        f" UNION ALL SELECT column1, column2, column3, 1, {nothing} FROM (VALUES {values})),"
        f" found AS (SELECT number, kind, {taken} FROM line)"
        f" SELECT found.number AS {NUMBER}, {_columns(spec, stored, TABLE)} FROM {TABLE} JOIN found ON {on}"
        f" WHERE found.kind = 1"
    )


def text(value: str) -> str:
    """A text as a literal."""
    return "'" + value.replace("'", "''") + "'"


def day_text(day: int) -> str:
    """A day, counted from 1970, as `2026-01-31`."""
    return date.fromordinal(_EPOCH + day).isoformat()


def _beyond(order: Sequence[str], place: Sequence[int]) -> str:
    """The rows after a place: greater in a column and equal in those before it."""
    either: list[str] = []
    for number, name in enumerate(order):
        same = [f'"{before}" = {value}' for before, value in zip(order[:number], place, strict=False)]
        either.append(" AND ".join([*same, f'"{name}" > {place[number]}']))
    return f"({' OR '.join(f'({each})' for each in either)})"


def _columns(spec: TableSpec, stored: Collection[str], of: str = "") -> str:
    prefix = f"{of}." if of else ""
    return ", ".join(f'{prefix}"{column.name}"' for column in spec.columns if column.name in stored)


def _list(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _equal(equal: Mapping[str, str]) -> list[str]:
    return [f'"{name}" = {text(value)}' for name, value in equal.items()]


def _where(terms: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(terms)}" if terms else ""
