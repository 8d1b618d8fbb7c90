"""Tables of the analytics store, as whoever writes them declares them: each engine makes its own DDL of them.

A row is a tuple in the order of the columns, without None: an engine of columns knows zeros and empty text. Columns
are only ever added; in the rows before, a new one has its zero.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import isfinite
from typing import Any

Row = tuple[Any, ...]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}").fullmatch
_INTEGER_MAX = 2**63
TIME_NS_MIN, TIME_NS_MAX = -2_208_988_800 * 10**9, _INTEGER_MAX - 1
"""The times that a column can hold: 1900 to 2262."""


class Kind(StrEnum):
    """What a column holds."""

    WORD = "word"
    """Text of which there are few different ones."""
    TEXT = "text"
    INTEGER = "integer"
    """64 bits, with sign."""
    NUMBER = "number"
    """A 64-bit float."""
    TIME = "time"
    """Nanoseconds since 1970."""


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        keys: Two rows with the same values in these columns are one: that with the greater `version` stays.
        version: An integer column.
        order: What `latest` goes by: a time, then what decides between equal times.
        time: The column that retention goes by.
        retention_days: Older rows are dropped by an engine that can; 0 keeps everything.
    """

    name: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    version: str
    order: tuple[str, ...]
    time: str
    retention_days: int = 0

    def __post_init__(self) -> None:
        names = set(self.names)
        assert _NAME(self.name) and all(map(_NAME, self.names)), f"{self.name}: names are lower case"
        assert len(names) == len(self.columns) and {*self.keys, *self.order, self.version, self.time} <= names

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of that name. Raises `KeyError`."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


def misfit(table: Table, rows: Sequence[Row]) -> str:
    """Why a row doesn't fit its table; empty if all do."""
    if not rows or _all_fit(table, rows):
        return ""
    for row in rows:
        if len(row) != len(table.columns):
            return f"{len(row)} values for {len(table.columns)} columns"
        for column, value in zip(table.columns, row, strict=True):
            if not _fits(column.kind, value):
                return f"{column.name}: {str(value)[:80]!r} is no {column.kind}"
    return ""


def _all_fit(table: Table, rows: Sequence[Row]) -> bool:
    """Whether all rows fit for certain, column by column: a tenth of the time of asking each value."""
    if set(map(len, rows)) != {len(table.columns)}:
        return False
    for column, values in zip(table.columns, zip(*rows, strict=True), strict=True):
        types = set(map(type, values))
        if column.kind in (Kind.WORD, Kind.TEXT):
            fit = types == {str}
        elif column.kind is Kind.NUMBER:
            fit = types == {float} and all(map(isfinite, values))
        else:
            fit = types == {int} and _fits(column.kind, min(values)) and _fits(column.kind, max(values))
        if not fit:
            return False
    return True


def _fits(kind: Kind, value: Any) -> bool:
    if kind in (Kind.WORD, Kind.TEXT):
        return isinstance(value, str)
    if isinstance(value, bool):
        return False
    if kind is Kind.NUMBER:
        return isinstance(value, int | float) and value - value == 0
    least, most = (TIME_NS_MIN, TIME_NS_MAX) if kind is Kind.TIME else (-_INTEGER_MAX, _INTEGER_MAX - 1)
    return isinstance(value, int) and least <= value <= most
