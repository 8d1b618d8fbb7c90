"""Versions of the limits, latched stops and alerts, as the fold of `risk.events`."""

from typing import Any

import msgspec
import pytest

from trade2026.controls.exposure import Exposure
from trade2026.controls.limits import LimitBook, LimitSet, Rate, Tightening, ceiling_of, in_force
from trade2026.domain import events as ev
from trade2026.domain.orders import Order, OrderSpec, OrderType, OrdStatus
from trade2026.risk.machine import (
    REFUSALS_PER_MINUTE,
    RiskMachine,
    Watch,
    WouldWiden,
    near_limits,
    next_end,
    tightened,
    unblocked,
)

UNIT = 10**9
CEILINGS = LimitBook(
    stack=LimitSet(max_order_value=1_000 * UNIT, order_rate=Rate(count=10)), account_default=LimitSet(max_open_orders=5)
)


def tighten(scope: str = "stack", until: int = 0, forever: bool = False, **limits: Any) -> Tightening:
    wanted = LimitSet(**limits)
    ceiling = None if forever else ceiling_of(CEILINGS, scope, wanted)
    return Tightening(scope=scope, limits=wanted, by="ann", reason="thin", until=until, ceiling=ceiling)


def envelope(seq: int, event: ev.AnyEvent, ts: int = 1_000) -> ev.Envelope:
    return ev.decode(ev.encode(ev.Envelope(seq, 1, ts, ts, "desk", "ann", "", "", "", event)))


def folded(*events: ev.AnyEvent) -> RiskMachine:
    machine = RiskMachine()
    for seq, event in enumerate(events):
        machine.apply(envelope(seq, event))
    return machine


def test_a_tightening_holds_until_it_ends() -> None:
    book = in_force(CEILINGS, [tighten(max_order_value=10 * UNIT, until=100)], now=99)
    assert book.stack.max_order_value == 10 * UNIT
    assert book.stack.order_rate == Rate(count=10)
    assert next_end(book) == 100
    assert in_force(CEILINGS, book.tightened, now=100) == CEILINGS


def test_a_tightening_of_an_account_leaves_the_others_at_their_default() -> None:
    book = in_force(CEILINGS, [tighten("account:main", max_open_orders=1)], now=0)
    assert book.of("account", "main").max_open_orders == 1
    assert book.of("account", "other").max_open_orders == 5


@pytest.mark.parametrize(
    ("limits", "fields"),
    [
        ({"max_order_value": 1_001 * UNIT}, ["max_order_value"]),
        ({"order_rate": Rate(count=11)}, ["order_rate"]),
        ({"order_rate": Rate(count=10, per_ns=1)}, ["order_rate"]),
        (
            {"max_order_value": 2_000 * UNIT, "max_position": 1, "order_rate": Rate(count=20)},
            ["max_order_value", "order_rate"],
        ),
    ],
)
def test_what_would_be_wider_is_refused_with_its_fields(limits: dict[str, object], fields: list[str]) -> None:
    with pytest.raises(WouldWiden) as caught:
        tightened(CEILINGS, tighten(**limits))
    assert caught.value.fields == fields


def test_a_second_tightening_may_not_be_wider_than_the_first() -> None:
    book = in_force(CEILINGS, tightened(CEILINGS, tighten(max_order_value=10 * UNIT)), now=0)
    with pytest.raises(WouldWiden):
        tightened(book, tighten(max_order_value=20 * UNIT))


def test_the_end_of_one_tightening_leaves_another_in_force() -> None:
    both = [tighten(max_order_value=10 * UNIT, until=100), tighten(max_order_value=50 * UNIT, until=200)]
    assert in_force(CEILINGS, both, now=50).stack.max_order_value == 10 * UNIT
    assert in_force(CEILINGS, both, now=150).stack.max_order_value == 50 * UNIT


def test_a_tightening_without_an_end_goes_when_the_manifest_changes_what_it_tightens_but_a_block_stays() -> None:
    both = [tighten(max_order_value=10 * UNIT), tighten(restricted=["BTCUSDT.SIM"], forever=True)]
    other = CEILINGS.replaced("stack", "", LimitSet(max_order_value=2_000 * UNIT))
    book = in_force(other, both, now=0)
    assert book.stack.max_order_value == 2_000 * UNIT
    assert book.stack.restricted == ["BTCUSDT.SIM"]


def test_a_tightening_without_an_end_outlives_a_manifest_that_changes_other_limits() -> None:
    stack = LimitSet(max_order_value=1_000 * UNIT, order_rate=Rate(count=50))
    other = CEILINGS.replaced("stack", "", stack).replaced("account", "main", LimitSet(max_open_orders=1))
    assert in_force(other, [tighten(max_order_value=10 * UNIT)], now=0).stack.max_order_value == 10 * UNIT


def test_a_tightening_with_an_end_outlives_a_manifest_of_other_limits_and_never_widens_them() -> None:
    ten = [tighten(max_order_value=10 * UNIT, until=100)]
    other = CEILINGS.replaced("stack", "", LimitSet(max_order_value=2_000 * UNIT))
    assert in_force(other, ten, now=50).stack.max_order_value == 10 * UNIT
    narrow = CEILINGS.replaced("stack", "", LimitSet(max_order_value=5 * UNIT))
    assert in_force(narrow, ten, now=50).stack.max_order_value == 5 * UNIT


