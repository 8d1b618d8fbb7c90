"""Lots and positions against slow models, and statements against positions."""

from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain import events as ev
from trade2026.ptrc.machine import PositionMachine
from trade2026.ptrc.reconciliation import StatedFill

UNIT = 10**9
TRADES = st.lists(
    st.tuples(
        st.sampled_from(["main", "second"]),
        st.sampled_from(["BTCUSDT.SIM", "ETHUSDT.SIM"]),
        st.sampled_from(["", "mm"]),
        st.integers(-60, 60).filter(bool),
        st.integers(1, 10**30),
    ),
    max_size=30,
)


def fill(
    seq: int, account: str, instrument: str, strategy: str, quantity: int, price: int, fee: int = 0
) -> ev.Envelope:
    data = ev.OrderFilled(
        order_id=f"o0-{seq}",
        exec_id=f"x{seq}",
        account=account,
        instrument=instrument,
        side="BUY" if quantity > 0 else "SELL",
        last_qty=abs(quantity),
        last_px=price,
        fee=fee,
        cum_qty=abs(quantity),
        leaves_qty=0,
        cum_cost=abs(quantity) * price,
        strategy=strategy,
    )
    return ev.Envelope(seq, 1, 1000 + seq, 1000 + seq, "desk", "local", data.order_id, "", "", data)


def folded(trades: list[tuple[str, str, str, int, int]], into: PositionMachine | None = None) -> PositionMachine:
    machine = into or PositionMachine()
    for trade in trades:
        machine.apply(fill(machine.next_seq, *trade))
    return machine


@given(TRADES)
def test_lots_make_up_every_position(trades: list[tuple[str, str, str, int, int]]) -> None:
    for holding in folded(trades).holdings.values():
        position, book = holding.position, holding.book
        assert book.quantity == position.quantity
        assert book.realized - book.open_cost == position.realized - position.open_cost


@given(TRADES)
def test_strategies_make_up_the_account(trades: list[tuple[str, str, str, int, int]]) -> None:
    machine = folded(trades)
    for account in machine.accounts():
        holdings = machine.holdings_of(account)
        for instrument, position in machine.positions_of(account).items():
            assert sum(holding.position.quantity for _, holding in holdings[instrument]) == position.quantity
            assert position.quantity == sum(trade[3] for trade in trades if trade[:2] == (account, instrument))


@given(TRADES, st.integers(0, 30))
def test_a_snapshot_and_the_tail_equal_a_full_replay(trades: list[tuple[str, str, str, int, int]], cut: int) -> None:
    restored = PositionMachine()
    restored.restore(folded(trades[:cut]).snapshot())
    whole = folded(trades)
    assert folded(trades[cut:], restored).snapshot() == whole.snapshot()
    assert restored.next_seq == len(trades)


def test_a_fill_answers_with_the_position_of_its_strategy_after_it() -> None:
    machine = folded([("main", "BTCUSDT.SIM", "", 5, 100)])
    ((_, changed),) = machine.apply(fill(1, "main", "BTCUSDT.SIM", "mm", 2, 110, fee=7))
    assert (changed.strategy, changed.quantity, changed.open_cost, changed.fees) == ("mm", 2, 220, 7)
    assert (changed.exec_id, changed.as_of, machine.last_fill_seq) == ("x1", 1, 1)


def test_other_events_only_move_the_position_in_the_log() -> None:
    machine = PositionMachine()
    data = ev.OrderOpened(order_id="o0-0")
    assert machine.apply(ev.Envelope(0, 1, 1, 1, "desk", "local", "", "", "", data)) == []
    assert (machine.next_seq, machine.last_fill_seq, machine.positions) == (1, -1, {})


# ── reconciliation ──────────────────────────────────────────────────────────────────────────────


def two_fills() -> PositionMachine:
    return folded([("main", "BTCUSDT.SIM", "", 5, 100), ("main", "BTCUSDT.SIM", "mm", -2, 110)])


def test_a_statement_that_agrees_has_no_breaks() -> None:
    stated = [StatedFill("x0", "BTCUSDT.SIM", 5), StatedFill("x1")]
    assert two_fills().reconcile("main", "SIM", {"BTCUSDT.SIM": 3}, stated) == []


def test_a_fill_that_only_the_venue_has_explains_the_difference() -> None:
    stated = [StatedFill("x0"), StatedFill("x1"), StatedFill("x9", "BTCUSDT.SIM", 4)]
    (found,) = two_fills().reconcile("main", "SIM", {"BTCUSDT.SIM": 7}, stated)
    assert [(cause.kind, cause.exec_id) for cause in found.causes] == [("missing_fill", "x9")]
    assert found.explained


def test_a_fill_that_the_venue_does_not_state_explains_the_difference() -> None:
    (found,) = two_fills().reconcile("main", "SIM", {"BTCUSDT.SIM": 5}, [StatedFill("x0")])
    assert [(cause.kind, cause.exec_id, cause.signed_quantity) for cause in found.causes] == [("unknown_fill", "x1", 2)]
    assert found.explained


def test_fills_before_the_statement_are_outside_of_it() -> None:
    assert two_fills().reconcile("main", "SIM", {"BTCUSDT.SIM": 3}, [StatedFill("x1")]) == []


def test_a_fill_of_another_size_is_a_break_even_when_the_totals_agree() -> None:
    stated = [StatedFill("x0", "BTCUSDT.SIM", 6), StatedFill("x1")]
    (found,) = two_fills().reconcile("main", "SIM", {"BTCUSDT.SIM": 3}, stated)
    assert [(cause.kind, cause.signed_quantity) for cause in found.causes] == [("fill_differs", 1)]
    assert not found.explained


def test_a_difference_without_fills_is_not_explained() -> None:
    (found,) = two_fills().reconcile("main", "SIM", {}, None)
    assert (found.ours, found.theirs, found.causes, found.explained) == (3, 0, [], False)


def test_other_venues_and_accounts_are_not_compared() -> None:
    machine = folded([("second", "BTCUSDT.SIM", "", 5, 100), ("main", "BTCUSDT.OTHER", "", 5, 100)])
    assert machine.reconcile("main", "SIM", {}, []) == []
