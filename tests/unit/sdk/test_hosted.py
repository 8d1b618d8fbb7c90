"""A strategy in its machine: given events, when delivered, then decisions."""

from collections import deque
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trade2026.domain import events as ev
from trade2026.domain import market
from trade2026.domain.market import Trade as Print
from trade2026.domain.numbers import SCALE
from trade2026.sdk import EMA, Bar, Fill, Order, Parameters, Strategy, Timer, Trade
from trade2026.sdk.hosted import Definition, Hosted
from trade2026.sdk.saving import NotSaveable, from_plain, to_plain
from trade2026.sdk.testing import BTCUSDT, EPOCH, SECOND, Desk, StrategyFailed


class Size(Parameters):
    quantity: Decimal = Decimal("0.5")


class Recorder(Strategy[Size]):
    """Writes down every call, and trades when told to by the price."""

    parameters = Size

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.order: Order | None = None
        self.average = EMA(3)
        self.prices: deque[Decimal] = deque(maxlen=4)

    def bars(self) -> tuple[str, ...]:
        return ("1s", "3tick")

    def on_start(self) -> None:
        self.calls.append("start")
        self.ctx.timer("beat", every="700ms")

    def on_stop(self) -> None:
        self.ctx.cancel_all()

    def on_trade(self, trade: Trade) -> None:
        self.calls.append(f"trade {trade.price}")
        self.prices.append(trade.price)
        self.average.update(trade.price)
        draw = self.ctx.random.random()
        if trade.price % 5 == 0 and not self.ctx.orders:
            self.order = self.ctx.buy(self.p.quantity, trade.price + 1)
        elif trade.price % 7 == 0 and draw < 0.5:
            self.ctx.sell(self.p.quantity, trade.price + 3, post_only=True)
        elif trade.price % 11 == 0 and self.order is not None:
            self.ctx.cancel(self.order)

    def on_bar(self, bar: Bar) -> None:
        self.calls.append(f"bar {bar.interval} {bar.close}")

    def on_order(self, order: Order) -> None:
        self.calls.append(f"order {order.status}")

    def on_fill(self, fill: Fill) -> None:
        self.calls.append(f"fill {fill.quantity} {self.ctx.position().quantity}")

    def on_timer(self, timer: Timer) -> None:
        self.calls.append(f"timer {timer.ts - EPOCH}")


def test_bars_that_end_before_a_trade_are_given_before_it() -> None:
    desk = Desk(Recorder)
    desk.trades([101, 102])
    calls = [call for call in desk.hosted.strategy.calls if not call.startswith("timer")]
    assert calls == ["start", "trade 101", "bar 1s 101", "trade 102"]


def test_a_time_bar_ends_without_another_trade() -> None:
    desk = Desk(Recorder)
    desk.trade(101)
    desk.wait(2 * SECOND)
    assert "bar 1s 101" in desk.hosted.strategy.calls


def test_a_timer_is_called_at_its_time_and_again() -> None:
    desk = Desk(Recorder)
    desk.wait(2_200_000_000)
    assert [call for call in desk.hosted.strategy.calls if "timer" in call] == [
        "timer 700000000",
        "timer 1400000000",
        "timer 2100000000",
    ]


def test_a_fill_changes_the_position_before_the_strategy_hears_of_it() -> None:
    desk = Desk(Recorder)
    desk.trade(100)
    assert desk.hosted.strategy.calls[-4:] == ["order PendingNew", "order New", "order Filled", "fill 0.5 0.5"]
    assert desk.position.quantity == Decimal("0.5")
    assert desk.orders[0].client_order_id == "tried-0"


class Broken(Strategy[Parameters]):
    def on_trade(self, trade: Trade) -> None:
        self.ctx.buy(1)
        raise RuntimeError("I am broken")


def test_an_error_fails_the_strategy_and_takes_back_what_that_call_has_decided() -> None:
    desk = Desk(Broken)
    with pytest.raises(StrategyFailed, match="I am broken"):
        desk.trade(100)
    assert desk.hosted.take() == []
    assert desk.hosted.ctx.orders == []


def test_a_failed_strategy_goes_on_when_a_named_person_resumes_it() -> None:
    desk = Desk(Broken)
    with pytest.raises(StrategyFailed):
        desk.trade(100)
    give(desk.hosted, ev.Killed(scope="strategy:tried", reason="it failed", by="ann"))
    assert desk.hosted.halted == "it failed"
    give(desk.hosted, ev.Resumed(scope="strategy:tried", reason="mended", by="ann"))
    assert (desk.hosted.status, desk.hosted.halted) == ("running", "")