def test_blocks_add_up_and_end_one_by_one() -> None:
    first = in_force(CEILINGS, tightened(CEILINGS, tighten(restricted=["A.X"], forever=True)), now=0)
    both = in_force(CEILINGS, tightened(first, tighten(restricted=["B.X"], forever=True)), now=0)
    assert both.stack.restricted == ["A.X", "B.X"]
    assert in_force(CEILINGS, unblocked(both, "A.X"), now=0).stack.restricted == ["B.X"]


def test_the_newest_version_is_in_force_and_all_are_remembered() -> None:
    first, second = LimitBook(version=2), LimitBook(version=3, stack=LimitSet(max_open_orders=1))
    machine = folded(
        *(
            ev.LimitsChanged(
                version=book.version, limits=msgspec.Raw(msgspec.json.encode(book)), by="ann", reason="because"
            )
            for book in (first, second)
        )
    )
    assert machine.book == second
    assert [(each.version, each.by, each.reason) for each in machine.history] == [
        (2, "ann", "because"),
        (3, "ann", "because"),
    ]


def test_a_stop_is_latched_until_it_is_resumed() -> None:
    killed = ev.Killed(scope="account:main", reason="r", by="ann")
    assert folded(killed).stopped == {"account:main": killed}
    other = ev.Resumed(scope="stack", reason="r", by="ann")
    assert folded(killed, other).stopped == {"account:main": killed}
    assert folded(killed, ev.Resumed(scope="account:main", reason="r", by="ann")).stopped == {}


def test_an_alert_is_kept_once_and_says_who_has_seen_it() -> None:
    raised = ev.AlertRaised(alert_id="a1", severity="critical", scope="stack", message="look")
    machine = folded(raised, ev.AlertAcknowledged(alert_id="a1", by="bob", note="seen"), raised)
    (alert,) = machine.alerts.values()
    assert (alert.acknowledged_by, alert.note) == ("bob", "seen")


def test_an_event_of_another_topic_stops_the_fold() -> None:
    with pytest.raises(ev.UnknownEvent):
        folded(ev.OrderOpened(order_id="o1"))


def test_a_halt_by_the_controls_is_a_critical_alert() -> None:
    halt = ev.Killed(scope="strategy:mm", reason="ran away", by="controls", halt=True, cause="repeated_execution")
    alert = Watch().look(envelope(7, halt))
    assert alert is not None
    assert (alert.alert_id, alert.severity, alert.scope) == ("halted-7", "critical", "strategy:mm")


def test_a_child_that_is_rejected_after_its_parent_executed_is_a_critical_alert() -> None:
    spec = refused(0, 0).data.spec  # type: ignore[union-attr]
    child = Order(order_id="o1", spec=spec, status=OrdStatus.REJECTED, leaves_qty=0, list_id="l0-0", list_role="child")
    rejected = envelope(7, ev.OrderRejected(order_id="o1", reject_code="MAX_POSITION", reason="not released"))
    alert = Watch().look(rejected, child)
    assert alert is not None
    assert (alert.alert_id, alert.severity, alert.scope) == ("unprotected-o1", "critical", "account:main")
    assert Watch().look(rejected, msgspec.structs.replace(child, list_role="")) is None


def refused(seq: int, ts: int) -> ev.Envelope:
    spec = OrderSpec(
        client_order_id="c",
        account="main",
        instrument="A.X",
        side="BUY",
        order_type=OrderType.LIMIT,
        quantity=1,
        price=1,
    )
    return envelope(seq, ev.OrderRefused(order_id="o", spec=spec, reject_code="PRICE_COLLAR", reason="far"), ts)


def test_many_refusals_within_a_minute_raise_one_alert() -> None:
    watch = Watch()
    alerts = [watch.look(refused(seq, 1_000)) for seq in range(3 * REFUSALS_PER_MINUTE)]
    assert [seq for seq, alert in enumerate(alerts, 1) if alert is not None] == [REFUSALS_PER_MINUTE]


def test_refusals_spread_over_minutes_raise_none() -> None:
    watch = Watch()
    assert not any(watch.look(refused(seq, seq * 60 * UNIT)) for seq in range(3 * REFUSALS_PER_MINUTE))


@pytest.mark.parametrize(
    ("gross", "severity"), [(899, None), (900, "warning"), (1_000, "warning"), (1_001, "critical")]
)
def test_nine_tenths_of_a_limit_warn_and_more_than_all_of_it_is_critical(gross: int, severity: str | None) -> None:
    exposure = Exposure(
        gross=gross * UNIT, net=0, net_worst=0, reserved=0, open_orders=0, daily_pnl=-(10**6) * UNIT, day=5
    )
    limits = LimitSet(max_gross_exposure=1_000 * UNIT, max_daily_loss=1)
    found = near_limits("account:main", limits, exposure, day=6, as_of=3)
    assert [alert.severity for alert in found] == ([severity] if severity else [])


def test_a_loss_of_today_raises_an_alert() -> None:
    exposure = Exposure(gross=0, net=0, net_worst=0, reserved=0, open_orders=0, daily_pnl=-95 * UNIT, day=6)
    (alert,) = near_limits("stack", LimitSet(max_daily_loss=100 * UNIT), exposure, day=6, as_of=3)
    assert alert.alert_id == "near-max_daily_loss-stack-6"
