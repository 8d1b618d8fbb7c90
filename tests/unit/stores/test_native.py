"""Rows become one block of ClickHouse's format: counts, then each column with its name, its type and its values."""

import struct

import pytest

from trade2026.stores.analytics.native import block
from trade2026.stores.analytics.schema import Column, Kind, Table

TABLE = Table(
    "t",
    (
        Column("w", Kind.WORD),
        Column("x", Kind.TEXT),
        Column("n", Kind.INTEGER),
        Column("f", Kind.NUMBER),
        Column("at", Kind.TIME),
    ),
    keys=("x",),
    version="n",
    order=("at",),
    time="at",
)
ROWS = [("a", "é", -1, 0.5, -1), ("a", "", 2**63 - 1, 2, 10**18)]


def text(value: str) -> bytes:
    return bytes([len(value.encode())]) + value.encode()


@pytest.mark.parametrize(("times", "kind"), [(True, "DateTime64(9, 'UTC')"), (False, "Int64")])
def test_columns_follow_one_another(times: bool, kind: str) -> None:
    assert block(TABLE, ROWS, times=times) == b"".join(
        [
            b"\x05\x02",
            *(text("w"), text("String"), b"\x01a\x01a"),
            *(text("x"), text("String"), b"\x02\xc3\xa9\x00"),
            *(text("n"), text("Int64"), struct.pack("<2q", -1, 2**63 - 1)),
            *(text("f"), text("Float64"), struct.pack("<2d", 0.5, 2)),
            *(text("at"), text(kind), struct.pack("<2q", -1, 10**18)),
        ]
    )


@pytest.mark.parametrize(
    ("size", "length"),
    [
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (16_383, b"\xff\x7f"),
        (16_384, b"\x80\x80\x01"),
        (3_000_000, b"\xc0\x8d\xb7\x01"),
    ],
)
def test_lengths_of_texts_are_in_seven_bits_a_byte(size: int, length: bytes) -> None:
    assert length + b"z" * size in block(TABLE, [("a", "z" * size, 0, 0.0, 0)], times=False)
