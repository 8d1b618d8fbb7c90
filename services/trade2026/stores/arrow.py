"""A table's columns in Arrow, there and back. Amounts go as 64-bit integers, and are then told to be decimals: free.

arro3 is imported when the first column is made.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Context, Decimal
from typing import Any

from trade2026.stores.lake import Kind, TableSpec

EPOCH = date(1970, 1, 1)
_AMOUNT_SCALE, _COST_SCALE = 9, 18
_DIGITS = 38
_WIDE = Context(prec=_DIGITS)


def _types() -> dict[Kind, Any]:
    from arro3.core import DataType, Field

    amount = DataType.decimal128(_DIGITS, _AMOUNT_SCALE)
    level = DataType.struct([Field("price", amount), Field("quantity", amount)])
    return {
        Kind.DATE: DataType.date32(),
        Kind.TEXT: DataType.string(),
        Kind.INTEGER: DataType.int64(),
        Kind.AMOUNT: amount,
        Kind.COST: DataType.decimal128(_DIGITS, _COST_SCALE),
        Kind.LEVELS: DataType.list(Field("element", level)),
    }


def schema_of(spec: TableSpec) -> Any:
    """The Arrow schema of a table."""
    from arro3.core import Field, Schema

    types = _types()
    return Schema([Field(column.name, types[column.kind], nullable=True) for column in spec.columns])


def array_of(values: Sequence[Any], kind: Kind) -> Any:
    """A column's values as an Arrow array. Raises `OverflowError` for an integer beyond 64 bits."""
    from arro3.core import Array, DataType

    if kind is Kind.TEXT:
        return Array(values, DataType.string())
    if kind is Kind.INTEGER:
        return Array(values, DataType.int64())
    if kind is Kind.DATE:
        return Array(values, DataType.int32()).cast(DataType.date32())
    if kind is Kind.LEVELS:
        return _levels(values)
    return _decimals(values, _AMOUNT_SCALE if kind is Kind.AMOUNT else _COST_SCALE)


def _decimals(values: Sequence[int | None], scale: int) -> Any:
    from arro3.core import Array, DataType, Field

    wanted = DataType.decimal128(_DIGITS, scale)
    try:
        whole = Array(values, DataType.int64()).cast(DataType.decimal128(_DIGITS, 0))
    except OverflowError:
        texts = [None if value is None else format(Decimal(value).scaleb(-scale), "f") for value in values]
        return Array(texts, DataType.string()).cast(wanted)
    _, content = whole.__arrow_c_array__()
    return Array.from_arrow_pycapsule(Field("", wanted).__arrow_c_schema__(), content)


def _levels(values: Sequence[Sequence[tuple[int, int]]]) -> Any:
    from arro3.core import Array, DataType, Field, list_array, struct_array

    ends, prices, quantities = [0], [], []
    for levels in values:
        for price, quantity in levels:
            prices.append(price)
            quantities.append(quantity)
        ends.append(len(prices))
    parts = [_decimals(prices, _AMOUNT_SCALE), _decimals(quantities, _AMOUNT_SCALE)]
    amount = DataType.decimal128(_DIGITS, _AMOUNT_SCALE)
    steps = struct_array(parts, fields=[Field("price", amount), Field("quantity", amount)])
    return list_array(Array(ends, DataType.int32()), steps, type=_types()[Kind.LEVELS])


def row_of(spec: TableSpec, found: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it was written."""
    return {column.name: _value(found.get(column.name), column.kind) for column in spec.columns}


def _value(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind is Kind.DATE:
        return (value - EPOCH).days
    if kind is Kind.AMOUNT:
        return int(value.scaleb(_AMOUNT_SCALE, _WIDE))
    if kind is Kind.COST:
        return int(value.scaleb(_COST_SCALE, _WIDE))
    if kind is Kind.LEVELS:
        return [(_value(step["price"], Kind.AMOUNT), _value(step["quantity"], Kind.AMOUNT)) for step in value]
    return value
