"""Which records fit a schema, and which change of it keeps them fitting."""

import functools
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026.sink_alt.schema import FORMATS, TYPES, SchemaError, misfits, narrowings, read

SCORE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["score"],
    "properties": {
        "score": {"type": "number", "minimum": -1, "maximum": 1},
        "headline": {"type": "string", "maxLength": 20},
        "tags": {"type": "array", "items": {"enum": ["macro", "crypto"]}, "maxItems": 2},
        "at": {"type": ["string", "null"], "format": "date-time"},
    },
}


def changed(**properties: Any) -> dict[str, Any]:
    return {**SCORE, "properties": {**SCORE["properties"], **properties}}


@pytest.mark.parametrize(
    ("data", "reasons"),
    [
        ({"score": 0.5}, []),
        ({"score": 1, "headline": "up", "tags": ["macro"], "at": None}, []),
        ({"score": 0, "at": "2026-01-31T09:30:00Z"}, []),
        ({}, ["data.score: is missing"]),
        ({"score": 2}, ["data.score: 2 is against maximum 1"]),
        ({"score": True}, ["data.score: is a boolean, not number"]),
        ({"score": "0"}, ["data.score: is a string, not number"]),
        ({"score": 0, "headline": "x" * 21}, ["data.headline: 21 is against maxLength 20"]),
        ({"score": 0, "tags": ["macro", "other"]}, ["data.tags[1]: 'other' is none of macro, crypto"]),
        ({"score": 0, "at": "2026-01-31"}, ["data.at: '2026-01-31' is no date-time"]),
        ({"score": 0, "sentiment": 1}, ["data.sentiment: is not in the schema"]),
        ([], ["data: is an array, not object"]),
        ({"score": 9, "x": 1}, ["data.score: 9 is against maximum 1", "data.x: is not in the schema"]),
    ],
)
def test_a_record_is_told_where_it_does_not_fit(data: Any, reasons: list[str]) -> None:
    assert misfits(read(SCORE), data) == reasons


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        (1, ""),
        ({}, "type"),
        ({"type": "object"}, "additionalProperties"),
        ({"type": "array"}, "type"),
        (changed(x={"type": "text"}), "properties.x.type"),
        (changed(x={"pattern": "a+"}), "properties.x.pattern"),
        (changed(x={"type": "object"}), "properties.x.additionalProperties"),
        (changed(x={"enum": [1.5]}), "properties.x.enum"),
        (changed(x={"enum": []}), "properties.x.enum"),
        (changed(x={"minimum": "0"}), "properties.x.minimum"),
        (changed(x={"maxLength": -1}), "properties.x.maxLength"),
        (changed(x={"format": "email"}), "properties.x.format"),
        (changed(x={"items": []}), "properties.x.items"),
        ({**SCORE, "required": ["nothing"]}, "required"),
        ({**SCORE, "required": "score"}, "required"),
        ({**SCORE, "properties": []}, "properties"),
    ],
)
def test_a_schema_that_can_t_be_compared_is_refused_with_its_place(schema: Any, path: str) -> None:
    with pytest.raises(SchemaError) as refused:
        read(schema)
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("newer", "said"),
    [
        (SCORE, ""),
        (changed(source={"type": "string"}), ""),
        (changed(score={"type": "number", "minimum": -2}), ""),
        (changed(headline={"type": ["string", "null"]}), ""),
        (changed(tags={"type": "array", "items": {"enum": ["macro", "crypto", "fx"]}}), ""),
        ({**SCORE, "required": []}, ""),
        ({**SCORE, "additionalProperties": True}, ""),
        (changed(score={"type": "integer", "minimum": -1, "maximum": 1}), "properties.score.type: number was allowed"),
        (changed(score={"type": "number", "minimum": 0, "maximum": 1}), "properties.score.minimum: was -1"),
        (changed(headline={"type": "string", "minLength": 1}), "properties.headline.minLength: was not there"),
        (changed(tags={"type": "array", "items": {"enum": ["macro"]}}), "properties.tags.items.enum"),
        ({**SCORE, "required": ["score", "at"]}, "required: at was not"),
        ({**SCORE, "properties": {"score": {"type": "number"}}}, "properties.headline: is gone"),
    ],
)
def test_a_new_version_must_take_every_record_that_the_old_one_took(newer: Any, said: str) -> None:
    assert "; ".join(narrowings(read(SCORE), read(newer))).startswith(said)
    assert bool(narrowings(read(SCORE), read(newer))) == bool(said)