@pytest.mark.parametrize("scope", ["stack", "strategy:tried", "account:main"])
def test_a_halt_stops_orders_at_the_next_event_and_lets_cancels_pass(scope: str) -> None:
    desk = Desk(Recorder)
    desk.trade(98)
    desk.trade(105)
    desk.quote(110, 111)
    desk.trade(100)
    resting = desk.hosted.ctx.buy(1, 50)
    desk._settle()
    give(desk.hosted, ev.Killed(scope=scope, reason="too much", by="controls", halt=True, cause="breach"))
    refused = desk.hosted.ctx.buy(1)
    desk.hosted.ctx.cancel(resting)
    (decision,) = desk.hosted.take()
    assert isinstance(decision, ev.CancelDecided)
    assert (refused.status, refused.reject_code, refused.reason) == ("Rejected", "HALTED", "too much")


@pytest.mark.parametrize("scope", ["strategy:other", "account:other", "instrument:BTCUSDT.SIM", "trader:main"])
def test_what_others_are_halted_for_does_not_halt_it(scope: str) -> None:
    desk = Desk(Recorder)
    give(desk.hosted, ev.Killed(scope=scope, reason="", by="ann"))
    assert not desk.hosted.halted


def test_orders_are_refused_while_it_warms_up() -> None:
    class Eager(Strategy[Parameters]):
        def on_trade(self, trade: Trade) -> None:
            self.order = self.ctx.buy(1)

    hosted = Hosted(Eager, Definition(name="eager", account="main", instruments=["BTCUSDT.SIM"]), [BTCUSDT])
    hosted.warm(envelope(Print("BTCUSDT.SIM", "t1", 100 * SCALE, SCALE), 0))
    assert hosted.take() == []
    assert hosted.strategy.order.reject_code == "WARMING"  # type: ignore[attr-defined]


def test_a_number_that_the_log_knows_is_not_used_again() -> None:
    desk = Desk(Recorder)
    spec = desk.hosted.ctx._spec(desk.hosted.ctx.request("BUY", 1, 100), "tried-41")
    give(desk.hosted, ev.OrderAccepted(order_id="o0-7", spec=spec, reserved_price=0))
    assert desk.hosted.ctx.buy(1, 90).client_order_id == "tried-42"


def test_a_decision_that_the_order_service_refuses_is_told_to_the_strategy() -> None:
    desk = Desk(Recorder)
    order = desk.hosted.ctx.buy(1, 90)
    refused = ev.DecisionRefused(strategy="tried", number=0, code="off_tick", reason="off the tick", ts=EPOCH)
    desk.hosted.answered(refused)
    assert (order.status, order.reject_code) == ("Rejected", "off_tick")
    assert desk.hosted.strategy.calls[-1] == "order Rejected"


def test_refusals_are_counted_since_the_last_order_that_was_taken() -> None:
    desk = Desk(Recorder)
    ctx = desk.hosted.ctx

    def refuse(count: int, code: str) -> None:
        for _ in range(count):
            spec = ctx._spec(ctx.request("BUY", 1, 100), ctx.buy(1, 100).client_order_id)
            give(desk.hosted, ev.OrderRefused(order_id="o0-1", spec=spec, reject_code=code, reason="no"))

    assert ctx._orders.refused == (0, "")
    refuse(3, "MAX_ORDER_VALUE")
    refuse(1, "MAX_ORDER_QUANTITY")
    assert ctx._orders.refused == (4, "MAX_ORDER_QUANTITY")
    ctx.buy(1, 90)
    assert ctx._orders.refused[0] == 4  # nobody has answered yet
    desk._settle()  # this desk takes every order
    assert ctx._orders.refused == (0, "")
    refuse(2, "KILLED")
    assert ctx._orders.refused == (2, "KILLED")


@pytest.mark.parametrize(
    ("terms", "order_type"),
    [
        ({}, "MARKET"),
        ({"price": 100}, "LIMIT"),
        ({"stop_price": 100}, "STOP"),
        ({"price": 100, "stop_price": 99}, "STOP_LIMIT"),
        ({"stop_price": 100, "trailing_offset": 5}, "TRAILING_STOP"),
        ({"price": 100, "display_quantity": "0.1"}, "ICEBERG"),
    ],
)
def test_what_is_given_says_which_type_an_order_is(terms: dict[str, Any], order_type: str) -> None:
    assert Desk(Recorder).hosted.ctx.buy(1, **terms).order_type == order_type


