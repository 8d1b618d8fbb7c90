"""Given prints, then the derived book is a book."""

from gateway_builders import BTC, NAME
from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain.market import Trade
from trade2026.gateway.book import LEVELS, BookModel

prints = st.lists(
    st.tuples(st.integers(1, 10**7), st.integers(1, 10**6)).map(
        lambda it: (it[0] * BTC.tick_size, it[1] * BTC.lot_size)
    ),
    min_size=1,
    max_size=40,
)


def _model(rows, seed=7, instrument=BTC) -> BookModel:
    model = BookModel(instrument, seed)
    for number, (price, quantity) in enumerate(rows):
        model.on_trade(Trade(NAME, f"t-0-{number}", price, quantity, venue_seq=number))
    return model


@given(rows=prints, seed=st.integers(-5, 2**70))
def test_bids_fall_asks_rise_and_the_last_print_lies_between_them(rows, seed):
    book = _model(rows, seed).book()
    last = rows[-1][0]
    bids, asks = [level.price for level in book.bids], [level.price for level in book.asks]
    assert bids == sorted(set(bids), reverse=True)
    assert asks == sorted(set(asks))
    assert all(0 < price < last for price in bids)
    assert all(price > last for price in asks)
    assert len(asks) == LEVELS
    assert len(bids) == LEVELS or last <= 10_000 * BTC.tick_size, "bids end early only near the price zero"
    for level in (*book.bids, *book.asks):
        assert level.price % BTC.tick_size == 0
        assert level.quantity > 0
        assert level.quantity % BTC.lot_size == 0


@given(rows=prints)
def test_the_same_prints_make_the_same_book(rows):
    assert _model(rows).book() == _model(rows).book()


def test_another_seed_makes_another_book():
    rows = [(45_000 * 10**9, 10**9)] * 3
    assert _model(rows, 7).book() != _model(rows, 8).book()


def test_a_restless_market_has_a_wider_spread():
    calm = [(45_000 * 10**9 + (number % 2) * 10**9, 10**9) for number in range(40)]
    wild = [(45_000 * 10**9 + (number % 2) * 60 * 10**9, 10**9) for number in range(40)]
    narrow, wide = (book.asks[0].price - book.bids[0].price for book in (_model(calm).book(), _model(wild).book()))
    assert wide > 2 * narrow


def test_sizes_follow_the_sizes_of_trades():
    small, large = ([(45_000 * 10**9, size * 10**9)] * 20 for size in (1, 50))
    assert _model(large).book().bids[0].quantity > 10 * _model(small).book().bids[0].quantity
