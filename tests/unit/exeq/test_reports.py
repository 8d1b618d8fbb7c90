"""Which events of the order log are news of a child."""

from typing import Any

from trade2026.domain import events as ev
from trade2026.domain.events import ChildReported, Envelope
from trade2026.domain.numbers import SCALE
from trade2026.domain.orders import OrderSpec, OrderType, OrdStatus
from trade2026.domain.parents import Algo, ParentSpec
from trade2026.exeq.parents import Parent
from trade2026.exeq.reports import OrderReports, child_of

SPEC = ParentSpec(
    client_order_id="a", account="main", instrument="BTCUSDT.SIM", side="BUY", algo=Algo.TWAP, quantity=SCALE
)


def reports() -> OrderReports:
    parent = Parent(parent_id="e0-0", spec=SPEC, original=SPEC, slices=[], end_at=0)
    return OrderReports({"e0-0": parent})


def accepted(name: str = "e0-0-3", *, account: str = "main", parent: str = "e0-0") -> ev.OrderAccepted:
    spec = OrderSpec(
        client_order_id=name,
        account=account,
        instrument="BTCUSDT.SIM",
        side="BUY",
        order_type=OrderType.MARKET,
        quantity=SCALE,
        parent_order_id=parent,
    )
    return ev.OrderAccepted(order_id="o0-7", spec=spec, reserved_price=0)


def read(reader: OrderReports, event: Any, seq: int = 0) -> ChildReported | None:
    return reader.read(Envelope(seq, 1, 0, 0, "t", "local", "", "", "", event))


def test_a_child_is_known_by_its_name_and_then_by_its_order_id() -> None:
    reader = reports()
    news = read(reader, accepted())
    assert news == ChildReported(parent_id="e0-0", number=3, child_order_id="o0-7", orders_seq=0)
    news = read(reader, ev.OrderOpened(order_id="o0-7"), 5)
    assert news is not None
    assert (news.number, news.status, news.orders_seq) == (3, OrdStatus.NEW, 5)
    canceled = read(reader, ev.OrderCanceled(order_id="o0-7", reason="asked"))
    assert canceled is not None
    assert (canceled.status, canceled.reason) == (OrdStatus.CANCELED, "asked")
    rejected = read(reader, ev.CancelRejected(order_id="o0-7", reason="late"))
    assert rejected is not None
    assert rejected.cancel_rejected
    replaced = read(reader, ev.OrderReplaced(order_id="o0-7", quantity=5, price=1))
    assert replaced is not None
    assert replaced.quantity == 5
    assert read(reader, ev.CancelRequested(order_id="o0-7")) is None


def test_other_orders_are_none_of_its_business() -> None:
    reader = reports()
    for stranger in (
        accepted("mine"),
        accepted("e0-9-3", parent="e0-9"),
        accepted(account="other"),
        accepted(parent=""),
    ):
        assert read(reader, stranger) is None
    assert read(reader, ev.OrderOpened(order_id="o0-7")) is None
    assert child_of("e0-x") is None
    assert child_of("e0-1-x") is None
