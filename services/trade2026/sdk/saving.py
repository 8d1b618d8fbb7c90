"""What a strategy remembers, as JSON: plain data, decimals, collections, indicators, orders, and the SDK's types.

Saved and restored values are equal, also in their types and the order of their keys; what is not known here is
refused when it is saved, with the place and what to do.
"""

from collections import deque
from collections.abc import Callable
from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec

from trade2026.sdk import types
from trade2026.sdk.indicators import Indicator

_TAG = "$"
_STRUCTS = {
    struct.__name__: struct
    for struct in (types.Trade, types.Level, types.Book, types.Quote, types.Bar, types.Timer, types.Instrument)
}


class NotSaveable(TypeError):
    """A value of the strategy that can't be written down."""

    def __init__(self, path: str, value: object) -> None:
        super().__init__(
            f"{path} is a {type(value).__name__}, which can't be saved: keep plain data (numbers, text, Decimal, lists, "
            "dictionaries, indicators, orders), or write save() and restore()"
        )


def to_plain(value: Any, path: str = "state") -> Any:
    """Return a value as JSON's types.

    Raises:
        NotSaveable: part of it is of a type that is not known here.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else {_TAG: "float", "v": str(value)}
    if isinstance(value, Decimal):
        return {_TAG: "decimal", "v": str(value)}
    if isinstance(value, list):
        return [to_plain(inner, f"{path}[{n}]") for n, inner in enumerate(value)]
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value) and _TAG not in value:
            return {key: to_plain(inner, f"{path}.{key}") for key, inner in value.items()}
        pairs = [[to_plain(key, path), to_plain(inner, f"{path}[{key!r}]")] for key, inner in value.items()]
        return {_TAG: "dict", "v": pairs}
    if isinstance(value, tuple):
        return {_TAG: "tuple", "v": [to_plain(inner, f"{path}[{n}]") for n, inner in enumerate(value)]}
    if isinstance(value, set | frozenset):
        kind = "set" if isinstance(value, set) else "frozenset"
        return {_TAG: kind, "v": sorted((to_plain(inner, path) for inner in value), key=repr)}
    if isinstance(value, deque):
        return {_TAG: "deque", "max": value.maxlen, "v": [to_plain(i, f"{path}[{n}]") for n, i in enumerate(value)]}
    return _object(value, path)


def _object(value: Any, path: str) -> Any:
    name = type(value).__name__
    if isinstance(value, types.Order):
        return {_TAG: "order", "v": msgspec.to_builtins(value._state)}
    if isinstance(value, Indicator) and Indicator.known.get(name) is type(value):
        return {_TAG: "indicator", "of": name, "v": to_plain(vars(value), path)}
    if isinstance(value, msgspec.Struct) and _STRUCTS.get(name) is type(value):
        fields = {field: getattr(value, field) for field in value.__struct_fields__}
        return {_TAG: "struct", "of": name, "v": to_plain(fields, path)}
    raise NotSaveable(path, value)


def from_plain(plain: Any, order: Callable[[types.OrderState], types.Order] = types.Order) -> Any:
    """Return the value that `to_plain` made `plain` of.

    Args:
        order: Finds the living order that a saved one is.
    """
    if isinstance(plain, list):
        return [from_plain(inner, order) for inner in plain]
    if not isinstance(plain, dict):
        return plain
    kind = plain.get(_TAG)
    if kind is None:
        return {key: from_plain(inner, order) for key, inner in plain.items()}
    value = plain["v"]
    if kind == "order":
        return order(msgspec.convert(value, types.OrderState))
    if kind == "indicator":
        indicator = Indicator.known[plain["of"]].__new__(Indicator.known[plain["of"]])
        vars(indicator).update(from_plain(value, order))
        return indicator
    if kind == "struct":
        return _STRUCTS[plain["of"]](**from_plain(value, order))
    if kind == "dict":
        return {_key(from_plain(key, order)): from_plain(inner, order) for key, inner in value}
    if kind == "deque":
        return deque(from_plain(value, order), plain["max"])
    plain_types: dict[str, Callable[[Any], Any]] = {"float": float, "decimal": Decimal}
    if kind in plain_types:
        return plain_types[kind](value)
    return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](from_plain(value, order))


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
