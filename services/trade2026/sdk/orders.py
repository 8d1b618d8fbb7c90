"""The orders and positions of one strategy, folded from the order log."""

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from trade2026.domain import events as ev
from trade2026.domain.orders import CLOSED, OrderSpec, OrdStatus
from trade2026.domain.positions import Position
from trade2026.sdk.types import Order, OrderState

CLOSED_KEPT = 1_000
"""Orders that are over and still known."""


class Change(msgspec.Struct):
    """What an event has done to the strategy's orders."""

    order: Order | None = None
    fill: ev.OrderFilled | None = None


class OrdersState(msgspec.Struct):
    """All of it, to save; `closed` in the order in which they ended."""

    open: list[OrderState]
    closed: list[OrderState]
    positions: dict[str, Position]
    number_min: int = 0


class StrategyOrders:
    """Orders by client order id, positions by instrument: of all processes of the strategy.

    Args:
        ids: How the ids begin that are given here; by default with the strategy's name.

    `number_min` is the least number that no order in the log has: a strategy whose own log was lost does not
    use an id twice.
    """

    def __init__(self, strategy: str, ids: str = "") -> None:
        self.strategy, self.ids = strategy, ids or strategy
        self.open: dict[str, Order] = {}
        self.closed: OrderedDict[str, Order] = OrderedDict()
        self.positions: dict[str, Position] = {}
        self.number_min = 0
        self._by_id: dict[str, Order] = {}
        self._folds: dict[type, Callable[[Any], Change | None]] = {
            ev.OrderAccepted: lambda e: self._accepted(e.order_id, e.spec),
            ev.OrderListAccepted: self._list_accepted,
            ev.OrderRefused: self._refused,
            ev.OrderFilled: self._filled,
            ev.OrderOpened: lambda e: self._set(e.order_id, OrdStatus.NEW),
            ev.OrderReleased: lambda e: self._set(e.order_id, OrdStatus.PENDING_NEW),
            ev.OrderTriggered: lambda e: self._set(e.order_id, OrdStatus.NEW),
            ev.OrderRejected: lambda e: self._set(e.order_id, OrdStatus.REJECTED, e.reason, e.reject_code),
            ev.OrderCanceled: lambda e: self._set(e.order_id, OrdStatus.CANCELED, e.reason),
            ev.OrderExpired: lambda e: self._set(e.order_id, OrdStatus.EXPIRED, e.reason),
            ev.CancelRequested: lambda e: self._pend(e.order_id, OrdStatus.PENDING_CANCEL),
            ev.ReplaceRequested: lambda e: self._pend(e.order_id, OrdStatus.PENDING_REPLACE),
            ev.CancelRejected: self._return,
            ev.ReplaceRejected: self._return,
            ev.OrderReplaced: self._replaced,
            ev.StopTrailed: self._trailed,
        }

    def add(self, spec: OrderSpec) -> Order:
        """An order was decided; the order service does not know of it yet."""
        order = Order(OrderState(spec=spec, quantity=spec.quantity, price=spec.price, stop_price=spec.stop_price))
        self.open[spec.client_order_id] = order
        return order

    def drop(self, client_order_id: str) -> None:
        """A decision was taken back before it left."""
        order = self.open.pop(client_order_id, None)
        if order is not None:
            order._state.status = OrdStatus.REJECTED

    @property
    def ours(self) -> list[Order]:
        """Those that this process has made and that are not over: neither another's that shares the symbols, nor a person's."""
        return [order for order in self.open.values() if self._number(order.client_order_id) >= 0]

    def find(self, client_order_id: str) -> Order | None:
        """An order by the id that we gave it."""
        return self.open.get(client_order_id) or self.closed.get(client_order_id)

    def refuse(self, client_order_id: str, code: str, reason: str) -> Order | None:
        """The order service would not take it, and has not recorded it."""
        order = self.open.get(client_order_id)
        return self._close(order, OrdStatus.REJECTED, reason, code) if order is not None else None

    def apply(self, event: ev.AnyEvent) -> Change | None:
        """Fold one event of the order log; None if it is not about this strategy."""
        fold = self._folds.get(type(event))
        return fold(event) if fold is not None else None

    @property
    def refused(self) -> tuple[int, str]:
        """How many orders were refused since one was not, and the reject code of the last of them."""
        reached = [order for order in self.open.values() if order.status != OrdStatus.PENDING_NEW]
        newest = max((self._number(order.client_order_id) for order in reached), default=-1)
        run = [
            order
            for order in itertools.takewhile(lambda o: o.status == OrdStatus.REJECTED, reversed(self.closed.values()))
            if self._number(order.client_order_id) > newest
        ]
        return len(run), run[0].reject_code if run else ""

    def save(self) -> OrdersState:
        """Everything, to go on from."""
        open_, closed = ([order._state for order in orders.values()] for orders in (self.open, self.closed))
        return OrdersState(open_, closed, self.positions, self.number_min)

    def restore(self, saved: OrdersState) -> None:
        """Take back what was saved."""
        for state in saved.open:
            self.open[state.spec.client_order_id] = self._known(Order(state))
        for state in saved.closed:
            self.closed[state.spec.client_order_id] = self._known(Order(state))
        self.positions, self.number_min = saved.positions, saved.number_min

    def _known(self, order: Order) -> Order:
        if order.order_id:
            self._by_id[order.order_id] = order
        return order

    # ── folds ───────────────────────────────────────────────────────────────────────────────

    def _accepted(self, order_id: str, spec: OrderSpec, status: OrdStatus = OrdStatus.PENDING_NEW) -> Change | None:
        if spec.strategy != self.strategy:
            return None
        self._count(spec.client_order_id)
        order = self.find(spec.client_order_id) or self.add(spec)
        order._state.order_id, order._state.status = order_id, status
        self._by_id[order_id] = order
        return Change(order)

    def _list_accepted(self, event: ev.OrderListAccepted) -> Change | None:
        change = None
        for leg in event.orders:
            status = OrdStatus.SUSPENDED if leg.role == "child" else OrdStatus.PENDING_NEW
            change = self._accepted(leg.order_id, leg.spec, status) or change
        return change

    def _refused(self, event: ev.OrderRefused) -> Change | None:
        if event.spec.strategy != self.strategy:
            return None
        self._count(event.spec.client_order_id)
        order = self.find(event.spec.client_order_id) or self.add(event.spec)
        order._state.order_id = event.order_id
        return Change(self._close(order, OrdStatus.REJECTED, event.reason, event.reject_code))

    def _filled(self, event: ev.OrderFilled) -> Change | None:
        if event.strategy != self.strategy:
            return None
        position = self.positions.setdefault(event.instrument, Position())
        signed = event.last_qty if event.side == "BUY" else -event.last_qty
        position.apply_fill(signed, event.last_px, event.fee, event.multiplier)
        order = self._by_id.get(event.order_id)
        if order is not None:
            state = order._state
            state.cum_qty, state.cum_cost = event.cum_qty, event.cum_cost
            if not event.leaves_qty:
                self._close(order, OrdStatus.FILLED)
            elif state.status in (OrdStatus.PENDING_CANCEL, OrdStatus.PENDING_REPLACE):
                state.before = OrdStatus.PARTIALLY_FILLED
            elif order.is_open:
                state.status = OrdStatus.PARTIALLY_FILLED
        return Change(order, event)

    def _set(self, order_id: str, status: OrdStatus, reason: str = "", reject_code: str = "") -> Change | None:
        order = self._by_id.get(order_id)
        if order is None:
            return None
        if status in CLOSED:
            return Change(self._close(order, status, reason, reject_code))
        if order.status in (OrdStatus.PENDING_CANCEL, OrdStatus.PENDING_REPLACE):
            order._state.before = status
            return None
        order._state.status = status
        return Change(order)

    def _pend(self, order_id: str, status: OrdStatus) -> Change | None:
        order = self._by_id.get(order_id)
        if order is None:
            return None
        if order.status not in (OrdStatus.PENDING_CANCEL, OrdStatus.PENDING_REPLACE):
            order._state.before = order.status
        order._state.status = status
        return Change(order)

    def _return(self, event: ev.CancelRejected | ev.ReplaceRejected) -> Change | None:
        order = self._by_id.get(event.order_id)
        if order is None or not order.is_open:
            return None
        order._state.status, order._state.before = order._state.before or OrdStatus.NEW, None
        order._state.reason = event.reason
        return Change(order)

    def _replaced(self, event: ev.OrderReplaced) -> Change | None:
        order = self._by_id.get(event.order_id)
        if order is None:
            return None
        state = order._state
        state.quantity, state.price = event.quantity, event.price
        state.stop_price = event.stop_price or state.stop_price
        if state.status is OrdStatus.PENDING_REPLACE:
            state.status = OrdStatus.PARTIALLY_FILLED if state.cum_qty else state.before or OrdStatus.NEW
            state.before = None
        return Change(order)

    def _trailed(self, event: ev.StopTrailed) -> Change | None:
        order = self._by_id.get(event.order_id)
        if order is not None:
            order._state.stop_price = event.stop_price
        return None

    def _close(self, order: Order, status: OrdStatus, reason: str = "", reject_code: str = "") -> Order:
        state = order._state
        state.status, state.before, state.reason, state.reject_code = status, None, reason, reject_code
        self.open.pop(order.client_order_id, None)
        self.closed[order.client_order_id] = order
        while len(self.closed) > CLOSED_KEPT:
            _, oldest = self.closed.popitem(last=False)
            self._by_id.pop(oldest.order_id, None)
        return order

    def _count(self, client_order_id: str) -> None:
        self.number_min = max(self.number_min, self._number(client_order_id) + 1)

    def _number(self, client_order_id: str) -> int:
        """Of the decision that made an order of ours; -1 of another order."""
        strategy, _, number = client_order_id.rpartition("-")
        number = number.partition(".")[0]
        return int(number) if strategy == self.ids and number.isascii() and number.isdigit() else -1
