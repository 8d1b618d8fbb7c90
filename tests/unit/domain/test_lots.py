"""Lots against a slow model of single units, and against the average-cost fold."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain import lots as subject
from trade2026.domain.lots import Lots
from trade2026.domain.numbers import SCALE
from trade2026.domain.positions import Position

FILLS = st.lists(st.tuples(st.integers(-60, 60).filter(bool), st.integers(1, 10**6)), max_size=40)
MULTIPLIERS = st.sampled_from([SCALE, 50 * SCALE, SCALE // 1000, 7])


@given(FILLS, st.sampled_from(["fifo", "lifo"]))
def test_lots_close_in_the_order_of_single_units(fills: list[tuple[int, int]], matching: subject.Matching) -> None:
    book, units, realized = Lots(matching), deque[tuple[int, int]](), 0
    for quantity, price in fills:
        book.apply_fill(quantity, price)
        side = 1 if quantity > 0 else -1
        for _ in range(abs(quantity)):
            if units and units[0][0] != side:
                held, cost = units.popleft() if matching == "fifo" else units.pop()
                realized += held * (price - cost)
            else:
                units.append((side, price))
    assert book.realized == realized
    assert [price for lot in book.lots for price in [lot.price] * lot.quantity] == [price for _, price in units]


@given(FILLS, st.sampled_from(["fifo", "lifo"]), MULTIPLIERS, st.sampled_from([2, 5, 10_000]))
def test_lots_and_average_cost_agree_on_the_quantity_and_on_the_cash_that_moved(
    fills: list[tuple[int, int]], matching: subject.Matching, multiplier: int, lots_max: int
) -> None:
    book, position = Lots(matching), Position()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "LOTS_MAX", lots_max)
        for quantity, price in fills:
            before = book.realized
            assert book.apply_fill(quantity, price, multiplier=multiplier) == book.realized - before
            position.apply_fill(quantity, price, multiplier=multiplier)
    assert len(book.lots) <= lots_max
    assert all(lot.quantity > 0 for lot in book.lots)
    assert book.quantity == position.quantity
    assert book.realized - book.open_cost == position.realized - position.open_cost


def test_a_fill_through_zero_closes_every_lot_and_opens_one_of_the_other_side() -> None:
    book = Lots()
    book.apply_fill(2, 100, "a", 1)
    book.apply_fill(1, 104, "b", 2)
    assert book.apply_fill(-5, 110, "c", 3) == 2 * 10 + 6
    assert [(lot.exec_id, lot.quantity, lot.price, lot.ts) for lot in book.lots] == [("c", 2, 110, 3)]
    assert (book.quantity, book.open_cost) == (-2, -220)


def test_fifo_and_lifo_realize_what_their_names_say() -> None:
    realized = {}
    for matching in ("fifo", "lifo"):
        book = Lots(matching)
        book.apply_fill(1, 100)
        book.apply_fill(1, 120)
        realized[matching] = book.apply_fill(-1, 130)
    assert realized == {"fifo": 30, "lifo": 10}
