"""P&L against a slow model, across currencies, and over time."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain import events as ev
from trade2026.domain.instruments import Instrument
from trade2026.pnl import machine as subject
from trade2026.pnl.machine import Close, Curve, PnlMachine

UNIT = 10**9
BTC, ETHBTC = "BTCUSDT.SIM", "ETHBTC.SIM"
TRADES = st.lists(
    st.tuples(
        st.sampled_from(["main", "second"]),
        st.sampled_from([BTC, ETHBTC]),
        st.sampled_from(["", "mm"]),
        st.integers(-60, 60).filter(bool),
        st.integers(1, 10**12),
        st.integers(-5, 5),
    ),
    max_size=30,
)
Trade = tuple[str, str, str, int, int, int]


def instrument(symbol: str, base: str, quote: str) -> Instrument:
    return Instrument(symbol=symbol, venue="SIM", base=base, quote=quote, settlement=quote, tick_size=1, lot_size=1)


INSTRUMENTS = {
    found.instrument_id: found for found in (instrument("BTCUSDT", "BTC", "USDT"), instrument("ETHBTC", "ETH", "BTC"))
}


def fill(
    seq: int, account: str, name: str, strategy: str, quantity: int, price: int, fee: int = 0, multiplier: int = UNIT
) -> ev.Envelope:
    data = ev.OrderFilled(
        order_id=f"o0-{seq}",
        exec_id=f"x{seq}",
        account=account,
        instrument=name,
        side="BUY" if quantity > 0 else "SELL",
        last_qty=abs(quantity),
        last_px=price,
        fee=fee,
        multiplier=multiplier,
        cum_qty=abs(quantity),
        leaves_qty=0,
        cum_cost=abs(quantity) * price,
        strategy=strategy,
    )
    return ev.Envelope(seq, 1, seq * UNIT, seq * UNIT, "desk", "local", data.order_id, "", "", data)


def empty(method: subject.Method = "average") -> PnlMachine:
    return PnlMachine("USDT", INSTRUMENTS, method)


def folded(trades: list[Trade], into: PnlMachine | None = None) -> PnlMachine:
    machine = into or empty()
    for trade in trades:
        machine.apply(fill(machine.next_seq, *trade))
    return machine


@given(TRADES)
def test_average_cost_agrees_with_exact_fractions_to_the_rounding_of_each_close(trades: list[Trade]) -> None:
    machine = folded(trades)
    quantity: dict[tuple[str, str], int] = {}
    average: dict[tuple[str, str], Fraction] = {}
    realized: dict[tuple[str, str], Fraction] = {}
    for account, name, _, signed, price, _ in trades:
        key = (account, name)
        held, cost = quantity.get(key, 0), average.get(key, Fraction(0))
        if held * signed >= 0:
            average[key] = (cost * abs(held) + price * abs(signed)) / (abs(held) + abs(signed))
        else:
            closing = min(abs(held), abs(signed))
            realized[key] = realized.get(key, Fraction(0)) + (price - cost) * closing * (1 if held > 0 else -1)
            if abs(signed) > abs(held):
                average[key] = Fraction(price)
        quantity[key] = held + signed
    for key, position in machine.positions.items():
        assert position.quantity == quantity[key]
        assert abs(position.realized - realized.get(key, Fraction(0))) <= len(trades)


@given(TRADES, st.integers(1, 10**12))
def test_total_pnl_is_the_cash_that_moved_plus_what_the_rest_is_worth(trades: list[Trade], mark: int) -> None:
    machine = folded([trade for trade in trades if trade[1] == BTC])
    machine.mark(BTC, mark)
    for account in machine.accounts():
        expected = sum(
            signed * (mark - price) - fee
            for owner, name, _, signed, price, fee in trades
            if (owner, name) == (account, BTC)
        )
        assert machine.equity(account) == expected


@given(TRADES)
def test_what_fills_realized_adds_up_to_the_totals_of_the_account(trades: list[Trade]) -> None:
    machine, sums = empty(), {}
    for trade in trades:
        ((_, event),) = machine.apply(fill(machine.next_seq, *trade))
        key = (event.account, event.currency)
        realized, fees = sums.get(key, (0, 0))
        sums[key] = (realized + event.realized, fees + event.fee)
        assert (event.total_realized, event.total_fees) == sums[key]


@given(TRADES, st.integers(0, 30))
def test_a_snapshot_and_the_tail_equal_a_full_replay(trades: list[Trade], cut: int) -> None:
    restored = empty()
    restored.restore(folded(trades[:cut]).snapshot())
    before_snapshot = list(_events(folded(trades[:cut]), trades[cut:], cut))
    after_snapshot = list(_events(restored, trades[cut:], cut))
    assert after_snapshot == before_snapshot
    assert restored.snapshot() == folded(trades).snapshot()


def _events(machine: PnlMachine, trades: list[Trade], begin: int) -> list[list[tuple[int, ev.PnlRealized]]]:
    return [machine.apply(fill(begin + number, *trade)) for number, trade in enumerate(trades)] if trades else []


def test_another_currency_is_converted_at_the_market() -> None:
    machine = folded([("main", ETHBTC, "", 10, 2 * UNIT, 0), ("main", ETHBTC, "", -10, 3 * UNIT, 0)])
    parts = machine.by_currency(machine.positions_of("main").items())
    assert machine.in_base(parts)[1] == ["BTC"]
    machine.mark(BTC, 50_000 * UNIT)
    total, missing = machine.in_base(parts)
    assert (total.currency, total.realized, missing) == ("USDT", 10 * UNIT * 50_000, [])


def test_strategies_are_accounted_apart_and_the_account_nets_them() -> None:
    machine = folded([("main", BTC, "a", 1, 100, 0), ("main", BTC, "b", -1, 130, 0)])
    assert machine.positions["main", BTC].realized == 30
    assert machine.by_strategy["main", "a", BTC].realized == 0
    assert machine.by_strategy["main", "b", BTC].quantity == -1


METHODS = st.sampled_from(["average", "fifo", "lifo"])


@given(TRADES, METHODS, st.sampled_from([UNIT, 50 * UNIT, 7]))
def test_strategies_sum_up_to_the_account_by_every_method(
    trades: list[Trade], method: subject.Method, multiplier: int
) -> None:
    machine = empty(method)
    for trade in trades:
        machine.apply(fill(machine.next_seq, *trade, multiplier=multiplier))
    for (account, name), whole in machine.positions.items():
        parts = [part for (owner, _, held), part in machine.by_strategy.items() if (owner, held) == (account, name)]
        assert sum(part.quantity for part in parts) == whole.quantity
        assert sum(part.fees for part in parts) == whole.fees
        mark = machine.marks[name]
        # A value is rounded down once per position where a multiplier makes it uneven.
        difference = sum(part.realized + part.unrealized(mark) for part in parts) - whole.realized
        assert abs(difference - whole.unrealized(mark)) <= (0 if multiplier >= UNIT else len(parts))


@given(TRADES, METHODS)
def test_realized_and_unrealized_are_together_the_same_by_every_method(
    trades: list[Trade], method: subject.Method
) -> None:
    machine, average = folded(trades, empty(method)), folded(trades)
    for account in machine.accounts():
        currencies = 2  # each conversion of a part is rounded down
        assert abs(machine.equity(account) - average.equity(account)) <= 2 * currencies


def test_first_in_first_out_realizes_the_oldest_price() -> None:
    trades: list[Trade] = [("main", BTC, "", 1, 100, 0), ("main", BTC, "", 1, 120, 0), ("main", BTC, "", -1, 130, 0)]
    realized = {
        method: folded(trades, empty(method)).positions["main", BTC].realized  # type: ignore[arg-type]
        for method in ("average", "fifo", "lifo")
    }
    assert realized == {"average": 20, "fifo": 30, "lifo": 10}


def test_a_snapshot_of_another_method_is_not_taken() -> None:
    with pytest.raises(ValueError, match="it tells P&L by average, this is fifo"):
        empty("fifo").restore(folded([("main", BTC, "", 1, 100, 0)]).snapshot())


def test_a_record_without_a_multiplier_counts_with_one() -> None:
    body = ev.encode(fill(0, "main", BTC, "", 2, 100)).replace(b'"multiplier":1000000000,', b"")
    assert b"multiplier" not in body
    machine = empty()
    machine.apply(ev.decode(body))
    machine.mark(BTC, 110)
    assert machine.equity("main") == 20


def test_the_close_of_a_day_is_its_last_equity() -> None:
    machine = folded([("main", BTC, "", 1, 100, 0)])
    for ts, price in ((UNIT, 110), (2 * UNIT, 105), (subject.DAY_NS, 120)):
        machine.mark(BTC, price)
        machine.sample(ts)
    assert machine.closes["main"] == [Close(0, 5), Close(1, 20)]


# ── the equity curve ────────────────────────────────────────────────────────────────────────────


def test_a_second_has_one_point_and_the_newest_equity_stays() -> None:
    curve = Curve()
    curve.add(5 * UNIT, 10)
    curve.add(5 * UNIT + 999, 7)
    assert [(point.ts, point.equity, point.drawdown) for point in curve.points] == [(5 * UNIT, 7, 3)]


def test_an_equity_that_did_not_change_makes_no_point() -> None:
    curve = Curve()
    for second in range(10):
        curve.add(second * UNIT, 4)
    assert len(curve.points) == 1


def test_drawdown_is_counted_from_the_highest_equity() -> None:
    curve = Curve()
    for second, equity in enumerate([10, 30, 5, 20]):
        curve.add(second * UNIT, equity)
    assert [point.drawdown for point in curve.points] == [0, 0, 25, 10]
    assert curve.max_drawdown == 25


def test_a_full_curve_is_thinned_and_keeps_its_newest_point() -> None:
    curve = Curve()
    for second in range(3 * subject.POINTS_MAX):
        curve.add(second * UNIT, second)
    assert len(curve.points) <= subject.POINTS_MAX
    assert curve.points[-1].equity == 3 * subject.POINTS_MAX - 1
    times = [point.ts for point in curve.points]
    assert times == sorted(set(times))
    assert curve.interval > UNIT


def test_prices_move_the_equity_of_those_who_hold_the_instrument() -> None:
    machine = folded([("main", BTC, "", 2, 100, 0), ("second", BTC, "", 1, 100, 0), ("second", BTC, "", -1, 100, 0)])
    machine.mark(BTC, 90)
    machine.sample(10 * UNIT)
    assert machine.curves["main"].points[-1].equity == -20
    assert machine.curves["main"].max_drawdown == 20
    assert machine.marked_since > 0, "what is worth between fills is known from here on"
    assert machine.curves["second"].points[-1].ts < 10 * UNIT
