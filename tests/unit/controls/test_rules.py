"""Every control of the market-access rules: what it refuses, with which code, and what passes."""

import pytest

from trade2026.controls.limits import LimitBook, LimitSet, Rate
from trade2026.controls.machine import Controls
from trade2026.domain.events import Killed, OrderFilled, Resumed
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Reference
from trade2026.domain.orders import OrderSpec, OrderType

UNIT = 10**9
SECOND = 10**9
NOW = 1_700_000_000 * SECOND
PRICE = 45_000 * UNIT
MARKET = Reference(PRICE, 44_000 * UNIT, 46_000 * UNIT, ts=NOW)
BTC = Instrument(symbol="BTCUSDT", venue="SIM", base="BTC", quote="USDT", settlement="USDT", tick_size=1, lot_size=1)


def controls(stack: LimitSet | None = None, **book: object) -> Controls:
    return Controls(LimitBook(stack=stack or LimitSet(), **book), {BTC.instrument_id: BTC})  # type: ignore[arg-type]


def order(**terms: object) -> OrderSpec:
    values: dict[str, object] = {
        "client_order_id": "c1",
        "account": "main",
        "instrument": "BTCUSDT.SIM",
        "side": "BUY",
        "order_type": OrderType.LIMIT,
        "quantity": 1 * UNIT,
        "price": PRICE,
    }
    return OrderSpec(**(values | terms))  # type: ignore[arg-type]


def fill(quantity: int = 1, price: int = PRICE, side: str = "BUY", fee: int = 0, **names: str) -> OrderFilled:
    return OrderFilled(
        order_id="o1",
        exec_id="e1",
        account=names.pop("account", "main"),
        instrument="BTCUSDT.SIM",
        side=side,  # type: ignore[arg-type]
        last_qty=quantity * UNIT,
        last_px=price,
        fee=fee,
        cum_qty=quantity * UNIT,
        leaves_qty=0,
        cum_cost=quantity * UNIT * price,
        **names,  # type: ignore[arg-type]
    )


def send(machine: Controls, spec: OrderSpec, ts: int = NOW) -> OrderSpec:
    machine.order_sent(spec, ts)
    machine.order_changed(spec, 0, 0, spec.quantity, machine.reserved_price(spec, MARKET))
    return spec


def code(machine: Controls, spec: OrderSpec, now: int = NOW, reference: Reference | None = MARKET) -> str | None:
    check = machine.check(spec, reference, now)
    broken = [each for each in machine.explain(spec, reference, now) if not each.passed]
    assert (check is None) == (not broken), "check and explain agree"
    if check is None:
        return None
    assert check == broken[0]
    assert check.message
    return check.code


def test_without_limits_everything_passes() -> None:
    assert code(controls(), order(quantity=10**6 * UNIT), reference=None) is None


# ── row 1: credit ──


def test_gross_exposure_beyond_the_credit_threshold_is_refused() -> None:
    machine = controls(account_default=LimitSet(max_gross_exposure=100_000 * UNIT))
    assert code(machine, order(quantity=2 * UNIT)) is None
    assert code(machine, order(quantity=3 * UNIT)) == "CREDIT_THRESHOLD"


def test_the_credit_threshold_of_the_firm_holds_over_all_accounts() -> None:
    machine = controls(LimitSet(max_gross_exposure=100_000 * UNIT))
    machine.filled(fill(2, account="other"), NOW)
    check = machine.check(order(), MARKET, NOW)
    assert check is not None
    assert (check.code, check.scope, check.limit, check.actual) == ("CREDIT_THRESHOLD", "stack", "100000", "135000")


def test_a_sell_below_the_market_counts_at_the_market() -> None:
    machine = controls(LimitSet(max_gross_exposure=40_000 * UNIT))
    assert code(machine, order(side="SELL", price=UNIT)) == "CREDIT_THRESHOLD"


# ── row 2: prices ──


@pytest.mark.parametrize(
    ("side", "price", "expected"),
    [
        ("BUY", 45_450, None),
        ("BUY", 45_451, "PRICE_COLLAR"),
        ("BUY", 30_000, None),
        ("SELL", 44_550, None),
        ("SELL", 44_549, "PRICE_COLLAR"),
        ("SELL", 60_000, None),
    ],
)
def test_a_price_too_aggressive_is_refused(side: str, price: int, expected: str | None) -> None:
    machine = controls(LimitSet(price_collar_bps=100))
    assert code(machine, order(side=side, price=price * UNIT)) == expected


