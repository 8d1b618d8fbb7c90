"""Rows as lines of the InfluxDB line protocol, as QuestDB takes them over HTTP (`precision=u`).

Pure. A batch gets one template with a place for each column, because a call a value costs more than QuestDB needs to
read it. What has no value is left out: no text, and no time, are no values either.
"""

import math
import re
from array import array
from collections.abc import Sequence
from typing import Any

from trade2026.stores.timeseries.port import RowsRefused
from trade2026.stores.timeseries.schema import TIMESTAMP, Column, Kind, Row, Table, misfit

Values = Sequence[Any]
_IN_NAMES = re.compile(r"[ ,=\\\n\r]")
_IN_TEXTS = re.compile(r'["\\\n\r]')
_FORMS = {Kind.SYMBOL: "%s", Kind.VARCHAR: '"%s"', Kind.DOUBLE: "%r", Kind.LONG: "%di", Kind.TIMESTAMP: "%dt"}
_NULLS = {Kind.DOUBLE: "NaN", Kind.LONG: f"{-(2**63)}i"}


class _Template:
    """A line with places for values, and the columns of values that go there."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.columns: list[Values] = []

    def add(self, before: str, column: Column, values: Values) -> None:
        """A place for the value of a column: nothing in it, not even the name, where there is none."""
        there = _there(column, values)
        form = f"{before}{column.name}={_FORMS[column.kind]}"
        if all(there):
            self.put(form, _shown(column, values))
        elif any(there):
            given = iter(_shown(column, [value for value, is_there in zip(values, there, strict=True) if is_there]))
            self.put("%s", [form % next(given) if is_there else "" for is_there in there])

    def put(self, text: str, values: Values) -> None:
        self.text += text
        self.columns.append(values)

    def lines(self) -> bytes:
        return "".join([self.text % values for values in zip(*self.columns, strict=True)]).encode()


def lines_of(table: Table, rows: Sequence[Row]) -> bytes:
    """A line each, in their order.

    Raises:
        RowsRefused: one of them doesn't fit the table.
    """
    columns = _columns(table, rows)
    template = _Template(table.name)
    fields: dict[Column, Values] = {}
    for column, values in columns.items():
        if column.kind is Kind.SYMBOL:
            template.add(",", column, values)
        elif column.name != TIMESTAMP:
            fields[column] = values
    first = _first(fields)
    if all(_there(first, fields[first])):
        template.add(" ", first, fields[first])
    else:
        null, form = _NULLS[first.kind], _FORMS[first.kind]
        shown = [null if value is None else form % _shown(first, [value])[0] for value in fields[first]]
        template.put(f" {first.name}=%s", shown)
    for column, values in fields.items():
        if column is not first:
            template.add(",", column, values)
    template.put(" %d\n", [time // 1000 for time in next(iter(columns.values()))])
    return template.lines()


def quoted(text: str) -> str:
    """A text as it stands between double quotes."""
    return _IN_TEXTS.sub(_escaped, text)


def _columns(table: Table, rows: Sequence[Row]) -> dict[Column, Values]:
    try:
        values = list(zip(*rows, strict=True))
        if len(values) == len(table.columns) and all(map(_fit, table.columns, values)):
            return dict(zip(table.columns, values, strict=True))
    except (ValueError, TypeError, OverflowError):
        pass  # which one it is, and why, is found row by row
    for row in rows:
        if reason := misfit(table, row):
            raise RowsRefused(f"{table.name}: {reason}", row)
    return dict(zip(table.columns, zip(*rows, strict=True), strict=True))


def _fit(column: Column, values: Values) -> bool:
    """Whether no value of a column can be a misfit."""
    given = values if None not in values or column.name == TIMESTAMP else [v for v in values if v is not None]
    if column.kind in (Kind.SYMBOL, Kind.VARCHAR):
        return "".join(given).isprintable()
    if column.kind is Kind.DOUBLE and not column.amount:
        return math.isfinite(sum(array("d", given)))
    array("q", given)  # no other type, no more bits
    return column.name != TIMESTAMP or min(given) > 0


def _first(fields: dict[Column, Values]) -> Column:
    """The field that each line has, because it needs one: a null where nothing is whole."""
    whole = next((column for column, values in fields.items() if all(_there(column, values))), None)
    return whole or next(column for column in fields if column.kind in _NULLS)


def _there(column: Column, values: Values) -> Sequence[Any]:
    """Where there is a value."""
    if column.kind in _NULLS:
        return [value is not None for value in values] if None in values else (True,)
    return values


def _shown(column: Column, values: Values) -> Values:
    """As the template takes them."""
    if column.amount:
        return [value / 1e9 for value in values]
    if column.kind is Kind.TIMESTAMP:
        return [value // 1000 for value in values]
    if column.kind is Kind.DOUBLE:
        return [float(value) for value in values]
    if column.kind is Kind.LONG:
        return values
    special = _IN_NAMES if column.kind is Kind.SYMBOL else _IN_TEXTS
    return [special.sub(_escaped, value) for value in values] if special.search("".join(values)) else values


def _escaped(found: "re.Match[str]") -> str:
    return f"\\{found[0]}"
