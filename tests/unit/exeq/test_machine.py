"""Parents under any order of slices, fills, refusals, pauses and cancels; a venue and a log that the test holds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trade2026.domain import events as ev
from trade2026.domain.events import Envelope, decode, encode
from trade2026.domain.instruments import Instrument
from trade2026.domain.numbers import SCALE
from trade2026.domain.orders import OrderType, OrdStatus
from trade2026.domain.parents import Algo, MarketSeen, ParentSpec, ParentStatus
from trade2026.exeq import commands as cmd
from trade2026.exeq.machine import ExecutionMachine, ParentError, slice_quantity_max
from trade2026.exeq.parents import Child, Parent

T0 = 1_700_000_000 * 10**9
SECOND = 10**9
LOT = SCALE // 1_000
SYMBOL = "BTCUSDT.SIM"
INSTRUMENTS = {
    SYMBOL: Instrument(
        symbol="BTCUSDT",
        venue="SIM",
        base="BTC",
        quote="USDT",
        settlement="USDT",
        tick_size=SCALE // 100,
        lot_size=LOT,
    )
}


@dataclass
class Desk:
    """A machine, its log, and the time."""

    machine: ExecutionMachine = field(default_factory=lambda: ExecutionMachine(INSTRUMENTS))
    log: list[bytes] = field(default_factory=list)
    now: int = T0
    market: MarketSeen = field(default_factory=lambda: MarketSeen(100 * SCALE, 0, 0, 0))
    orders_seq: int = -1

    def emit(self, event: Any) -> None:
        seq = self.machine.next_seq
        envelope = Envelope(seq, 1, self.now, self.now, "t", "local", "", "", "", event)
        self.machine.apply(envelope)
        self.log.append(encode(envelope))

    def ask(self, command: Any) -> Any:
        return self.machine.decide(command, self.emit)

    def accept(self, name: str = "a", **terms: Any) -> Parent:
        return self.machine.parents[
            self.ask(cmd.AcceptParent(ts=self.now, spec=spec(name, **terms), market=self.market))
        ]

    def advance(self, seconds: float = 0, *, traded: int = 0, price: int = 100 * SCALE) -> None:
        self.now += int(seconds * SECOND)
        seen = self.market
        self.market = MarketSeen(price, seen.volume + traded, seen.value + traded * price, seen.next_seq + 1)
        self.ask(cmd.PassTime(ts=self.now, markets={SYMBOL: self.market}))

    def report(self, parent: Parent, child: Child, status: OrdStatus | None = None, **more: Any) -> None:
        self.orders_seq += 1
        report = ev.ChildReported(
            parent_id=parent.parent_id,
            number=child.number,
            child_order_id=f"o-{parent.parent_id}-{child.number}",
            status=status,
            orders_seq=self.orders_seq,
            **more,
        )
        self.ask(cmd.ReportChild(ts=self.now, report=report, market=self.market))

    def fill(self, parent: Parent, child: Child, quantity: int | None = None) -> None:
        more = child.leaves if quantity is None else min(quantity, child.leaves)
        cum = child.cum_qty + more
        status = OrdStatus.FILLED if cum == child.quantity else OrdStatus.PARTIALLY_FILLED
        cost = child.cum_cost + more * self.market.price
        self.report(parent, child, status, cum_qty=cum, cum_cost=cost)

    def restarted(self) -> ExecutionMachine:
        """From a snapshot."""
        again = ExecutionMachine(self.machine.instruments)
        again.restore(self.machine.snapshot())
        return again

    def replayed(self) -> ExecutionMachine:
        machine = ExecutionMachine(INSTRUMENTS)
        for body in self.log:
            machine.apply(decode(body))
        return machine


def spec(name: str = "a", **terms: Any) -> ParentSpec:
    given_terms: dict[str, Any] = {
        "side": "BUY",
        "algo": Algo.TWAP,
        "quantity": SCALE,
        "duration": 10 * SECOND,
        "slices": 10,
    } | terms
    return ParentSpec(client_order_id=name, account="main", instrument=SYMBOL, **given_terms)


def state(machine: ExecutionMachine) -> bytes:
    return msgspec.json.encode([machine.parents, sorted(machine.open), machine.markets, machine.orders_seq])


def test_a_twap_is_ten_equal_children_when_each_fills() -> None:
    desk = Desk()
    parent = desk.accept()
    for _ in range(10):
        desk.fill(parent, parent.children[-1])
        desk.advance(1)
    assert [child.quantity for child in parent.children] == [SCALE // 10] * 10
    assert {child.spec.order_type for child in parent.children} == {OrderType.MARKET}
    assert (parent.status, parent.filled) == (ParentStatus.FILLED, SCALE)
    assert parent.children[3].spec.client_order_id == "e0-0-3"
    assert not desk.machine.open


def test_a_vwap_follows_its_profile() -> None:
    desk = Desk()
    parent = desk.accept(algo=Algo.VWAP, profile=(1, 3, 4, 2), slices=4)
    for _ in range(4):
        desk.fill(parent, parent.children[-1])
        desk.advance(2.5)
    assert [child.quantity for child in parent.children] == [SCALE // 10, 3 * SCALE // 10, 4 * SCALE // 10, SCALE // 5]


def test_nothing_begins_before_the_start() -> None:
    desk = Desk()
    parent = desk.accept(start_at=T0 + 5 * SECOND)
    desk.advance(4)
    assert not parent.children
    assert desk.machine.next_due() == T0 + 5 * SECOND
    desk.advance(1, price=110 * SCALE)
    assert len(parent.children) == 1
    assert parent.benchmarks.arrival == 110 * SCALE


def test_a_parent_that_is_behind_catches_up_within_its_bound_and_without_a_burst() -> None:
    desk = Desk()
    parent = desk.accept(catch_up_bps=5_000)
    desk.fill(parent, parent.children[0])
    desk.advance(5)  # four slices were missed
    assert len(parent.children) == 2
    assert parent.children[1].quantity == 150 * LOT


def test_children_are_never_larger_than_the_limit() -> None:
    desk = Desk()
    parent = desk.accept(child_quantity_max=40 * LOT)
    for _ in range(12):
        desk.advance(1)
    assert {child.quantity for child in parent.children} == {40 * LOT}
    assert parent.committed == 400 * LOT


def test_participation_waits_for_the_market() -> None:
    desk = Desk()
    parent = desk.accept(participation_bps=1_000)
    assert not parent.children
    desk.advance(1, traded=SCALE // 2)
    assert parent.children[0].quantity == 50 * LOT
    desk.advance(1)
    assert len(parent.children) == 1


def test_a_pause_cancels_what_works_and_lets_nothing_begin() -> None:
    desk = Desk()
    parent = desk.accept()
    desk.ask(cmd.PauseParent(ts=desk.now, parent_id=parent.parent_id, reason="news"))
    assert parent.children[0].cancel_decided
    desk.report(parent, parent.children[0], OrdStatus.CANCELED)
    desk.advance(3)
    assert (len(parent.children), parent.status, parent.reason) == (1, ParentStatus.PAUSED, "news")
    desk.ask(cmd.ResumeParent(ts=desk.now, parent_id=parent.parent_id))
    desk.advance(0)
    assert parent.children[1].quantity == 200 * LOT  # what is due at 3 s, as far as the bound allows


def test_a_cancel_ends_when_no_child_works() -> None:
    desk = Desk()
    parent = desk.accept(price=100 * SCALE)
    desk.advance(1)
    desk.ask(cmd.CancelParent(ts=desk.now, parent_id=parent.parent_id))
    assert parent.status is ParentStatus.CANCELING
    desk.advance(3)
    assert len(parent.children) == 2
    desk.fill(parent, parent.children[0])
    assert parent.is_open
    desk.report(parent, parent.children[1], OrdStatus.CANCELED)
    assert (parent.status, parent.filled) == (ParentStatus.CANCELED, 100 * LOT)


def test_a_cancel_that_was_refused_is_asked_for_again() -> None:
    desk = Desk()
    parent = desk.accept(algo=Algo.LIMIT, price=100 * SCALE, duration=0)
    desk.ask(cmd.CancelParent(ts=desk.now, parent_id=parent.parent_id))
    desk.report(parent, parent.children[0], cancel_rejected=True)
    before = len(desk.log)
    assert desk.machine.next_due() == desk.now + SECOND
    desk.advance(1)
    assert isinstance(decode(desk.log[before]).data, ev.ChildCancelDecided)
    assert len(desk.log) == before + 1


def test_what_is_left_at_the_end_expires_after_its_children_are_cancelled() -> None:
    desk = Desk()
    parent = desk.accept(price=100 * SCALE)
    desk.advance(10)
    assert parent.status is ParentStatus.EXPIRING
    desk.report(parent, parent.children[0], OrdStatus.CANCELED)
    assert parent.status is ParentStatus.EXPIRED


def test_a_paused_parent_expires_too() -> None:
    desk = Desk()
    parent = desk.accept()
    desk.fill(parent, parent.children[0])
    desk.ask(cmd.PauseParent(ts=desk.now, parent_id=parent.parent_id))
    desk.advance(10)
    assert parent.status is ParentStatus.EXPIRED


def test_three_refused_children_in_a_row_pause_the_parent() -> None:
    desk = Desk()
    parent = desk.accept()
    for _ in range(3):
        desk.report(parent, parent.children[-1], OrdStatus.REJECTED, reason="limit")
        desk.advance(1)
    assert parent.status is ParentStatus.PAUSED
    assert parent.reason == "3 children in a row were refused: limit"
    assert len(parent.children) == 3


@pytest.mark.parametrize("algo", [Algo.MARKET, Algo.LIMIT, Algo.STOP])
def test_other_types_pass_through_as_one_child(algo: Algo) -> None:
    desk = Desk()
    prices = {Algo.MARKET: {}, Algo.LIMIT: {"price": 90 * SCALE}, Algo.STOP: {"stop_price": 110 * SCALE}}[algo]
    parent = desk.accept(algo=algo, duration=0, slices=1, **prices)
    (child,) = parent.children
    assert (child.spec.order_type, child.quantity) == (algo.value, SCALE)
    assert (child.spec.price, child.spec.stop_price) == (prices.get("price", 0), prices.get("stop_price", 0))
    desk.advance(1)
    desk.fill(parent, child, SCALE // 2)
    desk.fill(parent, child)
    assert parent.status is ParentStatus.FILLED


def test_a_passed_through_order_that_is_refused_or_lost_ends_its_parent() -> None:
    desk = Desk()
    refused = desk.accept("r", algo=Algo.MARKET, duration=0)
    desk.report(refused, refused.children[0], OrdStatus.REJECTED, reason="limit")
    assert (refused.status, refused.reason) == (ParentStatus.REJECTED, "limit")
    lost = desk.accept("l", algo=Algo.LIMIT, price=SCALE, duration=0)
    desk.report(lost, lost.children[0], OrdStatus.CANCELED, reason="killed")
    assert (lost.status, lost.reason) == (ParentStatus.CANCELED, "killed")


def test_an_amended_passed_through_order_is_cancelled_then_placed_anew() -> None:
    desk = Desk()
    parent = desk.accept(algo=Algo.LIMIT, price=90 * SCALE, duration=0)
    desk.fill(parent, parent.children[0], 300 * LOT)
    desk.ask(cmd.AmendParent(ts=desk.now, parent_id=parent.parent_id, price=95 * SCALE))
    desk.advance(1)
    assert len(parent.children) == 1
    desk.report(parent, parent.children[0], OrdStatus.CANCELED)
    desk.advance(0)
    assert (parent.children[1].quantity, parent.children[1].spec.price) == (700 * LOT, 95 * SCALE)


def test_an_amended_quantity_is_planned_over_what_is_left_of_the_time() -> None:
    desk = Desk()
    parent = desk.accept()
    for _ in range(4):
        desk.fill(parent, parent.children[-1])
        desk.advance(1)
    desk.fill(parent, parent.children[-1])
    desk.ask(cmd.AmendParent(ts=desk.now, parent_id=parent.parent_id, quantity=2 * SCALE))
    for _ in range(20):
        for child in parent.open_children:
            desk.fill(parent, child)
        desk.advance(0.5)
    assert (parent.status, parent.filled) == (ParentStatus.FILLED, 2 * SCALE)
    with pytest.raises(ParentError, match="is Filled"):
        desk.ask(cmd.AmendParent(ts=desk.now, parent_id=parent.parent_id, quantity=3 * SCALE))


def test_a_quantity_below_what_is_committed_is_refused() -> None:
    desk = Desk()
    parent = desk.accept()
    with pytest.raises(ParentError) as refused:
        desk.ask(cmd.AmendParent(ts=desk.now, parent_id=parent.parent_id, quantity=99 * LOT))
    assert refused.value.code == "below_committed"


def test_the_same_request_again_is_the_same_parent_and_another_one_is_refused() -> None:
    desk = Desk()
    parent = desk.accept("twice")
    desk.now += SECOND
    assert desk.accept("twice") is parent
    assert len(parent.children) == 1
    with pytest.raises(ParentError) as refused:
        desk.accept("twice", quantity=2 * SCALE)
    assert (refused.value.code, refused.value.status) == ("client_order_id_reused", 409)


def test_the_same_news_twice_changes_nothing() -> None:
    desk = Desk()
    parent = desk.accept()
    desk.fill(parent, parent.children[0])
    before = list(desk.log)
    desk.report(parent, parent.children[0], OrdStatus.FILLED, cum_qty=100 * LOT)
    desk.orders_seq = -1
    desk.report(parent, parent.children[0], OrdStatus.NEW)
    assert desk.log == before


def test_benchmarks_tell_how_much_worse_than_the_market_it_was() -> None:
    desk = Desk()
    parent = desk.accept(slices=2)
    desk.fill(parent, parent.children[0])
    desk.advance(5, traded=SCALE, price=102 * SCALE)
    desk.fill(parent, parent.children[1])
    seen = parent.benchmarks
    assert (parent.average_price, seen.arrival, seen.vwap) == (101 * SCALE, 100 * SCALE, 102 * SCALE)
    assert parent.slippage_bps(seen.arrival) == 100
    assert parent.slippage_bps(seen.vwap) == pytest.approx(-98.039)
    assert parent.slippage_bps(0) is None


Act = tuple[str, int, int]
acts = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "time",
                "time",
                "fill",
                "fill",
                "part",
                "cancel_child",
                "reject",
                "pause",
                "resume",
                "amend",
                "price",
                "cancel",
            ]
        ),
        st.integers(0, 5),
        st.integers(1, 400),
    ),
    max_size=60,
)


def act(desk: Desk, parent: Parent, what: str, which: int, amount: int) -> None:
    """One thing that may happen at any time."""
    ordered, parent_id = parent.open_children, parent.parent_id
    child = ordered[which % len(ordered)] if ordered else None
    if what == "time":
        desk.advance(amount / 100, traded=amount * LOT)
    elif what == "pause":
        desk.ask(cmd.PauseParent(ts=desk.now, parent_id=parent_id))
    elif what == "resume":
        desk.ask(cmd.ResumeParent(ts=desk.now, parent_id=parent_id))
    elif what == "amend":
        desk.ask(cmd.AmendParent(ts=desk.now, parent_id=parent_id, quantity=amount * 5 * LOT))
    elif what == "price":
        desk.ask(cmd.AmendParent(ts=desk.now, parent_id=parent_id, price=amount * SCALE))
    elif what == "cancel":
        desk.ask(cmd.CancelParent(ts=desk.now, parent_id=parent_id))
    elif child is None:
        return
    elif what == "fill":
        desk.fill(parent, child)
    elif what == "part":
        desk.fill(parent, child, amount * LOT)
    else:
        desk.report(parent, child, OrdStatus.CANCELED if what == "cancel_child" else OrdStatus.REJECTED)


@settings(max_examples=200, deadline=None)
@given(
    acts,
    st.sampled_from(list(Algo)),
    st.integers(1, 1_000),
    st.integers(1, 20),
    st.sampled_from([0, 30]),
    st.sampled_from([0, 2_500]),
    st.sampled_from([0, 5_000, 10_000]),
)
def test_children_are_never_too_many_too_large_or_at_a_time_when_none_may_begin(
    steps: list[Act], algo: Algo, lots: int, slices: int, child_lots: int, participation: int, catch_up: int
) -> None:
    desk = Desk()
    sliced: dict[str, Any] = {}
    if algo.is_sliced:
        limits = {"child_quantity_max": child_lots * LOT, "participation_bps": participation, "catch_up_bps": catch_up}
        sliced = {"slices": slices, "profile": (3, 1, 2) if algo is Algo.VWAP else (), **limits}
    prices = {Algo.LIMIT: {"price": 90 * SCALE}, Algo.STOP: {"stop_price": SCALE}}.get(algo, {})
    parent = desk.accept(algo=algo, quantity=lots * LOT, **prices, **sliced)
    for what, which, amount in steps:
        known, status = len(parent.children), parent.status
        try:
            act(desk, parent, what, which, amount)
        except ParentError:
            assert what in ("pause", "resume", "amend", "price", "cancel")
        assert parent.committed <= parent.spec.quantity
        for child in parent.children[known:]:
            assert status is ParentStatus.WORKING
            assert child.quantity % LOT == 0
            if algo.is_sliced:
                assert child.quantity <= slice_quantity_max(parent, parent.next_slice - 1)
                assert not child_lots or child.quantity <= child_lots * LOT
                if participation:
                    assert parent.committed * 10_000 <= parent.benchmarks.volume * participation
        assert len(parent.children) <= known + 1
        if parent.status is not ParentStatus.WORKING:
            assert all(child.cancel_decided for child in parent.open_children)
        if not parent.is_open:
            assert not parent.open_children
    assert state(desk.replayed()) == state(desk.machine)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([Algo.TWAP, Algo.VWAP]), st.integers(1, 10_000), st.integers(1, 50), st.lists(st.integers(0, 9)))
def test_children_add_up_to_the_parent_when_each_fills(algo: Algo, lots: int, slices: int, profile: list[int]) -> None:
    desk = Desk()
    parent = desk.accept(
        algo=algo, quantity=lots * LOT, slices=slices, profile=tuple(profile), duration=slices * SECOND
    )
    for _ in range(slices):
        for child in parent.open_children:
            desk.fill(parent, child)
        desk.advance(1)
    assert sum(child.quantity for child in parent.children) == lots * LOT
    assert parent.status is ParentStatus.FILLED


def test_a_snapshot_of_a_version_to_come_is_not_taken() -> None:
    desk = Desk()
    desk.accept()
    later = desk.machine.snapshot().replace(b'"version":1', b'"version":2')
    with pytest.raises(ValueError, match="version 2 is newer"):
        ExecutionMachine(desk.machine.instruments).restore(later)


@pytest.mark.parametrize("begin_again", [Desk.replayed, Desk.restarted])
@settings(max_examples=50, deadline=None)
@given(steps=acts, at=st.integers(0, 60))
def test_a_log_that_is_folded_again_or_a_snapshot_goes_on_as_if_it_had_never_stopped(
    begin_again: Callable[[Desk], ExecutionMachine], steps: list[Act], at: int
) -> None:
    one, other = Desk(), Desk()
    for number, (what, which, amount) in enumerate(steps):
        for desk in (one, other):
            parent = desk.machine.parents["e0-0"] if desk.machine.parents else desk.accept()
            try:
                act(desk, parent, what, which, amount)
            except ParentError:
                continue
        if number == at:
            other.machine = begin_again(other)
    assert one.log == other.log
    assert state(one.machine) == state(other.machine)
