"""JSON Schema, as much of it as we can both check and compare: which records fit, and which change keeps them fitting.

Pure. What can't be compared (`pattern`, `anyOf`, `$ref`, …) is refused when a schema is registered, because a change of
it could not be told to be compatible; a schema says of each object whether other properties may be in it.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, cast

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
FORMATS = ("date-time", "date")
DEPTH_MAX = 12
PROPERTIES_MAX = 500
REASONS_MAX = 10
_ANNOTATIONS = ("title", "description", "$schema", "$id", "$comment", "examples", "default")
_BOUNDS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("number", operator.ge),
    "maximum": ("number", operator.le),
    "exclusiveMinimum": ("number", operator.gt),
    "exclusiveMaximum": ("number", operator.lt),
    "minLength": ("string", operator.ge),
    "maxLength": ("string", operator.le),
    "minItems": ("array", operator.ge),
    "maxItems": ("array", operator.le),
}
"""By keyword: what it is about, and how a value (or its length) compares with it."""
_WORDS = ("type", "enum", "format", "properties", "required", "additionalProperties", "items", *_BOUNDS)
_WHICH_MAY_COME = (
    "say false (only what is named; a later version may name more) or true (a later version can name none)"
)


class SchemaError(ValueError):
    """A schema that we don't take; `path` says where, as in `properties.score`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


@dataclass(frozen=True)
class Shape:
    """A schema that was read.

    Attributes:
        types: What a value may be; empty for anything.
        open: An object may have properties that are not named.
    """

    types: frozenset[str] = frozenset()
    enum: tuple[Any, ...] | None = None
    format: str = ""
    bounds: Mapping[str, float] = field(default_factory=dict[str, float])
    properties: Mapping[str, "Shape"] = field(default_factory=dict[str, "Shape"])
    required: frozenset[str] = frozenset()
    open: bool = True
    items: "Shape | None" = None


ANYTHING = Shape()


def read(schema: Any) -> Shape:
    """Read the schema of a source's records: of an object.

    Raises:
        SchemaError: it is none, or has what we can't compare.
    """
    shape = _read(schema, "", 0, [0])
    if shape.types != {"object"}:
        raise SchemaError("type", 'the schema of a record has "type": "object"')
    return shape


def misfits(shape: Shape, value: Any) -> list[str]:
    """Why a value does not fit, each with its place in it; empty if it does."""
    found: list[str] = []
    _check(shape, value, "data", found)
    return found[:REASONS_MAX]


def narrowings(old: Shape, new: Shape) -> list[str]:
    """Where a value that fits the old one might not fit the new one; empty if none does."""
    found: list[str] = []
    _compare(old, new, "", found)
    return found[:REASONS_MAX]


# ── reading ─────────────────────────────────────────────────────────────────────────────────────


def _read(schema: Any, path: str, depth: int, count: list[int]) -> Shape:
    if not isinstance(schema, dict):
        raise SchemaError(path, "a schema is an object")
    given = cast("dict[str, Any]", schema)
    if depth > DEPTH_MAX:
        raise SchemaError(path, f"at most {DEPTH_MAX} levels")
    for word in given:
        if word not in _WORDS and word not in _ANNOTATIONS:
            raise SchemaError(_at(path, word), f"is no keyword that is known here: {', '.join(_WORDS)}")
    types = _types(given, path)
    properties, required, is_open = _object(given, types, path, depth, count)
    items = given.get("items")
    return Shape(
        types,
        _enum(given, path),
        _format(given, path),
        _bounds(given, path),
        properties,
        required,
        is_open,
        None if items is None else _read(items, _at(path, "items"), depth + 1, count),
    )


def _types(given: Mapping[str, Any], path: str) -> frozenset[str]:
    said = given.get("type", [])
    types = cast("list[Any]", said) if isinstance(said, list) else [said]
    for name in types:
        if name not in TYPES:
            raise SchemaError(_at(path, "type"), f"{str(name)[:40]!r} is no type; use {', '.join(TYPES)}")
    return frozenset(types)


def _enum(given: Mapping[str, Any], path: str) -> tuple[Any, ...] | None:
    if "enum" not in given:
        return None
    said = given["enum"]
    if not isinstance(said, list) or not said:
        raise SchemaError(_at(path, "enum"), "is a list of values")
    values = cast("list[Any]", said)
    if any(value is not None and not isinstance(value, str | bool | int) for value in values):
        raise SchemaError(_at(path, "enum"), "its values are texts, whole numbers, true, false or null")
    return tuple(values)


def _format(given: Mapping[str, Any], path: str) -> str:
    said = given.get("format", "")
    if said and said not in FORMATS:
        raise SchemaError(_at(path, "format"), f"is {' or '.join(FORMATS)}")
    return said


