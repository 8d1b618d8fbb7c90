"""Recovery: a snapshot and the tail equal the whole log, and what has left memory changes no decision."""

import contextlib
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trade2026.archive.machine import HistoryMachine
from trade2026.controls import order_log
from trade2026.controls.limits import LimitBook, LimitSet, Rate
from trade2026.controls.machine import Controls
from trade2026.domain import commands as cmd
from trade2026.domain import events as ev
from trade2026.domain.market import Reference
from trade2026.domain.orders import Order, OrderSpec, OrderType, TimeInForce
from trade2026.oms.machine import OrderMachine
from trade2026.oms.refusals import ClientOrderIdReused, OrderError

UNIT = 10**9
PRICE = 45_000 * UNIT
BTC = "BTCUSDT.SIM"
LIMITS = LimitBook(
    account_default=LimitSet(
        max_open_orders=8, order_rate=Rate(count=30), duplicate_window_ns=2_000, max_daily_loss=10 * UNIT
    ),
    strategy_default=LimitSet(max_executions=Rate(count=3, per_ns=UNIT), max_gross_exposure=10**6 * UNIT),
)


@dataclass
class Platform:
    """An owner, its log, and an archive that has followed it as far as the test let it."""

    forgets: bool = True
    log: list[bytes] = field(default_factory=list)
    machine: OrderMachine = field(default_factory=lambda: OrderMachine(Controls(LimitBook(), {})))
    archive: HistoryMachine = field(default_factory=lambda: HistoryMachine({}))
    history: dict[str, Order] = field(default_factory=dict)
    now: int = 1_700_000_000 * UNIT
    reports: int = 0

    def do(self, command: cmd.Command) -> Any:
        def emit(event: ev.AnyEvent) -> None:
            envelope = ev.Envelope(len(self.log), 1, command.ts, command.ts, "desk", "local", "", "", "t-1", event)
            body = ev.encode(envelope)
            self.machine.apply(ev.decode(body))
            self.log.append(body)

        self.now += 1_000
        with contextlib.suppress(OrderError):
            return self.machine.decide(command, emit)

    def submit(self, spec: OrderSpec) -> None:
        """As the service does: what has left memory is looked up in the history first."""
        if self.was_answered(spec):
            self.now += 1_000
        else:
            self.do(cmd.SubmitOrder(ts=self.now, spec=spec, reference=self.reference(PRICE)))

    def submit_list(self, specs: list[OrderSpec]) -> None:
        """As the service does."""
        if any(map(self.was_answered, specs)):
            self.now += 1_000
        else:
            self.do(cmd.SubmitList(ts=self.now, kind="BRACKET", specs=specs, reference=self.reference(PRICE)))

    def was_answered(self, spec: OrderSpec) -> bool:
        """Whether its client order id names an order that has left memory."""
        key = (spec.account, spec.client_order_id)
        named = ((order.spec.account, order.spec.client_order_id) for order in self.history.values())
        return key not in self.machine.fold.by_client_id and key in named

    def report(self, report: ev.ReportEvent) -> None:
        recalled = None if report.order_id in self.machine.fold.orders else self.history.get(report.order_id)
        self.do(cmd.ApplyReport(ts=self.now, report=report, report_seq=self.reports, recalled=deepcopy(recalled)))
        self.reports += 1

    def reference(self, last: int) -> Reference:
        return Reference(last, last, last, ts=self.now)

    def archive_all(self) -> None:
        """The archive follows to the end of the log; what is closed may leave both memories."""
        for body in self.log[self.archive.fold.next_seq :]:
            envelope = ev.decode(body)
            missing = self.archive.needs(envelope.data)
            if missing:
                self.archive.fold.recall(deepcopy(self.history[missing]))
            self.archive.apply(envelope)
        self.history.update(deepcopy(self.archive.changed))
        self.archive.written()
        if self.forgets:
            forget = cmd.ForgetClosed(ts=self.now, before_seq=self.archive.fold.next_seq)
            self.machine.decide(forget, lambda event: pytest.fail(f"forgetting is no event: {event}"))