@pytest.mark.parametrize(
    ("side", "price", "expected"),
    [("BUY", 40_500, None), ("BUY", 40_499, "PRICE_COLLAR"), ("SELL", 49_500, None), ("SELL", 49_501, "PRICE_COLLAR")],
)
def test_a_price_too_passive_is_refused(side: str, price: int, expected: str | None) -> None:
    machine = controls(LimitSet(passive_collar_bps=1000))
    assert code(machine, order(side=side, price=price * UNIT)) == expected


@pytest.mark.parametrize(
    ("price", "expected"), [(46_460, None), (46_461, "PRICE_WINDOW"), (43_560, None), (43_559, "PRICE_WINDOW")]
)
def test_a_price_outside_the_window_is_refused(price: int, expected: str | None) -> None:
    machine = controls(LimitSet(price_window_bps=100))
    assert code(machine, order(price=price * UNIT)) == expected


def test_a_collar_says_which_price_would_pass() -> None:
    check = controls(LimitSet(price_collar_bps=100)).check(order(price=50_000 * UNIT), MARKET, NOW)
    assert check is not None
    assert "send at most 45450" in check.message


@pytest.mark.parametrize("spec", [order(), order(order_type=OrderType.MARKET, price=0)])
def test_a_collar_without_a_fresh_price_refuses(spec: OrderSpec) -> None:
    machine = controls(LimitSet(price_collar_bps=100))
    assert code(machine, spec, reference=None) == "NO_REFERENCE_PRICE"
    assert code(machine, spec, now=NOW + 10 * SECOND) is None
    assert code(machine, spec, now=NOW + 10 * SECOND + 1) == "NO_REFERENCE_PRICE"


def test_a_market_order_that_cannot_be_valued_is_refused_where_value_is_limited() -> None:
    market = order(order_type=OrderType.MARKET, price=0)
    assert code(controls(LimitSet(max_gross_exposure=10**9 * UNIT)), market, reference=None) == "NO_REFERENCE_PRICE"
    assert code(controls(LimitSet(max_order_quantity=10**9 * UNIT)), market, reference=None) is None


def test_the_limit_of_a_stop_limit_order_is_collared_by_its_stop() -> None:
    machine = controls(LimitSet(price_collar_bps=100))
    stop = order(order_type=OrderType.STOP_LIMIT, stop_price=50_000 * UNIT, price=50_500 * UNIT)
    assert code(machine, stop, reference=None) is None
    assert code(machine, order(order_type=OrderType.STOP_LIMIT, stop_price=50_000 * UNIT, price=50_501 * UNIT)) == (
        "PRICE_COLLAR"
    )


# ── row 3: size ──


def test_an_order_of_too_much_quantity_is_refused() -> None:
    machine = controls(LimitSet(max_order_quantity=2 * UNIT))
    assert code(machine, order(quantity=2 * UNIT)) is None
    assert code(machine, order(quantity=2 * UNIT + 1)) == "MAX_ORDER_QUANTITY"


def test_an_order_of_too_much_value_is_refused() -> None:
    machine = controls(LimitSet(max_order_value=90_000 * UNIT))
    assert code(machine, order(quantity=2 * UNIT)) is None
    assert code(machine, order(quantity=2 * UNIT + 1)) == "MAX_ORDER_VALUE"


def test_a_market_buy_is_valued_with_a_buffer() -> None:
    machine = controls(LimitSet(max_order_value=46_000 * UNIT))
    assert code(machine, order(order_type=OrderType.MARKET, price=0)) == "MAX_ORDER_VALUE"
    assert code(machine, order(order_type=OrderType.MARKET, price=0, side="SELL")) is None


def test_the_multiplier_counts_in_value_and_exposure() -> None:
    future = Instrument(
        symbol="ES",
        venue="SIM",
        base="ES",
        quote="USD",
        settlement="USD",
        tick_size=1,
        lot_size=1,
        multiplier=50 * UNIT,
    )
    spec = order(instrument="ES.SIM", price=5_000 * UNIT)
    book = LimitBook(stack=LimitSet(max_order_value=250_000 * UNIT, max_gross_exposure=400_000 * UNIT))
    machine = Controls(book, {"ES.SIM": future})
    assert machine.check(spec, None, NOW) is None
    machine.order_changed(spec, 0, 0, spec.quantity, spec.price)
    assert machine.exposure("firm").gross == 250_000 * UNIT
    check = machine.check(spec, None, NOW)
    assert check is not None
    assert check.code == "CREDIT_THRESHOLD"


