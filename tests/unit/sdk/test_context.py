"""What a strategy sees and does through its context, one word of it at a time."""

from decimal import Decimal

import pytest

from trade2026.domain import events as ev
from trade2026.sdk import Parameters, Strategy, Timer
from trade2026.sdk.context import Context
from trade2026.sdk.testing import BTCUSDT, SECOND, Desk, StrategyFailed

D = Decimal


class Idle(Strategy[Parameters]):
    """Does nothing by itself; counts its timers."""

    def __init__(self) -> None:
        self.beats = 0

    def on_timer(self, timer: Timer) -> None:
        self.beats += 1


@pytest.fixture
def desk() -> Desk:
    return Desk(Idle)


@pytest.fixture
def ctx(desk: Desk) -> Context:
    return desk.hosted.ctx


def test_before_the_first_word_of_the_market_nothing_is_known(ctx: Context) -> None:
    assert (ctx.last(), ctx.quote(), ctx.book(), ctx.bars("1s")) == (None, None, None, [])
    assert ctx.position().quantity == 0


def test_the_market_is_shown_as_it_was_last_told(desk: Desk, ctx: Context) -> None:
    desk.quote(99, 101, 3)
    desk.trade("100.5", 2)
    last, quote, book = ctx.last(), ctx.quote(), ctx.book()
    assert last is not None
    assert quote is not None
    assert book is not None
    assert (last.price, last.quantity) == (D("100.5"), D(2))
    assert (quote.bid, quote.ask, quote.mid, quote.spread, quote.bid_quantity) == (D(99), D(101), D(100), D(2), D(3))
    assert [(level.price, level.quantity) for level in book.asks] == [(D(101), D(3))]
    assert ctx.instrument.tick_size == D("0.01")
    assert ctx.time.timestamp() == desk.now / SECOND


def test_an_instrument_is_named_by_its_symbol_or_in_full_and_no_other_is_known(ctx: Context) -> None:
    name = BTCUSDT.instrument_id
    assert {ctx.resolve(""), ctx.resolve("BTCUSDT"), ctx.resolve(name)} == {name}
    with pytest.raises(LookupError, match=f"'ETHUSDT' is not among the strategy's symbols: {name}"):
        ctx.resolve("ETHUSDT")


def test_an_order_tells_what_it_is_and_what_became_of_it(desk: Desk, ctx: Context) -> None:
    desk.trade(100)
    order = ctx.buy("0.5", 99)
    desk.wait(0)
    assert repr(order) == "<tried-0: BUY 0.5 BTCUSDT.SIM at 99, New>"
    assert (order.side, order.price, order.remaining, order.average_price, order.stop_price) == (
        "BUY", D(99), D("0.5"), D(0), D(0)
    )  # fmt: skip
    assert (order.order_type, order.time_in_force, order.order_id) == ("LIMIT", "GTC", "o-tried-0")
    desk.trade(98)
    assert (order.status, order.filled, order.remaining, order.average_price) == ("Filled", D("0.5"), D(0), D(99))
    assert desk.position.quantity == D("0.5")


def test_a_list_leaves_as_one_decision_with_all_its_orders(desk: Desk, ctx: Context) -> None:
    desk.trade(100)
    requests = [ctx.request("BUY", 1, 90), ctx.request("SELL", 1, 110)]
    orders = ctx.submit_list("OCO", requests)
    desk.wait(0)
    (decision,) = desk.decisions
    assert isinstance(decision, ev.OrderListDecided)
    assert decision.kind == "OCO"
    assert [order.client_order_id for order in orders] == ["tried-0.0", "tried-0.1"]
    assert {order.status for order in orders} == {"New"}


def test_all_orders_are_cancelled_and_none_twice(desk: Desk, ctx: Context) -> None:
    desk.trade(100)
    orders = [ctx.buy(1, 90), ctx.buy(1, 91)]
    desk.wait(0)
    ctx.cancel_all("BTCUSDT")
    desk.wait(0)
    assert {order.status for order in orders} == {"Canceled"}
    ctx.cancel(orders[0])
    ctx.amend(orders[0], price=92)
    assert desk.hosted.take() == []


def test_an_amendment_has_only_the_terms_that_change_each_on_its_step(desk: Desk, ctx: Context) -> None:
    desk.trade(100)
    order = ctx.buy(1, 90)
    desk.wait(0)
    ctx.amend(order, quantity="0.123456789", price=91.239)
    desk.wait(0)
    assert (order.quantity, order.price) == (D("0.12345"), D("91.23"))  # a lot less, and no tick nearer to the market


def test_numbers_are_rounded_to_steps_and_nonsense_is_refused(ctx: Context) -> None:
    assert (ctx.round_price("10.005"), ctx.round_price("10.001", "SELL"), ctx.round_price("10.009", "BUY")) == (
        D("10"), D("10.01"), D("10")
    )  # fmt: skip
    assert ctx.round_quantity("0.000019") == D("0.00001")
    with pytest.raises(ValueError, match="a price is above zero"):
        ctx.round_price("0.001")
    with pytest.raises(ValueError, match="a quantity is not negative: -1;"):
        ctx.round_quantity(-1)


def test_timers_run_once_or_again_and_again_until_they_are_forgotten(desk: Desk, ctx: Context) -> None:
    ctx.timer("once", after="2s")
    ctx.timer("often", every=SECOND)
    desk.wait(SECOND)
    desk.wait(SECOND)
    beats = desk.hosted.strategy.beats
    assert beats == 3
    ctx.cancel_timer("often")
    ctx.cancel_timer("never was")
    desk.wait(10 * SECOND)
    assert desk.hosted.strategy.beats == beats
    with pytest.raises(ValueError, match="a timer needs `after` or `every`"):
        ctx.timer("never")
    with pytest.raises(ValueError, match="'10 parsecs' is no duration: write 500ms"):
        ctx.timer("far", after="10 parsecs")


def test_what_is_logged_has_its_fields(desk: Desk, ctx: Context) -> None:
    ctx.log("hello")
    ctx.log("moved", by=3, to="there")
    assert desk.hosted.take_lines() == ["hello", "moved by=3 to=there"]


def test_a_strategy_that_raises_ends_the_trial_with_its_reason() -> None:
    class Broken(Idle):
        def on_timer(self, timer: Timer) -> None:
            raise RuntimeError("unlucky")

    desk = Desk(Broken)
    desk.hosted.ctx.timer("once", after="1s")
    with pytest.raises(StrategyFailed, match="unlucky"):
        desk.wait(SECOND)