def act(platform: Platform, kind: str, which: int, amount: int) -> None:
    """One thing that a client, the venue, the market, the clock or a person does."""
    order_id, quantity = f"o0-{which}", (amount + 1) * UNIT
    side: Any = "BUY" if amount % 2 else "SELL"
    base = OrderSpec(
        client_order_id=f"c{which}", account="main", instrument=BTC, side=side, order_type=OrderType.LIMIT,
        quantity=quantity, price=PRICE, strategy="mm" if which % 2 else "",
    )  # fmt: skip
    move = (amount - 4) * 100 * UNIT
    match kind:
        case "submit":
            platform.submit(base)
        case "stop":
            kept = {"price": 0, "stop_price": PRICE + move, "trailing_offset": UNIT}
            platform.submit(msgspec.structs.replace(base, order_type=OrderType.TRAILING_STOP, **kept))
        case "day":
            expiry = {"time_in_force": TimeInForce.GTD, "expire_at": platform.now + 20_000}
            platform.submit(msgspec.structs.replace(base, **expiry))
        case "list":
            legs = [msgspec.structs.replace(base, client_order_id=f"l{which}-{leg}") for leg in range(3)]
            exits = [msgspec.structs.replace(leg, side="SELL" if side == "BUY" else "BUY") for leg in legs[1:]]
            platform.submit_list([legs[0], *exits])
        case "cancel":
            platform.do(cmd.CancelOrder(ts=platform.now, order_id=order_id))
        case "amend":
            platform.do(
                cmd.AmendOrder(
                    ts=platform.now, order_id=order_id, quantity=quantity, reference=platform.reference(PRICE)
                )
            )
        case "observe":
            platform.do(cmd.ObserveMarket(ts=platform.now, instrument=BTC, reference=platform.reference(PRICE + move)))
        case "time":
            platform.do(cmd.PassTime(ts=platform.now))
        case "kill":
            platform.do(cmd.Kill(ts=platform.now, scope="strategy:mm", reason="test", halt=amount % 2 == 0))
        case "resume":
            platform.do(cmd.Resume(ts=platform.now, scope="strategy:mm", reason="test"))
        case "accepted":
            platform.report(ev.VenueAccepted(order_id=order_id, venue_order_id=f"v{which}"))
        case "filled":
            fill = ev.VenueFilled(
                order_id=order_id,
                exec_id=f"e{platform.reports}",
                last_qty=min(quantity, 2 * UNIT),
                last_px=PRICE + move,
            )
            platform.report(fill)
        case "canceled":
            platform.report(ev.VenueCanceled(order_id=order_id))
        case "too late":
            platform.report(ev.VenueCancelRejected(order_id=order_id, reason="too late"))
        case "replaced":
            platform.report(ev.VenueReplaced(order_id=order_id, quantity=quantity, price=PRICE))
        case _:
            assert kind == "archive"
            platform.archive_all()


KINDS = (
    "submit", "submit", "stop", "day", "list", "cancel", "amend", "observe", "time", "kill", "resume", "accepted",
    "filled", "filled", "canceled", "too late", "replaced", "archive",
)  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 7), st.integers(0, 8)), max_size=40)


def played(steps: list[tuple[str, int, int]], *, forgets: bool = True) -> Platform:
    platform = Platform(forgets=forgets)
    platform.do(cmd.AdoptLimits(ts=1, version=1, limits=msgspec.Raw(msgspec.json.encode(LIMITS))))
    for kind, which, amount in steps:
        act(platform, kind, which, amount)
    return platform


def state(machine: OrderMachine | HistoryMachine) -> bytes:
    """All that a recovery must bring back; closed orders are the history's."""
    machine.fold.forget_closed(machine.fold.next_seq)
    return b"\n".join(order_log.slices(machine.fold, machine.controls))


