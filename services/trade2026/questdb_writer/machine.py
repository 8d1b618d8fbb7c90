"""What each event is as rows of the time-series store.

Pure. Most events are a row each. An order is one row for all of its life: the machine folds the open ones, and the
store keeps them beside the rows, as of the same position, so that a restart goes on where the rows end.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from trade2026.domain.events import (
    AlertAcknowledged,
    AlertRaised,
    Envelope,
    Killed,
    LimitsChanged,
    OrderFilled,
    OrderListAccepted,
    PnlRealized,
    PositionChanged,
    Resumed,
)
from trade2026.domain.frozen import NUMBERS_PER_PIECE
from trade2026.domain.market import Bar, Book, Trade
from trade2026.domain.numbers import COST_SCALE, average_price
from trade2026.domain.order_fold import FoldState, OrderFold
from trade2026.domain.order_pieces import OrderPiece
from trade2026.domain.orders import Order, partition_of_id
from trade2026.stores.timeseries.schema import TABLES, Row

ORDERS = "orders.events"
STATE_PREFIX = "order:"
"""Begins the keys under which the store keeps the open orders."""

_encode = msgspec.json.encode


class RowMachine:
    """Rows of every event that is followed, and the open orders.

    Args:
        positions: Where each partition of `orders.events` goes on.
        state: The open orders as of those positions, by their keys.
    """

    def __init__(self, positions: Sequence[int] = (0,), state: Mapping[str, bytes] | None = None) -> None:
        self.folds = [OrderFold() for _ in positions]
        """Of each partition."""
        for fold, next_seq, kept in zip(self.folds, positions, _by_partition(state or {}, len(positions)), strict=True):
            fold.restore_state(FoldState(next_seq, 0, 0, 0, -1, {}, {}), _pieces(kept))
        self.changed: dict[str, Order] = {}
        """Orders that differ from their rows."""
        self.late: dict[str, OrderFilled] = {}
        """Executions of orders that had closed before: their rows are in the store only."""

    @property
    def open_orders(self) -> int:
        """How many orders are open."""
        return sum(len(fold.open) for fold in self.folds)

    def rows(self, topic: str, envelope: Envelope, partition: int = 0) -> list[tuple[str, Row]]:
        """The rows of one event, by their tables; those of orders come from `order_rows`."""
        data = envelope.data
        if topic == ORDERS:
            self._fold(self.folds[partition], envelope)
        make = _ROWS.get(type(data))
        if make is None:
            return []
        name, row = make(envelope, data)
        # A stop is recorded by who asked for it, and again by who obeyed.
        return [(name, row)] if TABLES[name].topic == topic else []

    def order_rows(self) -> tuple[list[Row], dict[str, bytes | None]]:
        """Rows of the orders that changed since the last call, and what to remember of them."""
        rows = [order_row(order) for order in self.changed.values()]
        state = {
            STATE_PREFIX + order_id: _encode(order) if order.is_open else None
            for order_id, order in self.changed.items()
        }
        self.changed.clear()
        for fold in self.folds:
            fold.forget_closed(fold.next_seq)
        return rows, state

    def _fold(self, fold: OrderFold, envelope: Envelope) -> None:
        data: Any = envelope.data
        missing = fold.missing(data)
        fold.apply(envelope)
        if missing and isinstance(data, OrderFilled):
            self.late[missing] = data
        for order_id in _order_ids(data):
            order = fold.orders.get(order_id)
            if order is not None:
                self.changed[order_id] = order


def _by_partition(state: Mapping[str, bytes], partitions: int) -> Iterator[Mapping[str, bytes]]:
    """The open orders of each partition."""
    if partitions == 1:
        yield state
        return
    parted: list[dict[str, bytes]] = [{} for _ in range(partitions)]
    for key, order in state.items():
        if key.startswith(STATE_PREFIX):
            parted[partition_of_id(key.removeprefix(STATE_PREFIX))][key] = order
    yield from parted


def _pieces(state: Mapping[str, bytes]) -> Iterator[OrderPiece]:
    """The open orders, to be decoded when something happens to one of them: there may be very many."""
    kept = (item for item in state.items() if item[0].startswith(STATE_PREFIX))
    while some := list(islice(kept, NUMBERS_PER_PIECE)):
        order_ids = [key.removeprefix(STATE_PREFIX) for key, _ in some]
        yield OrderPiece(order_ids, [], [], [], [], b"[" + b",".join(order for _, order in some) + b"]")


def late_row(row: Row, fill: OrderFilled) -> Row:
    """An order's row after an execution that came when the order had closed."""
    names = TABLES["orders"].names
    changed = {"cum_qty": fill.cum_qty, "avg_px": average_price(fill.cum_cost, fill.cum_qty)}
    return tuple(changed.get(name, value) for name, value in zip(names, row, strict=True))