def test_where_other_properties_were_allowed_none_can_get_a_type_later() -> None:
    opened = {**SCORE, "additionalProperties": True}
    assert narrowings(read(opened), read(changed(x={}))) == ["additionalProperties: other properties were allowed"]
    typed = {**changed(x={"type": "string"}), "additionalProperties": True}
    assert narrowings(read(opened), read(typed)) == ["properties.x.type: anything else was allowed"]


scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0]) | st.text("ab", max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)


LENGTHS = ("minLength", "maxLength", "minItems", "maxItems")
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
limits = st.lists(
    st.sampled_from(
        [(word, n) for word in BOUNDS for n in range(-2, 3)] + [(word, n) for word in LENGTHS for n in range(4)]
    ),
    max_size=4,
).map(dict)
"""Drawn at once: a draw for each word was most of the time of these tests."""


types = st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True)
enums = st.lists(st.none() | st.booleans() | st.integers(0, 1) | st.just("a"), min_size=1)


@functools.cache
def _properties(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from("xyz"), some_schemas(depth), max_size=3)


@st.composite
def some_schemas(draw: Any, depth: int = 0) -> dict[str, Any]:
    """Small schemas, so that two of them often meet."""
    schema: dict[str, Any] = {}
    if depth == 0:
        schema["type"] = "object"
    elif draw(st.booleans()):
        schema["type"] = draw(types)
    if depth and draw(st.integers(0, 4)) == 0:
        schema["enum"] = draw(enums)
    schema |= draw(limits)
    if depth < 2:
        schema["properties"] = draw(_properties(depth + 1))
        schema["required"] = [name for name in sorted(schema["properties"]) or ["x"] if draw(st.booleans())]
        if draw(st.booleans()):
            schema["items"] = draw(some_schemas(depth + 1))
    schema["additionalProperties"] = draw(st.booleans()) or not set(schema.get("required", [])) <= set(
        schema.get("properties", {})
    )
    return schema


@st.composite
def two_versions(draw: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schema, and the same with a few words of another: of two that have nothing in common hardly any are compatible."""
    old, other = draw(some_schemas()), draw(some_schemas())
    changed = {word: other.get(word) for word in sorted({*old, *other} - {"type"}) if draw(st.integers(0, 3)) == 0}
    new = {word: value for word, value in {**old, **changed}.items() if value is not None}
    new["additionalProperties"] |= not set(new["required"]) <= set(new["properties"])
    return old, new


records = st.dictionaries(st.sampled_from("xyz"), values, max_size=3)


@given(some_schemas(), records | values)
def test_what_fits_is_what_the_standard_says(schema: dict[str, Any], value: Any) -> None:
    fits = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (not misfits(read(schema), value)) == fits


@given(two_versions(), records)
def test_what_fitted_fits_every_compatible_version(
    versions: tuple[dict[str, Any], dict[str, Any]], value: dict[str, Any]
) -> None:
    before, after = map(read, versions)
    if not narrowings(before, after) and not misfits(before, value):
        assert misfits(after, value) == []


@given(some_schemas())
def test_every_schema_is_compatible_with_itself(schema: dict[str, Any]) -> None:
    assert narrowings(read(schema), read(schema)) == []


def test_every_format_is_checked() -> None:
    given = {"date-time": ("2026-01-31T09:30:00+01:00", "yesterday"), "date": ("2026-01-31", "20260131")}
    assert set(given) == set(FORMATS)
    for form, (good, bad) in given.items():
        shape = read(changed(x={"type": "string", "format": form}))
        assert misfits(shape, {"score": 0, "x": good}) == []
        assert misfits(shape, {"score": 0, "x": bad}) == [f"data.x: {bad!r} is no {form}"]