def _bounds(given: Mapping[str, Any], path: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for word, (kind, _) in _BOUNDS.items():
        if word not in given:
            continue
        value = given[word]
        whole = kind != "number"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or (whole and value < 0):
            raise SchemaError(_at(path, word), "is a whole number from 0" if whole else "is a number")
        found[word] = value
    return found


def _object(
    given: Mapping[str, Any], types: frozenset[str], path: str, depth: int, count: list[int]
) -> tuple[dict[str, Shape], frozenset[str], bool]:
    named, required = given.get("properties", {}), given.get("required", [])
    if not isinstance(named, dict):
        raise SchemaError(_at(path, "properties"), "is an object with a schema for each name")
    if not isinstance(required, list) or not all(isinstance(name, str) for name in cast("list[Any]", required)):
        raise SchemaError(_at(path, "required"), "is a list of names")
    is_open = given.get("additionalProperties", True)
    if not isinstance(is_open, bool) or ("object" in types and "additionalProperties" not in given):
        raise SchemaError(_at(path, "additionalProperties"), _WHICH_MAY_COME)
    properties: dict[str, Shape] = {}
    for name, schema in cast("dict[str, Any]", named).items():
        count[0] += 1
        if count[0] > PROPERTIES_MAX:
            raise SchemaError(_at(path, "properties"), f"at most {PROPERTIES_MAX} properties in all")
        properties[name] = _read(schema, _at(_at(path, "properties"), name), depth + 1, count)
    unnamed = [name for name in cast("list[str]", required) if name not in properties]
    if unnamed and not is_open:
        raise SchemaError(_at(path, "required"), f"{unnamed[0][:60]!r} is not among the properties")
    return properties, frozenset(cast("list[str]", required)), is_open


# ── checking ────────────────────────────────────────────────────────────────────────────────────


def type_of(value: Any) -> str:
    """The JSON type of a value; `integer` for a number without a fraction."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    if isinstance(value, float):
        return "number"
    return {str: "string", list: "array", dict: "object"}[cast("type[Any]", type(value))]


def _check(shape: Shape, value: Any, path: str, found: list[str]) -> None:
    if len(found) >= REASONS_MAX:
        return
    kind = type_of(value)
    if shape.types and kind not in shape.types and not (kind == "integer" and "number" in shape.types):
        found.append(f"{path}: is {_with_article(kind)}, not {' or '.join(sorted(shape.types))}")
        return
    if shape.enum is not None and not any(_same(value, one) for one in shape.enum):
        found.append(f"{path}: {str(value)[:60]!r} is none of {', '.join(map(str, shape.enum))[:120]}")
    _check_bounds(shape, value, kind, path, found)
    if kind == "string" and shape.format and not _has_format(value, shape.format):
        found.append(f"{path}: {value[:60]!r} is no {shape.format}")
    if kind == "array" and shape.items is not None:
        for number, item in enumerate(value):
            _check(shape.items, item, f"{path}[{number}]", found)
    if kind == "object":
        _check_object(shape, value, path, found)


def _check_bounds(shape: Shape, value: Any, kind: str, path: str, found: list[str]) -> None:
    about = "number" if kind == "integer" else kind
    for word, bound in shape.bounds.items():
        wanted, compare = _BOUNDS[word]
        if wanted != about:
            continue
        measured = value if wanted == "number" else len(value)
        if not compare(measured, bound):
            found.append(f"{path}: {str(measured)[:60]} is against {word} {bound}")


def _check_object(shape: Shape, value: Mapping[str, Any], path: str, found: list[str]) -> None:
    for name in sorted(shape.required - value.keys()):
        found.append(f"{path}.{name[:60]}: is missing")
    for name, inner in value.items():
        known = shape.properties.get(name)
        if known is not None:
            _check(known, inner, f"{path}.{name[:60]}", found)
        elif not shape.open:
            found.append(f"{path}.{name[:60]}: is not in the schema")


def _has_format(value: str, form: str) -> bool:
    try:
        if form == "date":
            date.fromisoformat(value)
            return len(value) == 10
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


# ── comparing ───────────────────────────────────────────────────────────────────────────────────


def _compare(old: Shape, new: Shape, path: str, found: list[str]) -> None:
    if new.types:
        wider = new.types | {"integer"} if "number" in new.types else new.types
        gone = sorted(old.types - wider) if old.types else ["anything else"]
        if gone:
            found.append(f"{_at(path, 'type')}: {', '.join(gone)} was allowed")
    if new.enum is not None:
        kept = old.enum is not None and all(any(_same(one, other) for other in new.enum) for one in old.enum)
        if not kept:
            found.append(f"{_at(path, 'enum')}: other values were allowed")
    if new.format and new.format != old.format:
        found.append(f"{_at(path, 'format')}: other texts were allowed")
    for word, bound in new.bounds.items():
        before = old.bounds.get(word)
        if before is None or not (before == bound or _BOUNDS[word][1](before, bound)):
            found.append(f"{_at(path, word)}: was {'not there' if before is None else before}")
    if new.items is not None:
        _compare(old.items or ANYTHING, new.items, _at(path, "items"), found)
    _compare_objects(old, new, path, found)


def _compare_objects(old: Shape, new: Shape, path: str, found: list[str]) -> None:
    for name in sorted(new.required - old.required):
        found.append(f"{_at(path, 'required')}: {name[:60]} was not")
    if old.open and not new.open:
        found.append(f"{_at(path, 'additionalProperties')}: other properties were allowed")
    for name, shape in old.properties.items():
        place = _at(_at(path, "properties"), name)
        if name in new.properties:
            _compare(shape, new.properties[name], place, found)
        elif not new.open:
            found.append(f"{place}: is gone")
    for name, shape in new.properties.items():
        if name not in old.properties and old.open:
            _compare(ANYTHING, shape, _at(_at(path, "properties"), name), found)


def _same(value: Any, other: Any) -> bool:
    return isinstance(value, bool) == isinstance(other, bool) and value == other


def _at(path: str, word: str) -> str:
    return f"{path}.{word[:60]}" if path else word[:60]


def _with_article(kind: str) -> str:
    return kind if kind == "null" else f"{'an' if kind[0] in 'aio' else 'a'} {kind}"
