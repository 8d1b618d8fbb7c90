"""Orders that stay bytes until somebody asks for one."""

import msgspec

from trade2026.controls import order_log
from trade2026.controls.limits import LimitBook
from trade2026.controls.machine import Controls
from trade2026.domain import events as ev
from trade2026.domain import frozen
from trade2026.domain.order_fold import OrderFold
from trade2026.domain.orders import Order, OrderSpec, OrderType, OrdStatus, TimeInForce

UNIT = 10**9
EXPIRES = 7 * UNIT


def spec(number: int, **terms: object) -> OrderSpec:
    asked = {
        "client_order_id": f"c{number}", "account": "main", "instrument": "BTCUSDT.SIM", "side": "BUY",
        "order_type": OrderType.LIMIT, "quantity": UNIT, "price": 100 * UNIT,
    }  # fmt: skip
    return msgspec.convert(asked | terms, OrderSpec)


def fold_of(*events: ev.AnyEvent) -> OrderFold:
    fold = OrderFold(Controls(LimitBook(), {}))
    for event in events:
        fold.apply(ev.Envelope(fold.next_seq, 1, 1, 1, "t", "local", "", "", "", event))
    return fold


def accepted(number: int, **terms: object) -> ev.OrderAccepted:
    asked = spec(number, **terms)
    return ev.OrderAccepted(order_id=f"o0-{number}", spec=asked, reserved_price=asked.price, routed=not asked.is_held)


def state(fold: OrderFold) -> bytes:
    assert isinstance(fold.hook, Controls)
    return b"\n".join(order_log.slices(fold, fold.hook))


def restored(snapshot: bytes) -> OrderFold:
    controls = Controls(LimitBook(), {})
    fold = OrderFold(controls)
    order_log.restore(snapshot, fold, controls)
    return fold


def frozen_ids(fold: OrderFold) -> list[str]:
    return [order_id for order_id, kept in fold.orders.kept() if isinstance(kept, frozen.Frozen)]


SOME = [accepted(number) for number in range(3 * frozen.NUMBERS_PER_PIECE)]


def test_a_restored_fold_knows_its_orders_before_it_has_decoded_them() -> None:
    fold = restored(state(fold_of(*SOME)))
    assert (len(fold.orders), len(fold.open), "o0-9" in fold.open) == (len(SOME), len(SOME), True)
    assert fold.by_client_id["main", "c9"] == "o0-9"
    assert frozen_ids(fold) == list(fold.orders)


def test_asking_for_an_order_decodes_those_around_it_and_no_others() -> None:
    fold = restored(state(fold_of(*SOME)))
    order = fold.open["o0-9"]
    assert isinstance(order, Order)
    assert fold.orders["o0-9"] is order, "one object, whoever asks"
    assert len(frozen_ids(fold)) == len(SOME) - frozen.NUMBERS_PER_PIECE


def test_what_is_not_there_decodes_nothing() -> None:
    fold = restored(state(fold_of(*SOME)))
    assert (fold.orders.get("nobody"), fold.open.pop("nobody", None)) == (None, None)
    assert len(frozen_ids(fold)) == len(SOME)


def test_orders_that_must_be_acted_on_by_themselves_are_there_at_once() -> None:
    whole = fold_of(
        accepted(0), accepted(1, order_type="STOP", price=0, stop_price=200 * UNIT), accepted(2),
        ev.OrderCanceled(order_id="o0-2", report_seq=-1), accepted(3, time_in_force="GTD", expire_at=EXPIRES),
        accepted(4),
    )  # fmt: skip
    fold = restored(state(whole))
    assert frozen_ids(fold) == ["o0-0", "o0-3", "o0-4"]
    assert fold.expiries == [(EXPIRES, "o0-3")]
    assert list(fold.held["BTCUSDT.SIM"]) == ["o0-1"]
    assert list(fold.open) == ["o0-0", "o0-1", "o0-3", "o0-4"]
    assert fold.orders["o0-2"].status is OrdStatus.CANCELED
    assert fold.orders["o0-3"].spec.time_in_force is TimeInForce.GTD
    assert fold.forget_closed(fold.next_seq) == 1
    assert dict(fold.orders.items()).keys() == fold.open.keys()


def test_the_same_state_gives_the_same_snapshot_whatever_was_decoded() -> None:
    whole = fold_of(*SOME)
    snapshot = state(whole)
    untouched, touched = restored(snapshot), restored(snapshot)
    touched.orders["o0-300"]
    assert state(untouched) == state(touched) == snapshot
    canceled = ev.OrderCanceled(order_id="o0-300", report_seq=-1)
    for fold in (whole, untouched, touched):
        fold.apply(ev.Envelope(fold.next_seq, 1, 1, 1, "t", "local", "", "", "", canceled))
        fold.forget_closed(fold.next_seq)
    assert state(untouched) == state(touched) == state(whole) != snapshot


def test_everything_is_decoded_piece_by_piece_in_the_background() -> None:
    fold, pieces = restored(state(fold_of(*SOME))), 1
    while fold.thaw_some():
        pieces += 1
    assert (pieces, frozen_ids(fold)) == (3, [])
    assert fold.thaw_some() is False


def test_a_closed_order_is_not_kept_by_the_piece_it_came_from() -> None:
    fold = restored(state(fold_of(*SOME)))
    fold.apply(
        ev.Envelope(fold.next_seq, 1, 1, 1, "t", "local", "", "", "", ev.OrderCanceled(order_id="o0-9", report_seq=-1))
    )
    fold.forget_closed(fold.next_seq)
    assert "o0-9" not in fold.orders
    assert all(isinstance(fold.open[order_id], Order) for order_id in list(fold.open))
    assert "o0-9" not in fold.open


def test_a_snapshot_of_the_first_version_is_still_read() -> None:
    whole = fold_of(*SOME[:3], accepted(3, time_in_force="GTD", expire_at=EXPIRES))
    first, *_ = state(whole).split(b"\n")
    orders = msgspec.json.encode(list(whole.orders.values()))
    old = first.replace(b'"version":2', b'"version":1', 1) + b"\n" + orders
    fold = restored(old)
    assert frozen_ids(fold) == []
    assert fold.expiries == [(EXPIRES, "o0-3")]
    assert state(fold) == state(whole)
