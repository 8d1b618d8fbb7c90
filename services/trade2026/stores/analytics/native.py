"""Rows as one block of ClickHouse's format `Native`: columns one after the other, as the engine keeps them. Pure.

A tenth of the time of the same rows as lines of JSON, and the engine has no text to understand.
"""

import sys
from array import array
from collections.abc import Sequence
from typing import Any

from trade2026.stores.analytics.schema import Kind, Row, Table

_SHORT = 2**14


def block(table: Table, rows: Sequence[Row], *, times: bool) -> bytes:
    """Rows that fit their table; with `times`, time columns are times.

    Words are plain text here: the engine keeps them once each.
    """
    pieces = [_length(len(table.columns)), _length(len(rows))]
    for column, values in zip(table.columns, zip(*rows, strict=True), strict=True):
        kind, content = _column(column.kind, values, times=times)
        pieces += [_text(column.name), _text(kind), content]
    return b"".join(pieces)


def _column(kind: Kind, values: Sequence[Any], *, times: bool) -> tuple[str, bytes]:
    """ClickHouse's name of a type, and values of it."""
    match kind:
        case Kind.WORD:
            known = {value: _text(value) for value in set(values)}
            return "String", b"".join(map(known.__getitem__, values))
        case Kind.TEXT:
            texts = [value.encode() for value in values]
            return "String", b"".join([piece for text in texts for piece in (_length_of(text), text)])
        case Kind.INTEGER:
            return "Int64", _numbers("q", values)
        case Kind.NUMBER:
            return "Float64", _numbers("d", values)
        case Kind.TIME:
            return "DateTime64(9, 'UTC')" if times else "Int64", _numbers("q", values)


def _numbers(code: str, values: Sequence[Any]) -> bytes:
    numbers = array(code, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _length(len(encoded)) + encoded


def _length_of(text: bytes) -> bytes:
    size = len(text)
    return _LENGTHS[size] if size < _SHORT else _length(size)


def _length(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that there are more."""
    coded = bytearray()
    while number >= 0x80:
        coded.append(number & 0x7F | 0x80)
        number >>= 7
    coded.append(number)
    return bytes(coded)


_LENGTHS = [_length(number) for number in range(_SHORT)]
