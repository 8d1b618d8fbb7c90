"""JSON of strangers: what is ambiguous, deep or misfit is refused in words; all else is read as it was written."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain.numbers import NANOS_MAX, Amount
from trade2026.kit.body import DEPTH_MAX, parse
from trade2026.kit.problem import Problem


class Named(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    size: Amount = Amount(0)


def code(body: bytes, type: Any = None) -> str:
    try:
        parse(body, type)
    except Problem as problem:
        return problem.code
    return ""


texts = st.text(st.sampled_from(':"\\{}[],ab\n é'), max_size=4)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)


@given(values, st.sampled_from([None, 1]))
def test_what_json_reads_is_read(value: Any, indent: int | None) -> None:
    assert parse(json.dumps(value, indent=indent).encode()) == value


@given(st.lists(st.tuples(texts, values), max_size=4))
def test_a_key_that_is_there_twice_is_found_whatever_surrounds_it(pairs: list[tuple[str, Any]]) -> None:
    body = "{" + ", ".join(f"{json.dumps(key)} : {json.dumps(value)}" for key, value in pairs) + "}"
    unique = len({key for key, _ in pairs}) == len(pairs)
    assert code(body.encode()) == ("" if unique else "duplicate_key")
    assert code(f"[{body}]".encode()) == ("" if unique else "duplicate_key")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_depth_is_bounded(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    assert code((opening * DEPTH_MAX + "1" + closing * DEPTH_MAX).encode()) == ""
    assert code((opening * (DEPTH_MAX + 1) + "1" + closing * (DEPTH_MAX + 1)).encode()) == "too_deep"
    assert code((opening * 30_000).encode()) == "too_deep"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (b'{"name": "\xff"}', "malformed_json"),
        (b'{"size": 1}', "missing_field"),
        (b'{"name": "a", "other": 1}', "unknown_field"),
        (b'{"name": 1}', "bad_field"),
        (b'{"name": "a", "name": "b"}', "duplicate_key"),
        (b'{"name": "a", "size": true}', "bad_field"),
    ],
)
def test_a_misfit_is_named(body: bytes, expected: str) -> None:
    assert code(body, Named) == expected


@given(st.decimals(-(10**9), 10**9, places=9, allow_nan=False, allow_infinity=False))
def test_amounts_are_what_decimal_says_as_text_and_as_number_and_the_second_time_too(value: Decimal) -> None:
    for written in (f"{value:f}", f'"{value:f}"', f'"{value:f}"'):
        size = parse(b'{"name": "a", "size": %b}' % written.encode(), Named).size
        assert size.error is None
        assert size == int(value * 10**9)


@pytest.mark.parametrize(
    "written", ['"1e-10"', '"NaN"', '"x"', str(NANOS_MAX), '"1.0000000001"', '"' + "9" * 100 + '"', '" 1"', '"1_0"']
)
def test_what_is_no_exact_amount_carries_its_error_each_time(written: str) -> None:
    for _ in range(2):
        assert parse(b'{"name": "a", "size": %b}' % written.encode(), Named).size.error is not None