def order_row(order: Order) -> Row:
    """An order as it is now."""
    spec = order.spec
    return (
        order.ts_created,
        order.order_id,
        spec.client_order_id,
        spec.account,
        spec.instrument,
        spec.side,
        spec.order_type.value,
        spec.time_in_force.value,
        order.status.value,
        spec.quantity,
        order.leaves_qty,
        order.cum_qty,
        average_price(order.cum_cost, order.cum_qty) or None,
        spec.price or None,
        order.stop_price or None,
        spec.strategy,
        spec.trader,
        spec.desk,
        spec.client,
        spec.algo,
        spec.parent_order_id,
        order.list_id,
        order.venue_order_id,
        order.reject_code,
        order.reason,
        order.ts_updated,
        order.seqs[-1] if order.seqs else None,
    )


def _order_ids(data: Any) -> list[str]:
    if isinstance(data, OrderListAccepted):
        return [leg.order_id for leg in data.orders]
    order_id = getattr(data, "order_id", "")
    return [order_id] if order_id else []


def _trade(envelope: Envelope, trade: Trade) -> tuple[str, Row]:
    return "ticks", (
        envelope.ts_event,
        trade.instrument,
        trade.trade_id,
        trade.aggressor,
        trade.price,
        trade.quantity,
        trade.venue_seq,
        trade.ts_recv,
        trade.ts_source,
        envelope.seq,
    )


def _quote(envelope: Envelope, book: Book) -> tuple[str, Row]:
    bid = book.bids[0] if book.bids else None
    ask = book.asks[0] if book.asks else None
    return "quotes", (
        envelope.ts_event,
        book.instrument,
        bid.price if bid else None,
        bid.quantity if bid else None,
        ask.price if ask else None,
        ask.quantity if ask else None,
        book.venue_seq,
        envelope.seq,
    )


def _bar(envelope: Envelope, bar: Bar) -> tuple[str, Row]:
    return "bars", (
        bar.ts_open,
        bar.instrument,
        bar.interval,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume,
        bar.value / COST_SCALE,
        bar.trades,
        bar.missing,
        bar.shifted,
        bar.ts_close,
        envelope.seq,
    )


def _fill(envelope: Envelope, fill: OrderFilled) -> tuple[str, Row]:
    return "fills", (
        envelope.ts_event,
        fill.exec_id,
        fill.order_id,
        fill.client_order_id,
        fill.account,
        fill.instrument,
        fill.side,
        fill.last_qty,
        fill.last_px,
        fill.fee / COST_SCALE,
        fill.liquidity,
        fill.cum_qty,
        fill.leaves_qty,
        fill.strategy,
        fill.trader,
        fill.desk,
        fill.client,
        envelope.seq,
    )


def _position(envelope: Envelope, position: PositionChanged) -> tuple[str, Row]:
    return "positions", (
        envelope.ts_event,
        position.account,
        position.instrument,
        position.strategy,
        position.quantity,
        position.open_cost / COST_SCALE,
        position.realized / COST_SCALE,
        position.fees / COST_SCALE,
        position.order_id,
        position.exec_id,
        position.as_of,
        envelope.seq,
    )


def _pnl(envelope: Envelope, pnl: PnlRealized) -> tuple[str, Row]:
    return "pnl", (
        envelope.ts_event,
        pnl.account,
        pnl.instrument,
        pnl.strategy,
        pnl.currency,
        pnl.realized / COST_SCALE,
        pnl.fee / COST_SCALE,
        pnl.total_realized / COST_SCALE,
        pnl.total_fees / COST_SCALE,
        pnl.order_id,
        pnl.exec_id,
        pnl.as_of,
        envelope.seq,
    )


def _risk(
    envelope: Envelope,
    scope: str = "",
    severity: str = "",
    message: str = "",
    principal: str = "",
    alert_id: str = "",
    limits_version: int | None = None,
) -> tuple[str, Row]:
    kind = type(envelope.data).__name__
    principal = principal or envelope.principal
    return "risk_events", (
        envelope.ts_event,
        kind,
        scope,
        severity,
        message,
        principal,
        alert_id,
        limits_version,
        envelope.seq,
    )


def _raised(envelope: Envelope, alert: AlertRaised) -> tuple[str, Row]:
    return _risk(envelope, alert.scope, alert.severity, alert.message, alert_id=alert.alert_id)


def _acknowledged(envelope: Envelope, alert: AlertAcknowledged) -> tuple[str, Row]:
    return _risk(envelope, message=alert.note, principal=alert.by, alert_id=alert.alert_id)


def _stopped(envelope: Envelope, stop: Killed | Resumed) -> tuple[str, Row]:
    return _risk(envelope, stop.scope, message=stop.reason, principal=stop.by)


def _limits(envelope: Envelope, change: LimitsChanged) -> tuple[str, Row]:
    return _risk(envelope, message=change.reason, principal=change.by, limits_version=change.version)


_ROWS: dict[type, Callable[[Envelope, Any], tuple[str, Row]]] = {
    Trade: _trade,
    Book: _quote,
    Bar: _bar,
    OrderFilled: _fill,
    PositionChanged: _position,
    PnlRealized: _pnl,
    AlertRaised: _raised,
    AlertAcknowledged: _acknowledged,
    Killed: _stopped,
    Resumed: _stopped,
    LimitsChanged: _limits,
}
