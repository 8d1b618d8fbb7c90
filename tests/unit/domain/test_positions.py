"""The one position fold against a slow model of single units."""

from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain.numbers import SCALE, cost_of
from trade2026.domain.positions import Position

FILLS = st.lists(
    st.tuples(st.integers(-1000, 1000).filter(bool), st.integers(1, 10**6), st.integers(0, 1000)), max_size=40
)


@given(FILLS)
def test_realized_plus_open_cost_equals_the_cash_that_moved(fills: list[tuple[int, int, int]]) -> None:
    position, cash = Position(), 0
    for quantity, price, fee in fills:
        position.apply_fill(quantity, price, fee)
        cash -= quantity * price
    assert position.realized - position.open_cost == cash
    assert position.quantity == sum(quantity for quantity, _, _ in fills)
    assert position.bought - position.sold == position.quantity
    assert position.fees == sum(fee for _, _, fee in fills)


@given(FILLS)
def test_a_flat_position_has_no_open_cost(fills: list[tuple[int, int, int]]) -> None:
    position = Position()
    for quantity, price, _ in fills:
        position.apply_fill(quantity, price)
    if position.quantity:
        position.apply_fill(-position.quantity, 500)
    assert (position.quantity, position.open_cost) == (0, 0)


@given(FILLS, st.integers(1, 10**6))
def test_total_profit_at_a_mark_does_not_depend_on_how_it_was_realized(
    fills: list[tuple[int, int, int]], mark: int
) -> None:
    position = Position()
    for quantity, price, _ in fills:
        position.apply_fill(quantity, price)
    expected = sum(quantity * (mark - price) for quantity, price, _ in fills)
    assert position.realized + position.unrealized(mark) == expected


def test_a_fill_through_zero_realizes_the_old_side_and_opens_the_new_at_its_own_price() -> None:
    position = Position()
    position.apply_fill(2, 100)
    assert position.apply_fill(-5, 110) == 20
    assert (position.quantity, position.open_cost, position.average_price) == (-3, -330, 110)


@given(FILLS, st.sampled_from([50 * SCALE, SCALE // 1000, 7, SCALE]), st.integers(1, 10**6))
def test_with_a_multiplier_no_money_is_lost_either(
    fills: list[tuple[int, int, int]], multiplier: int, mark: int
) -> None:
    position, cash = Position(), 0
    for quantity, price, fee in fills:
        position.apply_fill(quantity, price, fee, multiplier)
        value = cost_of(price, abs(quantity), multiplier)
        cash -= value if quantity > 0 else -value
    assert position.realized - position.open_cost == cash
    assert position.realized + position.unrealized(mark) == cash + position.value(mark)


def test_a_contract_earns_its_multiplier_per_point() -> None:
    position = Position()
    position.apply_fill(2 * SCALE, 5_000 * SCALE, multiplier=50 * SCALE)
    assert position.average_price == 5_000 * SCALE
    assert position.unrealized(5_001 * SCALE) == 100 * SCALE * SCALE
    assert position.apply_fill(-SCALE, 5_002 * SCALE, multiplier=50 * SCALE) == 100 * SCALE * SCALE
