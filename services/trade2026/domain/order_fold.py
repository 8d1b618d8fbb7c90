"""What has become of every order: the fold of `orders.events` that all services share.

The fold never refuses: an event is a fact. A hook hears what each fact means for the limits (the owner
and the risk service give their controls, others none).
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from trade2026.domain import events as ev
from trade2026.domain.frozen import Frozen, Records
from trade2026.domain.order_pieces import OrderPiece, thawed
from trade2026.domain.orders import CLOSED, HELD_TYPES, Order, OrderSpec, OrdStatus


class LimitHook(Protocol):
    """What the controls want to hear. Quantities and prices are nanos, times ns."""

    def order_sent(self, spec: OrderSpec, ts: int) -> None: ...
    def message_sent(self, account: str, strategy: str, ts: int) -> None: ...
    def order_changed(
        self, spec: OrderSpec, qty_before: int, price_before: int, qty_after: int, price_after: int
    ) -> None: ...
    def child_waits(self, spec: OrderSpec, change: int) -> None: ...
    def filled(self, event: ev.OrderFilled, ts: int) -> None: ...
    def marked(self, instrument: str, price: int) -> None: ...
    def killed(self, event: ev.Killed) -> None: ...
    def resumed(self, event: ev.Resumed) -> None: ...
    def limits_adopted(self, limits: msgspec.Raw) -> None: ...


class FoldState(msgspec.Struct):
    """Everything that a fold must remember, as a snapshot."""

    next_seq: int
    ts_init: int
    order_count: int
    list_count: int
    report_seq: int
    orders: dict[str, Order]
    lists: dict[str, list[str]]


_LATE = (ev.OrderFilled, ev.CancelRejected, ev.ReplaceRejected)
"""All that can happen to a closed order."""


def counted(order: Order) -> tuple[int, int]:
    """Return the quantity and price at which an order counts in the limits now."""
    status = order.status
    if status in CLOSED or status is OrdStatus.SUSPENDED:
        return 0, 0
    if status is OrdStatus.PENDING_REPLACE:
        # Until the venue has answered either set of terms may execute: the heavier counts.
        return (
            max(order.leaves_qty, order.pending_quantity - order.cum_qty),
            max(order.reserved_price, order.pending_reserved_price),
        )
    return order.leaves_qty, order.reserved_price


class OrderFold:
    """All orders that memory still holds, by id; closed ones leave by `forget_closed`."""

    def __init__(self, hook: LimitHook | None = None) -> None:
        self.hook = hook
        self.next_seq = 0
        self.ts_init = 0
        self.order_count = 0
        self.list_count = 0
        self.report_seq = -1
        self.orders: Records[OrderPiece, Order] = Records()
        self.lists: dict[str, list[str]] = {}
        self.open: Records[OrderPiece, Order] = Records()
        self.by_client_id: dict[tuple[str, str], str] = {}
        self.held: dict[str, dict[str, Order]] = {}
        """Per instrument, orders that wait for their trigger."""
        self.expiries: list[tuple[int, str]] = []
        """A heap of (expire_at, order id); entries of closed orders are skipped when they come up."""
        self._closed: deque[tuple[int, str]] = deque()
        """Position of the last event when it was put here, and order id."""
        self._late: dict[str, list[ev.Envelope]] = {}
        """What happened to orders that had left memory before."""
        self._frozen: deque[Frozen[OrderPiece, Order]] = deque()
        """Of a snapshot, what `thaw_some` has not decoded yet."""
        self._handlers: dict[type, Callable[[Any, ev.Envelope], Order | None]] = {
            ev.OwnerStarted: self._ignored,
            ev.OrderAccepted: self._accepted,
            ev.OrderRefused: self._refused,
            ev.OrderListAccepted: self._list_accepted,
            ev.OrderTriggered: self._triggered,
            ev.StopTrailed: self._trailed,
            ev.OrderReleased: self._released,
            ev.OrderOpened: self._opened,
            ev.OrderRejected: self._rejected,
            ev.OrderFilled: self._filled,
            ev.CancelRequested: self._cancel_requested,
            ev.CancelRejected: self._change_rejected,
            ev.OrderCanceled: self._canceled,
            ev.OrderExpired: self._expired,
            ev.ReplaceRequested: self._replace_requested,
            ev.ReplaceRejected: self._change_rejected,
            ev.OrderReplaced: self._replaced,
            ev.Killed: self._killed,
            ev.Resumed: self._resumed,
            ev.LimitsAdopted: self._limits_adopted,
        }

    def apply(self, envelope: ev.Envelope) -> None:
        """Fold the next event of the partition.

        Raises:
            ev.UnknownEvent: the event belongs to another topic or a newer version.
        """
        assert envelope.seq == self.next_seq, f"event {envelope.seq} follows {self.next_seq - 1}"
        data = envelope.data
        handler = self._handlers.get(type(data))
        if handler is None:
            raise ev.UnknownEvent(f"{type(data).__name__} is no order event")
        order = handler(data, envelope)
        if order is not None:
            order.ts_updated = envelope.ts_init
            order.seqs.append(envelope.seq)
        elif type(data) in _LATE and (missing := self.missing(data)):
            self._late.setdefault(missing, []).append(envelope)
        report_seq = getattr(data, "report_seq", -1)
        if report_seq > self.report_seq:
            self.report_seq = report_seq
        self.next_seq = envelope.seq + 1
        self.ts_init = envelope.ts_init

    def missing(self, event: ev.AnyEvent) -> str:
        """The order that an event changes and that memory does not hold; usually none, which is ""."""
        order_id = getattr(event, "order_id", "")
        return order_id if order_id and order_id not in self.orders else ""

    def recall(self, order: Order) -> Order:
        """Take a closed order back that had left memory, with what has happened to it since."""
        assert order.order_id not in self.orders, f"{order.order_id} has not left memory"
        assert not order.is_open, f"{order.order_id} is open, so it never left memory"
        for late in self._late.pop(order.order_id, ()):
            if late.seq > order.seqs[-1]:
                if isinstance(late.data, ev.OrderFilled):
                    order.cum_qty, order.cum_cost = late.data.cum_qty, late.data.cum_cost
                order.ts_updated = late.ts_init
                order.seqs.append(late.seq)
        self.orders[order.order_id] = order
        self.by_client_id.setdefault((order.spec.account, order.spec.client_order_id), order.order_id)
        self._closed.append((order.seqs[-1], order.order_id))
        return order

    def forget_closed(self, before_seq: int, *, keep: int = 0) -> int:
        """Drop closed orders whose last event is before `before_seq`, all but the newest `keep`.

        Returns:
            How many were dropped.
        """
        closed, dropped = self._closed, 0
        while len(closed) > keep and closed[0][0] < before_seq:
            _, order_id = closed.popleft()
            order = self.orders.get(order_id)
            if order is None:
                continue
            if order.seqs[-1] >= before_seq:
                closed.append((order.seqs[-1], order_id))
                continue
            self._forget(order)
            dropped += 1
        for order_id, late in list(self._late.items()):
            if late[-1].seq < before_seq:
                del self._late[order_id]
        return dropped

    def _forget(self, order: Order) -> None:
        del self.orders[order.order_id]
        key = (order.spec.account, order.spec.client_order_id)
        if self.by_client_id.get(key) == order.order_id:
            del self.by_client_id[key]
        legs = self.lists.get(order.list_id) if order.list_id else None
        if legs and not any(leg in self.orders for leg in legs):
            del self.lists[order.list_id]

    def drop_expired(self, now: int) -> None:
        """Forget deadlines that have passed; their orders are closed or being cancelled."""
        while self.expiries and self.expiries[0][0] <= now:
            heapq.heappop(self.expiries)

    def state(self) -> FoldState:
        """The fold as data, without the orders; shares the lists with it."""
        return FoldState(
            self.next_seq, self.ts_init, self.order_count, self.list_count, self.report_seq, {}, self.lists
        )

    def snapshot(self) -> bytes:
        """The fold as JSON (money at `COST_SCALE` outgrows 64 bits), to go on from with `restore`."""
        return msgspec.json.encode(msgspec.structs.replace(self.state(), orders=dict(self.orders.items())))

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot. Exposure in the hook is not part of it."""
        self.restore_state(msgspec.json.decode(snapshot, type=FoldState))

    def restore_state(self, state: FoldState, pieces: Iterable[OrderPiece] = ()) -> None:
        """Take over a state as data, in place of everything that was folded here.

        Args:
            pieces: Its orders, in their order; those of the state come before them.
        """
        self.open, self.by_client_id, self.held, self.expiries, self._late = Records(), {}, {}, [], {}
        self.next_seq, self.ts_init = state.next_seq, state.ts_init
        self.order_count, self.list_count = state.order_count, state.list_count
        self.report_seq, self.orders, self.lists = state.report_seq, Records(state.orders), state.lists
        self._frozen, closed = deque(), list[tuple[int, str]]()
        for order in state.orders.values():
            self.by_client_id[order.spec.account, order.spec.client_order_id] = order.order_id
            self._take_back(order, closed)
        for piece in pieces:  # there may be very many orders: a start waits for this loop
            self._freeze(piece)
            for order in piece.live:
                self._take_back(order, closed)
        heapq.heapify(self.expiries)
        self._closed = deque(sorted(closed))

    def _freeze(self, piece: OrderPiece) -> None:
        """Take the ids of a piece; `_take_back` puts those of its orders in their places that must be there."""
        ids, frozen = piece.order_ids, Frozen(piece, thawed)
        frozen.stand_in(self.orders, ids)
        frozen.stand_in(self.open, ids)
        if piece.client_order_ids:
            self.by_client_id.update(zip(zip(piece.accounts, piece.client_order_ids, strict=True), ids, strict=True))
        self.expiries += piece.expiries
        self._frozen.append(frozen)

    def _take_back(self, order: Order, closed: list[tuple[int, str]]) -> None:
        order_id, spec = order.order_id, order.spec
        self.orders[order_id] = order
        if order.status in CLOSED:
            if order_id in self.open:
                del self.open[order_id]
            closed.append((order.seqs[-1], order_id))
            return
        self.open[order_id] = order
        if spec.expire_at or spec.order_type in HELD_TYPES:
            self._index(order)

    def thaw_some(self) -> bool:
        """Decode some of the orders that nobody has asked for yet; False when there are no more."""
        if self._frozen:
            self._frozen.popleft().thaw()
        return bool(self._frozen)

    # ── what each fact means ────────────────────────────────────────────────────────────────

    def _add(self, order: Order, envelope: ev.Envelope) -> Order:
        order.ts_created = envelope.ts_event
        order.traceparent = envelope.traceparent
        self.order_count += 1
        self.orders[order.order_id] = order
        spec = order.spec
        self.by_client_id[spec.account, spec.client_order_id] = order.order_id
        hook = self.hook
        if hook is not None:
            hook.order_sent(spec, envelope.ts_event)
        if order.status in CLOSED:
            self._closed.append((envelope.seq, order.order_id))
            return order
        self.open[order.order_id] = order
        self._index(order)
        if hook is not None:  # a suspended child counts for nothing yet, and whatever becomes of it is no new order
            hook.order_changed(spec, 0, 0, *counted(order))
            if order.status is OrdStatus.SUSPENDED:
                hook.child_waits(spec, 1)
        return order

    def _index(self, order: Order) -> None:
        spec = order.spec
        if spec.is_held and not order.triggered and order.status is not OrdStatus.SUSPENDED:
            self.held.setdefault(spec.instrument, {})[order.order_id] = order
        if spec.expire_at:
            heapq.heappush(self.expiries, (spec.expire_at, order.order_id))

    def _unhold(self, order: Order) -> None:
        held = self.held.get(order.spec.instrument)
        if held is not None:
            held.pop(order.order_id, None)

    def _change(self, order: Order, before: tuple[int, int], spec: OrderSpec) -> Order:
        after = counted(order)
        if self.hook is not None and after != before:
            self.hook.order_changed(spec, *before, *after)
        return order

    def _close(self, order: Order, status: OrdStatus, envelope: ev.Envelope) -> Order:
        before = counted(order)
        if order.is_open:
            self._closed.append((envelope.seq, order.order_id))
            self.open.pop(order.order_id, None)
            self._unhold(order)
        if self.hook is not None and order.status is OrdStatus.SUSPENDED:
            self.hook.child_waits(order.spec, -1)
        order.status = status
        order.leaves_qty = 0
        order.working = False
        return self._change(order, before, order.spec)

    def _ignored(self, event: ev.OwnerStarted, envelope: ev.Envelope) -> None:
        return None

    def _accepted(self, event: ev.OrderAccepted, envelope: ev.Envelope) -> Order:
        spec = event.spec
        if self.hook is not None and event.reference is not None:
            self.hook.marked(spec.instrument, event.reference.last)
        return self._add(
            Order(
                order_id=event.order_id,
                spec=spec,
                status=OrdStatus.PENDING_NEW if event.routed else OrdStatus.NEW,
                leaves_qty=spec.quantity,
                reserved_price=event.reserved_price,
                working=event.routed,
                stop_price=spec.stop_price,
            ),
            envelope,
        )

    def _refused(self, event: ev.OrderRefused, envelope: ev.Envelope) -> Order:
        return self._add(
            Order(
                order_id=event.order_id,
                spec=event.spec,
                status=OrdStatus.REJECTED,
                leaves_qty=0,
                reject_code=event.reject_code,
                reason=event.reason,
            ),
            envelope,
        )

    def _list_accepted(self, event: ev.OrderListAccepted, envelope: ev.Envelope) -> None:
        self.list_count += 1
        self.lists[event.list_id] = [leg.order_id for leg in event.orders]
        if self.hook is not None and event.reference is not None:
            self.hook.marked(event.orders[0].spec.instrument, event.reference.last)
        for leg in event.orders:
            suspended = leg.role == "child"
            status = OrdStatus.SUSPENDED if suspended else OrdStatus.PENDING_NEW if leg.routed else OrdStatus.NEW
            order = self._add(
                Order(
                    order_id=leg.order_id,
                    spec=leg.spec,
                    status=status,
                    leaves_qty=leg.spec.quantity,
                    reserved_price=leg.reserved_price,
                    list_id=event.list_id,
                    list_role=leg.role,
                    list_kind=event.kind,
                    working=leg.routed and not suspended,
                    stop_price=leg.spec.stop_price,
                ),
                envelope,
            )
            order.ts_updated = envelope.ts_init
            order.seqs.append(envelope.seq)

    def _triggered(self, event: ev.OrderTriggered, envelope: ev.Envelope) -> Order:
        order = self.orders[event.order_id]
        self._unhold(order)
        order.triggered = order.working = True
        if order.status is OrdStatus.NEW:
            order.status = OrdStatus.PENDING_NEW
        return order

    def _trailed(self, event: ev.StopTrailed, envelope: ev.Envelope) -> Order:
        order = self.orders[event.order_id]
        order.stop_price = event.stop_price
        return order

    def _released(self, event: ev.OrderReleased, envelope: ev.Envelope) -> Order:
        order = self.orders[event.order_id]
        if self.hook is not None:
            self.hook.child_waits(order.spec, -1)
        order.original = order.original or order.spec
        order.spec = event.spec
        order.leaves_qty = event.spec.quantity
        order.reserved_price = event.reserved_price
        order.working = event.routed
        order.status = OrdStatus.PENDING_NEW if event.routed else OrdStatus.NEW
        self._index(order)
        return self._change(order, (0, 0), order.spec)

    def _opened(self, event: ev.OrderOpened, envelope: ev.Envelope) -> Order:
        order = self.orders[event.order_id]
        order.venue_order_id = event.venue_order_id
        if order.status is OrdStatus.PENDING_NEW:
            order.status = OrdStatus.NEW
        elif order.status_before is OrdStatus.PENDING_NEW:
            order.status_before = OrdStatus.NEW
        return order

    def _rejected(self, event: ev.OrderRejected, envelope: ev.Envelope) -> Order:
        order = self.orders[event.order_id]
        order.reject_code, order.reason = event.reject_code, event.reason
        return self._close(order, OrdStatus.REJECTED, envelope)

    def _filled(self, event: ev.OrderFilled, envelope: ev.Envelope) -> Order | None:
        if self.hook is not None:
            self.hook.filled(event, envelope.ts_event)
        order = self.orders.get(event.order_id)
        if order is None:
            return None  # a venue that filled after it confirmed the cancel, long ago
        before = counted(order)
        order.cum_qty, order.cum_cost = event.cum_qty, event.cum_cost
        if not order.is_open:
            return order
        order.leaves_qty = event.leaves_qty
        if event.leaves_qty == 0:
            return self._close_filled(order, before, envelope)
        if order.status in (OrdStatus.PENDING_CANCEL, OrdStatus.PENDING_REPLACE):
            order.status_before = OrdStatus.PARTIALLY_FILLED
        else:
            order.status = OrdStatus.PARTIALLY_FILLED
        return self._change(order, before, order.spec)

    def _close_filled(self, order: Order, before: tuple[int, int], envelope: ev.Envelope) -> Order:
        order.status = OrdStatus.FILLED
        order.working = False
        self._closed.append((envelope.seq, order.order_id))
        self.open.pop(order.order_id, None)
        self._unhold(order)
        return self._change(order, before, order.spec)

    def _cancel_requested(self, event: ev.CancelRequested, envelope: ev.Envelope) -> Order:
        order = self.orders[event.order_id]
        before = counted(order)
        if order.status not in (OrdStatus.PENDING_CANCEL, OrdStatus.PENDING_REPLACE):
            order.status_before = order.status
        order.status = OrdStatus.PENDING_CANCEL
        order.expiring = event.expiry
        order.reason = event.reason
        if self.hook is not None:
            self.hook.message_sent(order.spec.account, order.spec.strategy, envelope.ts_event)
        return self._change(order, before, order.spec)

    def _change_rejected(self, event: ev.CancelRejected | ev.ReplaceRejected, envelope: ev.Envelope) -> Order | None:
        order = self.orders.get(event.order_id)
        if order is None or not order.is_open:
            return order
        pending = OrdStatus.PENDING_CANCEL if isinstance(event, ev.CancelRejected) else OrdStatus.PENDING_REPLACE
        before = counted(order)
        if order.status is pending:
            order.status = order.status_before or OrdStatus.NEW
            order.status_before = None
            order.expiring = False
        self._clear_pending(order)
        return self._change(order, before, order.spec)

    def _canceled(self, event: ev.OrderCanceled, envelope: ev.Envelope) -> Order:
        order = self.orders[event.order_id]
        order.reason = event.reason or order.reason
        return self._close(order, OrdStatus.CANCELED, envelope)

    def _expired(self, event: ev.OrderExpired, envelope: ev.Envelope) -> Order:
        order = self.orders[event.order_id]
        order.reason = event.reason or order.reason
        return self._close(order, OrdStatus.EXPIRED, envelope)

    def _replace_requested(self, event: ev.ReplaceRequested, envelope: ev.Envelope) -> Order:
        order = self.orders[event.order_id]
        before = counted(order)
        if order.status is not OrdStatus.PENDING_REPLACE:
            order.status_before = order.status
        order.status = OrdStatus.PENDING_REPLACE
        order.pending_quantity, order.pending_price = event.quantity, event.price
        order.pending_stop_price, order.pending_reserved_price = event.stop_price, event.reserved_price
        if self.hook is not None:
            self.hook.message_sent(order.spec.account, order.spec.strategy, envelope.ts_event)
        return self._change(order, before, order.spec)

    def _replaced(self, event: ev.OrderReplaced, envelope: ev.Envelope) -> Order:
        order = self.orders[event.order_id]
        before, spec_before = counted(order), order.spec
        order.original = order.original or order.spec
        order.spec = msgspec.structs.replace(
            spec_before, quantity=event.quantity, price=event.price, stop_price=event.stop_price
        )
        if event.stop_price:
            order.stop_price = event.stop_price
        order.leaves_qty = event.quantity - order.cum_qty
        if order.status is OrdStatus.PENDING_REPLACE:
            order.status = order.status_before or OrdStatus.NEW
            order.status_before = None
        order.reserved_price = order.pending_reserved_price or event.price
        self._clear_pending(order)
        if order.leaves_qty <= 0:
            order.leaves_qty = 0
            return self._close_filled(order, before, envelope)
        return self._change(order, before, order.spec)

    @staticmethod
    def _clear_pending(order: Order) -> None:
        order.pending_quantity = order.pending_price = order.pending_stop_price = order.pending_reserved_price = 0

    def _killed(self, event: ev.Killed, envelope: ev.Envelope) -> None:
        if self.hook is not None:
            self.hook.killed(event)

    def _resumed(self, event: ev.Resumed, envelope: ev.Envelope) -> None:
        if self.hook is not None:
            self.hook.resumed(event)

    def _limits_adopted(self, event: ev.LimitsAdopted, envelope: ev.Envelope) -> None:
        if self.hook is not None:
            self.hook.limits_adopted(event.limits)