@given(STEPS, st.floats(0, 1), st.floats(0, 1))
@example([("list", 0, 0), ("amend", 2, 1)], 0.0, 0.5)
@example([("list", 0, 1), ("filled", 2, 0)], 0.0, 0.5)
def test_a_snapshot_and_the_tail_equal_a_full_replay(
    steps: list[tuple[str, int, int]], at: float, then_at: float
) -> None:
    platform = played(steps)
    log = [ev.decode(body) for body in platform.log]
    whole = OrderMachine(Controls(LimitBook(), {}))
    for envelope in log:
        whole.apply(envelope)

    cut = int(at * len(log))
    archive = HistoryMachine({})
    for envelope in log[:cut]:
        archive.apply(envelope)
    archive.written()
    snapshot = b"\n".join(order_log.slices(archive.fold, archive.controls))
    restored = OrderMachine(Controls(LimitBook(), {}))
    order_log.restore(snapshot, restored.fold, restored.controls)
    assert b"\n".join(order_log.slices(restored.fold, restored.controls)) == snapshot
    again = cut + int(then_at * (len(log) - cut))
    for envelope in log[cut:again]:
        restored.apply(envelope)
    second = OrderMachine(Controls(LimitBook(), {}))
    order_log.restore(state(restored), second.fold, second.controls)
    for envelope in log[again:]:
        second.apply(envelope)
    assert state(second) == state(whole) == state(platform.machine)


@given(STEPS)
@example([("list", 0, 0), ("canceled", 0, 0), ("archive", 0, 0), ("list", 0, 0)])
def test_orders_that_have_left_memory_change_no_decision(steps: list[tuple[str, int, int]]) -> None:
    assert played(steps).log == played(steps, forgets=False).log


@given(STEPS)
def test_the_history_ends_with_what_memory_would_have_kept(steps: list[tuple[str, int, int]]) -> None:
    platform, keeper = played([*steps, ("archive", 0, 0)]), played(steps, forgets=False)
    closed = {order_id: order for order_id, order in keeper.machine.fold.orders.items() if not order.is_open}
    for order_id, order in closed.items():
        archived = platform.history[order_id]
        assert msgspec.structs.replace(archived, expiring=order.expiring) == order


def test_a_late_fill_finds_its_order_with_what_happened_since_the_history_was_read() -> None:
    platform = Platform()
    for kind in ("submit", "accepted", "cancel", "canceled", "archive"):
        act(platform, kind, 0, 8)
    stale = deepcopy(platform.history)
    assert not platform.machine.fold.orders
    snapshot = b"\n".join(order_log.slices(platform.archive.fold, platform.archive.controls))
    act(platform, "filled", 0, 8)
    # A restart: the tail has the fill, the order is not in the snapshot, and the history has not come so far.
    restarted = OrderMachine(Controls(LimitBook(), {}))
    order_log.restore(snapshot, restarted.fold, restarted.controls)
    for body in platform.log[restarted.next_seq :]:
        restarted.apply(ev.decode(body))
    platform.machine, platform.history = restarted, stale
    act(platform, "filled", 0, 8)
    last = ev.decode(platform.log[-1]).data
    assert isinstance(last, ev.OrderFilled)
    assert last.cum_qty == 4 * UNIT
    assert restarted.fold.orders["o0-0"].seqs == list(range(len(platform.log)))


def test_a_repeated_client_order_id_in_memory_is_the_machines_business() -> None:
    platform = Platform()
    act(platform, "submit", 0, 1)
    other = OrderSpec(
        client_order_id="c0", account="main", instrument=BTC, side="BUY", order_type=OrderType.LIMIT, quantity=UNIT,
        price=PRICE,
    )  # fmt: skip
    with pytest.raises(ClientOrderIdReused):
        platform.machine.decide(cmd.SubmitOrder(ts=1, spec=other), lambda event: None)


def test_a_snapshot_of_a_version_to_come_is_refused() -> None:
    machine = OrderMachine(Controls(LimitBook(), {}))
    snapshot = b"\n".join(order_log.slices(machine.fold, machine.controls))
    with pytest.raises(ValueError, match="newer"):
        order_log.restore(snapshot.replace(b'"version":2', b'"version":3', 1), machine.fold, machine.controls)