# ── row 4: rate ──


def test_messages_beyond_the_rate_are_refused_until_time_has_passed() -> None:
    machine = controls(account_default=LimitSet(order_rate=Rate(count=3)))
    for number in range(3):
        assert code(machine, order(client_order_id=str(number))) is None
        send(machine, order(client_order_id=str(number)))
    assert code(machine, order()) == "ORDER_RATE"
    assert code(machine, order(account="other")) is None
    assert code(machine, order(), now=NOW + SECOND // 3) is None


def test_cancels_and_amendments_count_in_the_rate() -> None:
    machine = controls(LimitSet(order_rate=Rate(count=2)))
    machine.message_sent("main", "", NOW)
    machine.message_sent("other", "mm", NOW)
    assert code(machine, order()) == "ORDER_RATE"


def test_refused_messages_do_not_lock_out_for_longer() -> None:
    machine = controls(LimitSet(order_rate=Rate(count=2)))
    for _ in range(100):
        machine.order_sent(order(), NOW)
    assert code(machine, order(), now=NOW + SECOND // 2) is None


def test_a_rate_of_zero_admits_nothing() -> None:
    assert code(controls(LimitSet(order_rate=Rate(count=0))), order()) == "ORDER_RATE"


# ── row 5: duplicates ──


def test_the_same_content_within_the_window_is_a_duplicate() -> None:
    machine = controls(LimitSet(duplicate_window_ns=SECOND))
    send(machine, order())
    assert code(machine, order(client_order_id="c2"), now=NOW + SECOND - 1) == "DUPLICATE_ORDER"
    assert code(machine, order(client_order_id="c2"), now=NOW + SECOND) is None
    assert code(machine, order(client_order_id="c2", quantity=2 * UNIT)) is None
    assert code(machine, order(client_order_id="c2", account="other")) is None


def test_an_order_that_was_refused_is_no_original() -> None:
    machine = controls(LimitSet(duplicate_window_ns=SECOND))
    machine.order_sent(order(), NOW)
    assert code(machine, order(client_order_id="c2")) is None


# ── row 6: what is sent counts at once ──


def test_a_sent_order_counts_before_any_answer_of_the_venue() -> None:
    machine = controls(
        LimitSet(max_open_orders=1, max_position=UNIT, max_gross_exposure=45_000 * UNIT, max_net_exposure=45_000 * UNIT)
    )
    assert code(machine, order()) is None
    send(machine, order())
    refused = {each.code for each in machine.explain(order(client_order_id="c2"), MARKET, NOW) if not each.passed}
    assert refused == {"MAX_OPEN_ORDERS", "MAX_POSITION", "CREDIT_THRESHOLD", "MAX_NET_EXPOSURE"}


def test_a_closed_order_counts_no_longer() -> None:
    machine = controls(LimitSet(max_open_orders=1, max_gross_exposure=45_000 * UNIT))
    spec = send(machine, order())
    machine.order_changed(spec, spec.quantity, PRICE, 0, 0)
    assert code(machine, order()) is None
    assert machine.exposure("firm").gross == 0


def test_the_number_of_open_orders_is_limited() -> None:
    machine = controls(strategies={"mm": LimitSet(max_open_orders=1)})
    send(machine, order(strategy="mm"))
    assert code(machine, order(strategy="mm")) == "MAX_OPEN_ORDERS"
    assert code(machine, order(strategy="other")) is None


def test_a_position_counts_with_the_open_orders_of_its_side() -> None:
    machine = controls(LimitSet(max_position=3 * UNIT))
    machine.filled(fill(2), NOW)
    send(machine, order())
    assert code(machine, order(client_order_id="c2")) == "MAX_POSITION"
    assert code(machine, order(side="SELL", quantity=5 * UNIT)) is None
    assert code(machine, order(side="SELL", quantity=6 * UNIT)) == "MAX_POSITION"


def test_the_position_of_a_strategy_is_its_own() -> None:
    machine = controls(strategy_default=LimitSet(max_position=UNIT))
    machine.filled(fill(1, strategy="a"), NOW)
    assert code(machine, order(strategy="a")) == "MAX_POSITION"
    assert code(machine, order(strategy="b")) is None


def test_net_exposure_lets_a_hedge_pass() -> None:
    machine = controls(LimitSet(max_net_exposure=50_000 * UNIT))
    machine.filled(fill(1), NOW)
    assert code(machine, order()) == "MAX_NET_EXPOSURE"
    assert code(machine, order(side="SELL", quantity=2 * UNIT)) is None
    assert code(machine, order(side="SELL", quantity=3 * UNIT)) == "MAX_NET_EXPOSURE"


def test_a_reducing_order_passes_every_exposure_limit() -> None:
    machine = controls()
    machine.filled(fill(2), NOW)
    zero = LimitSet(max_gross_exposure=0, max_net_exposure=0, max_position=0)
    machine.limits_adopted(LimitBook(version=2, stack=zero))
    assert code(machine, order(side="SELL", quantity=2 * UNIT)) is None
    send(machine, order(side="SELL", quantity=UNIT))
    assert code(machine, order(side="SELL", quantity=UNIT)) is None
    assert code(machine, order(side="SELL", quantity=UNIT + 1)) == "MAX_POSITION"
    assert code(machine, order()) == "MAX_POSITION"


def test_a_daily_loss_halts_the_account_until_a_person_resumes_it() -> None:
    machine = controls(account_default=LimitSet(max_daily_loss=1_000 * UNIT))
    machine.filled(fill(1), NOW)
    machine.filled(fill(1, price=PRICE - 1_000 * UNIT, side="SELL"), NOW)
    assert machine.to_halt(NOW) == []
    assert code(machine, order()) is None
    machine.filled(fill(1, fee=UNIT * UNIT), NOW)
    (halt,) = machine.to_halt(NOW)
    assert (halt.scope, halt.halt, halt.cause, halt.by) == ("account:main", True, "breach", "controls")
    assert code(machine, order()) == "MAX_DAILY_LOSS"
    machine.killed(halt)
    assert machine.to_halt(NOW) == []
    assert code(machine, order()) == "MAX_DAILY_LOSS"
    assert code(machine, order(account="other")) is None
    assert code(machine, order(side="SELL", reduce_only=True)) is None
    machine.resumed(Resumed(scope="account:main", reason="signed off", by="ann"))
    assert code(machine, order()) is None


def test_the_loss_of_yesterday_does_not_count_today_but_its_halt_does() -> None:
    machine = controls(account_default=LimitSet(max_daily_loss=0))
    machine.filled(fill(1, fee=UNIT * UNIT), NOW)
    tomorrow = NOW + 86_400 * SECOND
    (halt,) = machine.to_halt(NOW)
    machine.killed(halt)
    assert code(machine, order(), now=tomorrow) == "MAX_DAILY_LOSS"
    machine.resumed(Resumed(scope="account:main", reason="new day", by="ann"))
    assert code(machine, order(), now=tomorrow) is None


# ── row 7: repeated execution ──


def test_a_strategy_that_executes_too_often_is_halted_until_a_person_resumes_it() -> None:
    machine = controls(strategies={"mm": LimitSet(max_executions=Rate(count=3, per_ns=60 * SECOND))})
    for _ in range(3):
        machine.filled(fill(1, strategy="mm"), NOW)
    assert machine.to_halt(NOW) == []
    machine.filled(fill(1, strategy="mm"), NOW)
    (halt,) = machine.to_halt(NOW)
    assert (halt.scope, halt.halt, halt.cause, halt.by) == ("strategy:mm", True, "repeated_execution", "controls")
    machine.killed(halt)
    later = NOW + 3_600 * SECOND
    assert code(machine, order(strategy="mm"), now=later) == "REPEATED_EXECUTION"
    assert code(machine, order(strategy="calm")) is None
    machine.resumed(Resumed(scope="strategy:mm", reason="fixed", by="ann"))
    assert code(machine, order(strategy="mm")) is None
    machine.filled(fill(1, strategy="mm"), NOW)
    assert machine.to_halt(NOW) == []


# ── rows 8 and 13: permissions ──


@pytest.mark.parametrize("listed", ["BTCUSDT", "BTCUSDT.SIM"])
def test_a_restricted_instrument_is_refused(listed: str) -> None:
    assert code(controls(LimitSet(restricted=[listed])), order()) == "RESTRICTED"
    assert code(controls(LimitSet(restricted=["ETHUSDT"])), order()) is None


def test_an_instrument_that_the_trader_may_not_trade_is_refused() -> None:
    machine = controls(traders={"ann": LimitSet(allowed_instruments=["ETHUSDT"])})
    assert code(machine, order(trader="ann")) == "NOT_PERMITTED"
    assert code(machine, order(trader="ann", instrument="ETHUSDT.SIM")) is None
    assert code(machine, order(trader="bob")) is None


def test_a_venue_that_the_desk_may_not_use_is_refused() -> None:
    machine = controls(desks={"fx": LimitSet(allowed_venues=["OTHER"])})
    assert code(machine, order(desk="fx")) == "NOT_PERMITTED"
    assert code(machine, order(desk="fx", instrument="BTCUSDT.OTHER")) is None


def test_an_empty_list_of_instruments_permits_none() -> None:
    assert code(controls(LimitSet(allowed_instruments=[])), order()) == "NOT_PERMITTED"


# ── row 12: kill and halt ──


@pytest.mark.parametrize(
    "scope",
    [
        "stack",
        "account:main",
        "strategy:mm",
        "instrument:BTCUSDT.SIM",
        "venue:SIM",
        "desk:d",
        "trader:t",
        "client:c",
    ],
)
def test_a_kill_stops_its_scope_and_nothing_else(scope: str) -> None:
    inside = order(strategy="mm", desk="d", trader="t", client="c")
    outside = order(account="x", instrument="ETHUSDT.OTHER", strategy="y", desk="e", trader="u", client="f")
    machine = controls()
    machine.killed(Killed(scope=scope, reason="test", by="ann"))
    assert code(machine, inside) == "KILLED"
    assert code(machine, outside) == ("KILLED" if scope == "stack" else None)
    machine.resumed(Resumed(scope=scope, reason="over", by="ann"))
    assert code(machine, inside) is None


def test_a_halt_lets_reduce_only_orders_pass_but_a_kill_does_not() -> None:
    machine = controls()
    machine.filled(fill(2), NOW)
    reducing = order(side="SELL", reduce_only=True)
    machine.killed(Killed(scope="stack", reason="test", by="ann", halt=True))
    assert code(machine, order()) == "HALTED"
    assert code(machine, order(side="SELL")) == "HALTED"
    assert code(machine, reducing) is None
    machine.killed(Killed(scope="stack", reason="worse", by="ann"))
    assert code(machine, reducing) == "KILLED"


def test_a_reduce_only_order_that_would_open_or_turn_a_position_is_refused() -> None:
    machine = controls()
    assert code(machine, order(side="SELL", reduce_only=True)) == "REDUCE_ONLY"
    machine.filled(fill(1), NOW)
    assert code(machine, order(side="SELL", reduce_only=True)) is None
    assert code(machine, order(side="SELL", reduce_only=True, quantity=2 * UNIT)) == "REDUCE_ONLY"
    assert code(machine, order(side="BUY", reduce_only=True)) == "REDUCE_ONLY"


def test_a_stop_names_who_did_it_and_why() -> None:
    machine = controls()
    machine.killed(Killed(scope="account:main", reason="runaway", by="ann"))
    check = machine.check(order(), MARKET, NOW)
    assert check is not None
    assert check.scope == "account:main"
    assert "killed by ann: runaway" in check.message


# ── amendments ──


def test_an_amendment_counts_its_difference_but_its_size_as_a_whole() -> None:
    machine = controls(LimitSet(max_open_orders=1, max_order_quantity=3 * UNIT, max_gross_exposure=90_000 * UNIT))
    spec = send(machine, order())

    def amended(quantity: int) -> str | None:
        counted = (spec.quantity, PRICE)
        check = machine.check_amendment(order(quantity=quantity * UNIT), quantity * UNIT, counted, MARKET, NOW)
        return check.code if check else None

    assert amended(2) is None
    assert amended(3) == "CREDIT_THRESHOLD"
    assert amended(4) == "MAX_ORDER_QUANTITY"


def test_exposure_is_known_for_each_who_may_ask() -> None:
    machine = controls()
    names = {"strategy": "s", "trader": "t", "desk": "d", "client": "c"}
    send(machine, order(**names))
    machine.filled(fill(2, **names), NOW)
    for kind, name in [("firm", ""), ("account", "main"), ("instrument", "BTCUSDT.SIM"), *names.items()]:
        exposure = machine.exposure(kind, name)
        assert (exposure.net, exposure.gross) == (90_000 * UNIT, 135_000 * UNIT), kind
        assert (exposure.reserved, exposure.open_orders) == (45_000 * UNIT, 1), kind
    assert machine.exposure("account", "nobody").gross == 0
