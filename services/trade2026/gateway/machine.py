"""A venue that never was: paper orders against a derived book and recorded prints.

Orders that cross the book take from it at once; what rests is filled by prints: by one that goes through
its price, or by one at its price after those that stood there before. Participants trade with the
recorded market, not with each other.

Pure: time comes with the command, randomness does not exist. What was reported is folded from
`venue.reports` alone, whose partitions are those of the orders: what is reported of an order is in the
order's. The market is one for all of them. Two things are the market's and not ours to log: what is left in the book, and
how far the queue ahead of an order has moved; after a restart, from a snapshot or without one, an order
stands behind what the first book displays at its price.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from trade2026.controls.scopes import in_scope, venue_of
from trade2026.domain import events as ev
from trade2026.domain.commands import Command
from trade2026.domain.frozen import Frozen, Records
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Book, Level, Trade
from trade2026.domain.numbers import BPS, cost_of, to_text
from trade2026.domain.orders import HELD_TYPES, OrderSpec, OrderType, TimeInForce
from trade2026.domain.rejects import RejectCode
from trade2026.gateway import commands as cmd
from trade2026.gateway.order_ids import partition_of_report
from trade2026.gateway.resting import Level as RestingLevel
from trade2026.gateway.resting import Side, VenueOrder, shown_of
from trade2026.gateway.venue_state import ReportsState, VenuePiece, VenueState, decode, encode, pieces, thawed

Emit = Callable[[ev.AnyEvent], None]

CLOSED_KEPT = 20_000
"""Orders that are over and still known, so that the same order is not taken twice."""
FILLS_PER_PRINT_MAX = 2_000
"""A print fills at most this many of our orders on a side; the next print goes on."""

_PASSING = frozenset({TimeInForce.IOC, TimeInForce.FOK})


class _Liquidity:
    """What is left in a book: each side as `[price, quantity]`, the best first."""

    def __init__(self, book: Book) -> None:
        self.bids = _copy(book.bids)
        self.asks = _copy(book.asks)

    def against(self, spec: OrderSpec) -> list[list[int]]:
        """The levels that the order crosses and that still hold something."""
        limit, buys = spec.price, spec.side == "BUY"
        anything = spec.order_type is OrderType.MARKET
        found: list[list[int]] = []
        for level in self.asks if buys else self.bids:
            if not (anything or (level[0] <= limit if buys else level[0] >= limit)):
                break
            if level[1] > 0:
                found.append(level)
        return found

    def displayed(self, buys: bool, price: int) -> int:
        """What stands at a price."""
        return next((level[1] for level in (self.bids if buys else self.asks) if level[0] == price), 0)

    def take(self, buys: bool, price: int, quantity: int) -> None:
        """A buy, or sell, has taken from the other side."""
        for level in self.asks if buys else self.bids:
            if level[0] == price:
                level[1] -= quantity


def _copy(levels: list[Level]) -> list[list[int]]:
    return [[level.price, level.quantity] for level in levels]


class Reports:
    """How far one partition of the reports is."""

    def __init__(self, partition: int, next_seq: int = 0, executions: int = 0, orders_next: int = 0) -> None:
        self.next_seq, self.executions = next_seq, executions
        self.orders_next = orders_next
        """The position after the last event that was answered, in the same partition of `orders.events`."""
        self.causes = f"orders.events/{partition}/"
        self.names = f"-{partition}-" if partition else "-"
        """Between the venue and the number of an execution: each partition counts its own."""


class PaperVenue:
    """Decides what the venue reports, and folds what it has reported.

    Args:
        instruments: By id; an order for another one is rejected.
        kills: Scopes in which new orders are refused, and why; the shell latches them here.
        partitions: Of `venue.reports`, and of `orders.events`.
    """

    def __init__(
        self, instruments: Mapping[str, Instrument], kills: Mapping[str, cmd.Kill] | None = None, partitions: int = 1
    ) -> None:
        self.instruments = instruments
        self.kills: Mapping[str, cmd.Kill] = kills if kills is not None else {}
        self.orders: Records[VenuePiece, VenueOrder] = Records()
        self.closed: OrderedDict[str, VenueOrder] = OrderedDict()
        self.reports = [Reports(partition) for partition in range(partitions)]
        self.accepted = 0
        self.last_print: dict[str, str] = {}
        """Per instrument, the newest print that filled something."""
        self._resting: dict[str, tuple[Side, Side]] = {}
        self._books: dict[str, _Liquidity] = {}
        self._expiries: list[tuple[int, str]] = []
        """A heap of (ns, order id); entries of orders that are over are dropped when they come up."""
        self._deciders: dict[type, Callable[[Any, Emit], Any]] = {
            cmd.PlaceOrders: self._place,
            cmd.CancelWorking: self._cancel,
            cmd.CancelMany: self._cancel_many,
            cmd.ReplaceWorking: self._replace,
            cmd.ExpireOrders: self._expire,
            cmd.ObservePrint: self._print,
            cmd.ObserveBook: self._show,
        }
        self._folds: dict[type, Callable[[Any, ev.Envelope], None]] = {
            ev.VenueAccepted: self._on_accepted,
            ev.VenueRejected: self._on_rejected,
            ev.VenueFilled: self._on_filled,
            ev.VenueCanceled: self._on_canceled,
            ev.VenueReplaced: self._on_replaced,
            ev.VenueCancelRejected: self._on_nothing,
            ev.VenueReplaceRejected: self._on_nothing,
        }

    def decide(self, command: Any, emit: Emit) -> Any:
        """Emit the reports that follow from a command; each is folded before the next is decided."""
        return self._deciders[type(command)](command, emit)

    def apply(self, envelope: ev.Envelope, partition: int = 0) -> None:
        """Fold the next report of a partition."""
        reports, cause = self.reports[partition], envelope.causation_id
        assert envelope.seq == reports.next_seq, f"report {envelope.seq} follows {reports.next_seq - 1}"
        self._folds[type(envelope.data)](envelope.data, envelope)
        reports.next_seq += 1
        if cause.startswith(reports.causes):
            reports.orders_next = max(reports.orders_next, int(cause[len(reports.causes) :]) + 1)

    def partition_of(self, order_id: str) -> int:
        """Where it is reported what becomes of an order."""
        partitions = len(self.reports)
        return partition_of_report(order_id, partitions) if partitions > 1 else 0

    @property
    def next_seq(self) -> int:
        """Reports that were folded: with one partition, the position of the next."""
        return sum(part.next_seq for part in self.reports)

    @property
    def executions(self) -> int:
        """Fills that were reported."""
        return sum(part.executions for part in self.reports)

    @property
    def orders_next(self) -> dict[int, int]:
        """By partition of `orders.events`, the position after the last event that was answered."""
        return {partition: part.orders_next for partition, part in enumerate(self.reports)}

    def traceparent_of(self, order_id: str) -> str:
        """The trace of an order that is known, or empty."""
        order = self.orders.get(order_id)
        return order.traceparent if order is not None else ""

    def find(self, order_id: str) -> VenueOrder | None:
        """An order that works, or was closed not long ago."""
        return self.orders.get(order_id) or self.closed.get(order_id)

    def in_scope(self, scope: str) -> list[str]:
        """Orders that work in a scope (see `controls.scopes`)."""
        return [order.order_id for order in self.orders.values() if in_scope(scope, order.spec)]

    def expires_by(self, now: int) -> bool:
        """Whether a time in force has run out that was not acted on yet."""
        return bool(self._expiries) and self._expiries[0][0] <= now

    def snapshot(self) -> bytes:
        """All that the log has told, to go on from with `restore`."""
        first, *others = (
            ReportsState(next_seq=part.next_seq, executions=part.executions, orders_next=part.orders_next)
            for part in self.reports
        )
        state = VenueState(
            next_seq=first.next_seq,
            executions=first.executions,
            accepted=self.accepted,
            orders_next=first.orders_next,
            others=others or msgspec.UNSET,
            last_print=self.last_print,
            orders=list(pieces(self.orders)),
            closed=list(self.closed.values()),
            resting=[
                (instrument, side.buys, level.price, list(level.orders))
                for instrument, sides in self._resting.items()
                for side in sides
                for level in side.levels.values()
            ],
        )
        return encode(state)

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot, as if its part of the log had been folded.

        Raises:
            msgspec.MsgspecError: it is damaged or of another format.
        """
        state = decode(snapshot)
        others = state.others if state.others is not msgspec.UNSET else []
        self.reports = [
            Reports(partition, part.next_seq, part.executions, part.orders_next)
            for partition, part in enumerate((state, *others))
        ]
        self.accepted, self.last_print = state.accepted, state.last_print
        self.orders, self._expiries = Records(), []
        for piece in state.orders:
            Frozen(piece, thawed).stand_in(self.orders, piece.order_ids)
            self._expiries += piece.expiries
        heapq.heapify(self._expiries)
        self.closed = OrderedDict((order.order_id, order) for order in state.closed)
        for instrument, buys, price, order_ids in state.resting:
            self._sides(instrument)[0 if buys else 1].take_back(price, order_ids)

    # ── orders ──────────────────────────────────────────────────────────────────────────────

    def _place(self, command: cmd.PlaceOrders, emit: Emit) -> None:
        for new in command.orders:
            if self.find(new.order_id) is not None:
                continue
            refusal = self._refusal(new.spec)
            if refusal is not None:
                code, reason = refusal
                emit(ev.VenueRejected(order_id=new.order_id, reason=reason, reject_code=code))
                continue
            venue_order_id = f"{venue_of(new.spec.instrument)}:{new.order_id}"
            emit(ev.VenueAccepted(order_id=new.order_id, venue_order_id=venue_order_id, spec=new.spec))
            order = self.orders[new.order_id]
            if 0 < new.spec.expire_at <= command.ts:
                emit(_expired(order))
            else:
                self._take(order, emit)

    def _refusal(self, spec: OrderSpec) -> tuple[str, str] | None:
        if spec.instrument not in self.instruments:
            return RejectCode.VENUE, f"{spec.instrument} is not traded here"
        if (stopped := self._stopped(spec)) is not None:
            return stopped
        if spec.order_type in HELD_TYPES:
            return RejectCode.VENUE, f"the venue does not hold {spec.order_type} orders"
        if spec.quantity <= 0 or (spec.order_type is not OrderType.MARKET and spec.price <= 0):
            return RejectCode.VENUE, "quantity and price must be above zero"
        crossed = self._crossed(spec)
        if spec.order_type is OrderType.MARKET and not crossed:
            return RejectCode.VENUE, "there is nothing in the book to trade with; try again after the next trade"
        if spec.post_only and crossed:
            return RejectCode.POST_ONLY, f"it would take at {to_text(crossed[0][0])}"
        return None

    def _stopped(self, spec: OrderSpec) -> tuple[str, str] | None:
        stops = [(scope, kill) for scope, kill in self.kills.items() if in_scope(scope, spec)]
        for scope, kill in stops:
            if not kill.halt:
                return RejectCode.KILLED, f"{scope} is stopped at the venue: {kill.reason}"
        if stops and not spec.reduce_only:
            scope, kill = stops[0]
            return RejectCode.HALTED, f"{scope} is halted at the venue: {kill.reason}; only reduce_only orders pass"
        return None

    def _crossed(self, spec: OrderSpec) -> list[list[int]]:
        book = self._books.get(spec.instrument)
        return book.against(spec) if book is not None else []

    def _take(self, order: VenueOrder, emit: Emit) -> None:
        """Fill what the book can fill at once, and cancel what may not rest."""
        spec = order.spec
        levels = self._crossed(spec)
        if spec.time_in_force is TimeInForce.FOK and sum(level[1] for level in levels) < order.leaves_qty:
            emit(_unsolicited(order.order_id, "the book cannot fill all of it at once"))
            return
        for price, quantity in [(level[0], level[1]) for level in levels]:
            if not order.leaves_qty:
                break
            self._fill(order, min(order.leaves_qty, quantity), price, "TAKER", "book", emit)
        if order.leaves_qty and not _rests(spec):
            emit(_unsolicited(order.order_id, "the book has no more at its price"))

    def _fill(self, order: VenueOrder, quantity: int, price: int, liquidity: Any, source: str, emit: Emit) -> None:
        instrument = self.instruments[order.spec.instrument]
        reports = self.reports[self.partition_of(order.order_id)]
        bps = instrument.maker_fee_bps if liquidity == "MAKER" else instrument.taker_fee_bps
        emit(
            ev.VenueFilled(
                order_id=order.order_id,
                exec_id=f"{instrument.venue}{reports.names}{reports.executions}",
                last_qty=quantity,
                last_px=price,
                fee=cost_of(price, quantity, instrument.multiplier) * bps // BPS,
                liquidity=liquidity,
                source=source,
            )
        )

    def _cancel(self, command: cmd.CancelWorking, emit: Emit) -> None:
        if command.order_id in self.orders:
            emit(ev.VenueCanceled(order_id=command.order_id))
        elif not self._canceled_it_itself(command.order_id):
            emit(ev.VenueCancelRejected(order_id=command.order_id, reason=self._why_not(command.order_id)))

    def _canceled_it_itself(self, order_id: str) -> bool:
        """Whether a kill, for one, was first: what is asked for has been reported, with the reason."""
        closed = self.closed.get(order_id)
        return closed is not None and closed.status == "canceled" and bool(closed.reason)

    def _why_not(self, order_id: str) -> str:
        closed = self.closed.get(order_id)
        return f"too late: it is {closed.status}" if closed is not None else "the venue does not know this order"

    def _expire(self, command: Command, emit: Emit) -> None:
        """End what may work no longer; it is too late for a trade at this very moment."""
        while self.expires_by(command.ts):
            _, order_id = heapq.heappop(self._expiries)
            order = self.orders.get(order_id)
            if order is not None:
                emit(_expired(order))

    def _cancel_many(self, command: cmd.CancelMany, emit: Emit) -> int:
        working = [order_id for order_id in command.order_ids if order_id in self.orders]
        for order_id in working:
            emit(_unsolicited(order_id, command.reason))
        return len(working)

    def _replace(self, command: cmd.ReplaceWorking, emit: Emit) -> None:
        order = self.orders.get(command.order_id)
        reason = self._why_no_replacement(order, command)
        if reason:
            emit(ev.VenueReplaceRejected(order_id=command.order_id, reason=reason))
            return
        assert order is not None
        emit(
            ev.VenueReplaced(
                order_id=order.order_id,
                quantity=command.quantity or order.spec.quantity,
                price=command.price or order.spec.price,
            )
        )
        self._take(order, emit)

    def _why_no_replacement(self, order: VenueOrder | None, command: cmd.ReplaceWorking) -> str:
        if order is None:
            return self._why_not(command.order_id)
        quantity = command.quantity or order.spec.quantity
        if quantity <= order.cum_qty:
            return f"{to_text(order.cum_qty)} of it are filled already"
        terms = msgspec.structs.replace(order.spec, quantity=quantity, price=command.price or order.spec.price)
        if order.spec.post_only and (crossed := self._crossed(terms)):
            return f"post-only, and it would take at {to_text(crossed[0][0])}"
        return ""

    # ── the market ──────────────────────────────────────────────────────────────────────────

    def _print(self, command: cmd.ObservePrint, emit: Emit) -> None:
        self._expire(command, emit)
        trade = command.trade
        for side in self._resting.get(trade.instrument, ()):
            self._match(side, trade, emit)
        if command.book is not None:
            self._books[trade.instrument] = _Liquidity(command.book)

    def _show(self, command: cmd.ObserveBook, emit: Emit) -> None:
        self._books[command.book.instrument] = _Liquidity(command.book)

    def _match(self, side: Side, trade: Trade, emit: Emit) -> None:
        """Share a print among the orders on one side: the best price first, then the first to come."""
        left, fills_left = trade.quantity, FILLS_PER_PRINT_MAX
        while left and fills_left:
            level = side.best()
            if level is None or not side.is_through(level, trade.price):
                break
            left, fills_left = self._trade_through(level, trade, left, fills_left, emit)
        level = side.levels.get(trade.price)
        if level is not None and left and fills_left:
            self._trade_at(side, level, trade, left, fills_left, emit)

    def _trade_through(
        self, level: RestingLevel, trade: Trade, left: int, fills_left: int, emit: Emit
    ) -> tuple[int, int]:
        level.rejoins = False
        level.traded = max(level.traded, level.last_mark)
        while level.orders and left and fills_left:
            order = self.orders[next(iter(level.orders))]
            quantity = min(left, order.leaves_qty)
            self._fill(order, quantity, level.price, "MAKER", trade.trade_id, emit)
            left -= quantity
            fills_left -= 1
        return left, fills_left

    def _trade_at(self, side: Side, level: RestingLevel, trade: Trade, left: int, fills_left: int, emit: Emit) -> None:
        book = self._books.get(trade.instrument)
        level.settle(book.displayed(side.buys, level.price) if book is not None else 0)
        for _ in range(min(len(level.orders), fills_left)):
            order = self.orders[next(iter(level.orders))]
            ahead = min(left, max(0, order.mark - level.traded))
            level.traded += ahead
            left -= ahead
            if not left:
                return
            quantity = min(left, order.shown)
            left -= quantity
            self._fill(order, quantity, level.price, "MAKER", trade.trade_id, emit)

    # ── the fold ────────────────────────────────────────────────────────────────────────────

    def _sides(self, instrument: str) -> tuple[Side, Side]:
        sides = self._resting.get(instrument)
        if sides is None:
            sides = self._resting[instrument] = (Side(buys=True), Side(buys=False))
        return sides

    def _side(self, spec: OrderSpec) -> Side:
        return self._sides(spec.instrument)[0 if spec.side == "BUY" else 1]

    def _rest(self, order: VenueOrder) -> None:
        spec = order.spec
        book = self._books.get(spec.instrument)
        displayed = book.displayed(spec.side == "BUY", spec.price) if book is not None else None
        self._side(spec).add(order, displayed)

    def _on_accepted(self, event: ev.VenueAccepted, envelope: ev.Envelope) -> None:
        spec = event.spec
        assert spec is not None, f"{event.order_id}: an acceptance tells what was accepted"
        order = VenueOrder(
            order_id=event.order_id,
            venue_order_id=event.venue_order_id,
            spec=spec,
            leaves_qty=spec.quantity,
            traceparent=envelope.traceparent,
        )
        self.accepted += 1
        self.orders[event.order_id] = order
        if spec.expire_at:
            heapq.heappush(self._expiries, (spec.expire_at, event.order_id))
        if _rests(spec):
            self._rest(order)

    def _on_rejected(self, event: ev.VenueRejected, envelope: ev.Envelope) -> None:
        self._remember(
            VenueOrder(
                order_id=event.order_id,
                venue_order_id="",
                spec=_UNKNOWN,
                leaves_qty=0,
                status="rejected",
                reason=event.reason,
            )
        )

    def _on_filled(self, event: ev.VenueFilled, envelope: ev.Envelope) -> None:
        order = self.orders[event.order_id]
        spec = order.spec
        assert 0 < event.last_qty <= order.leaves_qty, f"{event.order_id}: overfilled by {event.exec_id}"
        order.leaves_qty -= event.last_qty
        order.cum_qty += event.last_qty
        self.reports[self.partition_of(event.order_id)].executions += 1
        if event.liquidity == "MAKER":
            self.last_print[spec.instrument] = event.source
        elif (book := self._books.get(spec.instrument)) is not None:
            book.take(spec.side == "BUY", event.last_px, event.last_qty)
        if not order.leaves_qty:
            self._close(order, "filled", "")
        elif event.liquidity == "TAKER":
            order.shown = shown_of(order)
        else:
            order.shown -= event.last_qty
            if order.shown <= 0:
                self._rest(order)

    def _on_canceled(self, event: ev.VenueCanceled, envelope: ev.Envelope) -> None:
        self._close(self.orders[event.order_id], "expired" if event.expired else "canceled", event.reason)

    def _on_replaced(self, event: ev.VenueReplaced, envelope: ev.Envelope) -> None:
        order = self.orders[event.order_id]
        before = order.spec
        keeps_its_place = event.price == before.price and event.quantity <= before.quantity
        if not keeps_its_place:
            self._side(before).remove(order)
        order.spec = msgspec.structs.replace(before, quantity=event.quantity, price=event.price)
        order.leaves_qty = event.quantity - order.cum_qty
        if keeps_its_place:
            order.shown = min(order.shown, order.leaves_qty)
        else:
            self._rest(order)

    def _on_nothing(self, event: ev.AnyEvent, envelope: ev.Envelope) -> None:
        """A refusal changes nothing."""

    def _close(self, order: VenueOrder, status: str, reason: str) -> None:
        self._side(order.spec).remove(order)
        del self.orders[order.order_id]
        order.status, order.reason, order.mark = status, reason, 0
        self._remember(order)

    def _remember(self, order: VenueOrder) -> None:
        self.closed[order.order_id] = order
        if len(self.closed) > CLOSED_KEPT:
            self.closed.popitem(last=False)


_UNKNOWN = OrderSpec(client_order_id="", account="", instrument="", side="BUY", order_type=OrderType.MARKET, quantity=0)
"""The terms of a rejected order: its owner has them, the venue keeps none."""


def _rests(spec: OrderSpec) -> bool:
    return spec.order_type is not OrderType.MARKET and spec.time_in_force not in _PASSING


def _expired(order: VenueOrder) -> ev.VenueCanceled:
    reason = f"{order.spec.time_in_force} order expired at the venue"
    return ev.VenueCanceled(order_id=order.order_id, reason=reason, unsolicited=True, expired=True)


def _unsolicited(order_id: str, reason: str) -> ev.VenueCanceled:
    return ev.VenueCanceled(order_id=order_id, reason=reason, unsolicited=True)