def test_prices_are_rounded_away_from_the_market_and_quantities_down() -> None:
    ctx = Desk(Recorder).hosted.ctx
    assert (ctx.buy(1.000019, 100.019).price, ctx.sell(1, "100.011").price) == (Decimal("100.01"), Decimal("100.02"))
    assert ctx.orders[0].quantity == Decimal("1.00001")
    with pytest.raises(ValueError, match="less than one lot"):
        ctx.buy("0.000001")


def test_a_wrong_parameter_is_named() -> None:
    with pytest.raises(msgspec.ValidationError, match="quantitty"):
        Desk(Recorder, quantitty=1)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.decimals(allow_nan=False),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner, inner)
        | st.sets(st.integers() | st.text())
        | st.lists(inner).map(lambda items: deque(items, 3))
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_saved_comes_back_equal_also_in_type(value: Any) -> None:
    back = from_plain(msgspec.json.decode(msgspec.json.encode(to_plain(value))))
    assert back == value
    assert repr(back) == repr(value) or isinstance(value, set | list | dict | tuple | deque)


def test_what_cannot_be_saved_is_named() -> None:
    with pytest.raises(NotSaveable, match=r"state\.a\[0\] is a object"):
        to_plain({"a": [object()]})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["trade", "quote", "wait"]), st.integers(90, 130), st.integers(1, 3)), max_size=60
    ),
    st.data(),
)
def test_saved_and_restored_it_decides_as_if_nothing_had_happened(
    steps: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(steps)))
    whole, crashed = Desk(Recorder), Desk(Recorder)
    for number, step in enumerate(steps):
        if number == cut:
            crashed.restart()
        for desk in (whole, crashed):
            act(desk, step)
    assert crashed.decisions == whole.decisions
    assert crashed.hosted.save() == whole.hosted.save()


def act(desk: Desk, step: tuple[str, int, int]) -> None:
    kind, price, number = step
    if kind == "trade":
        desk.trade(price, number, after=number * 300_000_000)
    elif kind == "quote":
        desk.quote(price, price + number)
    else:
        desk.wait(number * 500_000_000)


def envelope(event: Any, ts: int) -> ev.Envelope:
    return ev.Envelope(0, 1, ts, ts, "test", "local", "", "", "", event)


def give(hosted: Hosted, event: Any) -> None:
    hosted.deliver(envelope(event, hosted.ctx.now))


class Bookkeeper(Strategy[Parameters]):
    """Keeps the bars that it is given."""

    intervals = ("1s", "1m", "100tick", "7tick", "3volume")

    def __init__(self) -> None:
        self.kept: list[Bar] = []

    def bars(self) -> tuple[str, ...]:
        return self.intervals

    def on_bar(self, bar: Bar) -> None:
        self.kept.append(bar)


def bookkeeper(*told: str) -> Hosted:
    definition = Definition(name="books", account="main", instruments=["BTCUSDT.SIM"], bars=list(told))
    return Hosted(Bookkeeper, definition, [BTCUSDT])


def test_bars_that_the_market_has_are_given_and_the_others_made_of_its_trades() -> None:
    hosted = bookkeeper("1.0s", "100tick")
    assert hosted.told_bars == {"1s", "100tick"}
    hosted.start(EPOCH)
    for number in range(8):
        print_ = Print("BTCUSDT.SIM", f"t{number}", (100 + number) * SCALE, SCALE, venue_seq=number)
        hosted.deliver(envelope(print_, EPOCH + number * SECOND))
    kept: list[Bar] = hosted.strategy.kept  # type: ignore[attr-defined]
    assert {bar.interval for bar in kept} == {"7tick", "3volume"}
    given = market.Bar("BTCUSDT.SIM", "1s", EPOCH, EPOCH + SECOND, 1, 2, 1, 2, 5, 10, 3)
    hosted.deliver(envelope(given, EPOCH + 8 * SECOND))
    hosted.deliver(envelope(msgspec.structs.replace(given, interval="1h"), EPOCH + 8 * SECOND))
    hosted.deliver(envelope(msgspec.structs.replace(given, instrument="ETHUSDT.SIM"), EPOCH + 8 * SECOND))
    assert kept[-1] == Bar.of(given)
    assert [bar.interval for bar in kept].count("1s") == 1
    assert hosted.ctx.bars("1s") == [Bar.of(given)]
