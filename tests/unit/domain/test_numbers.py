"""Exact numbers: what goes in comes out, and what is no exact amount is refused by kind."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain import numbers as n


@given(st.integers(-n.NANOS_MAX, n.NANOS_MAX))
def test_text_of_nanos_reads_back_as_the_same_nanos(nanos: int) -> None:
    assert n.to_nanos(n.to_text(nanos)) == nanos


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**9), max_value=10**9))
def test_a_decimal_with_nine_places_is_exact(value: Decimal) -> None:
    assert Decimal(n.to_nanos(value)) == value * n.SCALE


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("NaN", "not_finite"),
        (Decimal("Infinity"), "not_finite"),
        ("-Infinity", "not_finite"),
        ("1e400", "too_large"),
        (Decimal("1E+999999"), "too_large"),
        ("9000000001", "too_large"),
        ("0.0000000001", "too_many_decimals"),
        (Decimal("1E-400"), "too_many_decimals"),
        ("0.12345678901234567890123456789", "too_many_decimals"),
        ("abc", "not_a_number"),
        ("", "not_a_number"),
        ("1" * 50, "too_large"),
    ],
)
def test_what_is_no_exact_amount_is_refused_by_kind(value: str | Decimal, fault: str) -> None:
    with pytest.raises(n.NumberError) as caught:
        n.to_nanos(value)
    assert caught.value.fault == fault


@given(st.integers(0, 10**15), st.integers(1, 10**15))
def test_a_value_differs_from_the_exact_product_by_at_most_half_a_nano(price: int, quantity: int) -> None:
    assert abs(n.cost_to_nanos(price * quantity) * n.SCALE - price * quantity) * 2 <= n.SCALE


@given(st.integers(0, 10**30), st.integers(1, 10**15))
def test_an_average_price_is_the_nearest_nano(cost: int, quantity: int) -> None:
    assert abs(n.average_price(cost, quantity) * quantity - cost) * 2 <= quantity
