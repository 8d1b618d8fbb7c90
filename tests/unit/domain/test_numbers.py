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
        ("1_000", "not_a_number"),
        (" 1", "not_a_number"),
        ("\u0661", "not_a_number"),
        (Decimal("1e-999999999999999999"), "too_many_decimals"),
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


_WRITTEN = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**10), max_value=10**10).map(str),
    st.text(alphabet="0123456789.eE+-_ ١²x", max_size=12),
    st.sampled_from(
        [
            "NaN",
            "sNaN",
            "Infinity",
            "-inf",
            "1e400",
            "1e-400",
            "١",
            "1_000",
            " 1",
            "1 ",
            "0x1",
            "",
            ".",
            "1e",
            "1.",
            ".5",
        ]
    ),
)


@given(_WRITTEN)
def test_what_a_client_writes_is_read_as_the_exact_decimal_or_refused(text: str) -> None:
    amount = n.read_amount(text)
    plain = text.isascii() and "_" not in text and text.strip() == text
    try:
        exact = Decimal(text) if plain else None
    except ArithmeticError:
        exact = None
    fits = exact is not None and exact.is_finite() and abs(exact) <= 9 * 10**9 and len(text) <= 40
    if fits and exact and exact.adjusted() < -9:
        fits = False
    if amount.error is None:
        assert fits
        assert exact is not None
        assert Decimal(int(amount)).scaleb(-9) == exact
    elif fits:
        assert amount.error.fault == "too_many_decimals" or exact == 0
    assert n.read_amount(text) == amount


@pytest.mark.parametrize("written", [True, None, 1.5, [1], {"a": 1}])
def test_what_is_neither_number_nor_text_is_no_amount(written: object) -> None:
    with pytest.raises(ValueError, match="number or decimal text"):
        n.read_amount(written)
