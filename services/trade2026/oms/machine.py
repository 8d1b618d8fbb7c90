"""The life of the orders of one partition, as FIX 4.4 tells it.

Pure: time and market come with the command, randomness does not exist. `decide` may refuse, `apply` may
not: an event is a fact. Events are emitted one by one and folded at once, so that each decision sees
what the one before it did.
"""

from collections.abc import Callable
from copy import copy
from typing import Any

import msgspec

from trade2026.controls.machine import Controls
from trade2026.controls.scopes import in_scope
from trade2026.domain import commands as cmd
from trade2026.domain import events as ev
from trade2026.domain.order_fold import OrderFold
from trade2026.domain.orders import CLOSED, Order, OrderSpec, OrderType, OrdStatus
from trade2026.domain.positions import Position
from trade2026.oms import admission, lists
from trade2026.oms.refusals import (
    SOME_IN_USE,
    BadAmendment,
    BadList,
    ClientOrderIdReused,
    OrderClosed,
    UnknownOrder,
)
from trade2026.oms.reports import meaning

Emit = Callable[[ev.AnyEvent], None]


class OrderMachine:
    """Decides what becomes of commands and venue reports, and folds what was decided.

    Args:
        controls: The limits; they hear of every event through the fold.
        partition: Names this machine's orders.
    """

    def __init__(self, controls: Controls, partition: int = 0) -> None:
        self.controls = controls
        self.fold = OrderFold(controls)
        self.partition = partition
        self._prefix = f"o{partition}-"
        self._deciders: dict[type, Callable[[Any, Emit], Any]] = {
            cmd.SubmitOrder: self._submit,
            cmd.SubmitList: self._submit_list,
            cmd.CancelOrder: self._cancel,
            cmd.CancelAll: self._cancel_all,
            cmd.AmendOrder: self._amend,
            cmd.ObserveMarket: self._observe,
            cmd.PassTime: self._pass_time,
            cmd.ApplyReport: self._report,
            cmd.Kill: self._kill,
            cmd.Resume: self._resume,
            cmd.AdoptLimits: self._adopt_limits,
            cmd.StartOwner: self._start_owner,
            cmd.ForgetClosed: self._forget_closed,
        }

    @property
    def next_seq(self) -> int:
        """The position of the next event."""
        return self.fold.next_seq

    def apply(self, envelope: ev.Envelope) -> None:
        """Fold one event."""
        self.fold.apply(envelope)

    def decide(self, command: Any, emit: Emit) -> Any:
        """Emit what follows from a command, and return its answer: orders as they are now.

        Raises:
            OrderError: the command is refused; nothing was emitted.
        """
        answer = self._deciders[type(command)](command, emit)
        if type(answer) is Order:
            return copy(answer)
        if type(command) is cmd.SubmitList:
            answer = [copy(order) for order in answer]
        return answer

    def order_id(self, number: int) -> str:
        """The id of the order with this number."""
        return f"{self._prefix}{number}"

    def find(self, order_id: str) -> Order | None:
        """An order as it is now, if memory holds it."""
        order = self.fold.orders.get(order_id)
        return copy(order) if order is not None else None

    def positions(self, account: str) -> dict[str, Position]:
        """Every position that the account ever had as it is now, by instrument."""
        return {name: copy(position) for name, position in self.controls.positions(account).items()}

    def traceparent_of(self, order_id: str) -> str:
        """The trace that an order belongs to; empty for an order that is not known yet."""
        order = self.fold.orders.get(order_id)
        return order.traceparent if order is not None else ""

    # ── single orders ───────────────────────────────────────────────────────────────────────

    def _submit(self, command: cmd.SubmitOrder, emit: Emit) -> Order:
        spec = command.spec
        known = self.known(spec)
        if known is not None:
            return known
        order_id = f"{self._prefix}{self.fold.order_count}"
        refusal = admission.of_order(self.controls, command)
        if refusal is not None:
            code, reason = refusal
            emit(
                ev.OrderRefused(
                    order_id=order_id,
                    spec=spec,
                    reject_code=code,
                    reason=reason,
                    reference=command.reference,
                    limits_version=self.controls.book.version,
                )
            )
        else:
            emit(
                ev.OrderAccepted(
                    order_id=order_id,
                    spec=spec,
                    reserved_price=self.controls.reserved_price(spec, command.reference),
                    routed=not spec.is_held,
                    reference=command.reference,
                    limits_version=self.controls.book.version,
                )
            )
        return self.fold.orders[order_id]

    def known(self, spec: OrderSpec) -> Order | None:
        """The order in memory that this client order id names.

        Raises:
            ClientOrderIdReused: it has other content.
        """
        known = self.fold.by_client_id.get((spec.account, spec.client_order_id))
        if known is None:
            return None
        order = self.fold.orders[known]
        if (order.original or order.spec) != spec:
            raise ClientOrderIdReused(order)
        return order

    def _order(self, order_id: str) -> Order:
        order = self.fold.orders.get(order_id)
        if order is None:
            raise UnknownOrder(order_id)
        return order

    def _cancel(self, command: cmd.CancelOrder, emit: Emit) -> Order:
        order = self._order(command.order_id)
        if not order.is_open:
            raise OrderClosed(order)
        self._request_cancel(order, command.reason, emit)
        return order

    def _request_cancel(self, order: Order, reason: str, emit: Emit, *, expiry: bool = False) -> bool:
        """Return whether it was asked for only now."""
        if order.status is OrdStatus.PENDING_CANCEL:
            return False
        if order.working:
            emit(ev.CancelRequested(order_id=order.order_id, reason=reason, routed=True, expiry=expiry))
            return True
        # No venue knows of it: it ends here and now.
        ended = ev.OrderExpired if expiry else ev.OrderCanceled
        emit(ended(order_id=order.order_id, reason=reason))
        self._after_close(order, emit)
        return True

    def _cancel_all(self, command: cmd.CancelAll, emit: Emit) -> int:
        return self._cancel_scope(command.scope, command.reason, emit)

    def _cancel_scope(self, scope: str, reason: str, emit: Emit) -> int:
        asked = 0
        for order in list(self.fold.open.values()):
            if order.is_open and in_scope(scope, order.spec):
                asked += self._request_cancel(order, reason, emit)
        return asked

    def _amend(self, command: cmd.AmendOrder, emit: Emit) -> Order:
        order = self._order(command.order_id)
        if not order.is_open or order.status is OrdStatus.PENDING_CANCEL:
            raise OrderClosed(order)
        if order.status is OrdStatus.PENDING_REPLACE:
            raise BadAmendment(f"order {order.order_id} already waits for the venue's answer to an amendment")
        spec = order.spec
        quantity = command.quantity or spec.quantity
        price = command.price or spec.price
        stop_price = command.stop_price or (order.stop_price if spec.is_held else 0)
        if quantity <= order.cum_qty:
            raise BadAmendment(f"quantity must be above what has executed already ({order.cum_qty} nanos)")
        if command.price and not spec.price:
            raise BadAmendment(f"a {spec.order_type} order has no price to amend")
        if command.stop_price and (not spec.is_held or order.triggered):
            raise BadAmendment("this order has no stop price to amend")
        if (quantity, price, stop_price) == (spec.quantity, spec.price, order.stop_price if spec.is_held else 0):
            return order
        wanted = msgspec.structs.replace(spec, quantity=quantity, price=price, stop_price=stop_price)
        reserved_price = self.controls.reserved_price(wanted, command.reference)
        parent = None
        if order.status is OrdStatus.SUSPENDED:
            parent = next(each.spec for each in self._siblings(order) if each.list_role == "parent")
        admission.check_terms(self.controls, command, order, wanted, parent)
        emit(
            ev.ReplaceRequested(
                order_id=order.order_id,
                quantity=quantity,
                price=price,
                stop_price=stop_price,
                reserved_price=reserved_price,
                routed=order.working,
                reference=command.reference,
            )
        )
        if not order.working:
            emit(ev.OrderReplaced(order_id=order.order_id, quantity=quantity, price=price, stop_price=stop_price))
        return order

    # ── lists: OCO, OTO, bracket ────────────────────────────────────────────────────────────

    def _submit_list(self, command: cmd.SubmitList, emit: Emit) -> list[Order]:
        specs, kind = command.specs, command.kind
        known = [self.known(spec) for spec in specs]
        if specs and all(known):
            return [order for order in known if order is not None]
        if any(known):
            raise BadList(SOME_IN_USE)
        lists.check_shape(kind, specs)
        legs = self._legs(command)
        admission.check_legs(self.controls, command, legs)
        emit(
            ev.OrderListAccepted(
                list_id=f"l{self._prefix[1:]}{self.fold.list_count}",
                kind=kind,
                orders=legs,
                reference=command.reference,
                limits_version=self.controls.book.version,
            )
        )
        return [self.fold.orders[leg.order_id] for leg in legs]

    def _legs(self, command: cmd.SubmitList) -> list[ev.ListedOrder]:
        legs: list[ev.ListedOrder] = []
        for number, spec in enumerate(command.specs):
            child = command.kind != "OCO" and number > 0
            legs.append(
                ev.ListedOrder(
                    order_id=f"{self._prefix}{self.fold.order_count + number}",
                    spec=spec,
                    role="child" if child else "oco" if command.kind == "OCO" else "parent",
                    reserved_price=self.controls.reserved_price(spec, command.reference),
                    routed=not child and not spec.is_held,
                )
            )
        return legs

    def _siblings(self, order: Order) -> list[Order]:
        legs = self.fold.lists.get(order.list_id, [])
        return [self.fold.orders[leg] for leg in legs if leg != order.order_id and leg in self.fold.orders]

    def _after_fill(self, order: Order, now: int, emit: Emit) -> None:
        if order.list_id:
            if order.list_role == "parent" and order.status is OrdStatus.FILLED:
                self._release_children(order, now, emit)
            elif lists.rivals(order):
                self._cancel_rivals(order, emit)
        for halt in self.controls.to_halt(now):
            emit(halt)

    def _cancel_rivals(self, order: Order, emit: Emit) -> None:
        for other in self._siblings(order):
            if lists.rivals(other) and other.is_open:
                self._request_cancel(other, f"{order.order_id} of the same list executed", emit)

    def _release_children(self, parent: Order, now: int, emit: Emit) -> None:
        for child in self._siblings(parent):
            if child.status is OrdStatus.SUSPENDED:
                emit(self.release(child, now))

    def release(self, child: Order, now: int) -> ev.OrderReleased | ev.OrderRejected | ev.OrderCanceled:
        """Return what becomes of a suspended child now that its parent has executed. `now` is ns."""
        siblings = self._siblings(child)
        parent = next(order for order in siblings if order.list_role == "parent")
        quantity = lists.quantity_of_release(child, parent, siblings)
        if not quantity:
            reason = f"other exits take all that parent {parent.order_id} executed"
            return ev.OrderCanceled(order_id=child.order_id, reason=reason)
        spec = msgspec.structs.replace(child.spec, quantity=quantity)
        reserved = child.reserved_price or self.controls.reserved_price(spec, None)
        broken = self.controls.check_release(spec, reserved, now)
        if broken is not None:
            # Open exits count with every leg, but of rivals only one executes: nobody is left unprotected for that.
            others = lists.open_on_side(self.fold.open.values(), child)
            broken = self.controls.check_release(spec, reserved, now, others)
        if broken is not None:
            reason = f"not released: {broken.message}"
            return ev.OrderRejected(order_id=child.order_id, reject_code=broken.code, reason=reason)
        return ev.OrderReleased(order_id=child.order_id, spec=spec, reserved_price=reserved, routed=not spec.is_held)

    def _after_close(self, order: Order, emit: Emit, now: int = 0) -> None:
        if not order.list_id:
            return
        if order.list_role == "parent":
            if order.cum_qty:
                self._release_children(order, now, emit)
            else:
                for child in self._siblings(order):
                    if child.status is OrdStatus.SUSPENDED:
                        emit(
                            ev.OrderCanceled(order_id=child.order_id, reason=f"parent {order.order_id} never executed")
                        )
        elif order.list_role == "oco":
            self._cancel_rivals(order, emit)

    # ── market and time ─────────────────────────────────────────────────────────────────────

    def _observe(self, command: cmd.ObserveMarket, emit: Emit) -> None:
        held = self.fold.held.get(command.instrument)
        if not held:
            return
        reference = command.reference
        for order in list(held.values()):
            if order.status not in (OrdStatus.NEW, OrdStatus.PENDING_REPLACE):
                continue
            buy = order.spec.side == "BUY"
            if reference.high >= order.stop_price if buy else reference.low <= order.stop_price:
                emit(ev.OrderTriggered(order_id=order.order_id, spec=self._as_sent(order), reference=reference))
                continue
            offset = order.spec.trailing_offset
            if order.spec.order_type is OrderType.TRAILING_STOP and offset:
                trail = reference.low + offset if buy else reference.high - offset
                if trail < order.stop_price if buy else trail > order.stop_price:
                    emit(ev.StopTrailed(order_id=order.order_id, stop_price=trail, reference=reference))

    @staticmethod
    def _as_sent(order: Order) -> OrderSpec:
        limit = order.spec.order_type is OrderType.STOP_LIMIT
        return msgspec.structs.replace(
            order.spec,
            order_type=OrderType.LIMIT if limit else OrderType.MARKET,
            quantity=order.leaves_qty,
            stop_price=0,
            trailing_offset=0,
        )

    def _pass_time(self, command: cmd.PassTime, emit: Emit) -> None:
        due = [order_id for at, order_id in self.fold.expiries if at <= command.ts]
        for order_id in due:
            order = self.fold.orders.get(order_id)
            if order is not None and order.is_open:
                self._request_cancel(order, f"{order.spec.time_in_force} order expired", emit, expiry=True)
        self.fold.drop_expired(command.ts)

    # ── kill, limits, ownership ─────────────────────────────────────────────────────────────

    def _kill(self, command: cmd.Kill, emit: Emit) -> int:
        stop = ev.Killed(
            scope=command.scope,
            reason=command.reason,
            by=command.principal,
            halt=command.halt,
            cause=command.cause,
        )
        controls = self.controls
        if (controls.halts if stop.halt else controls.kills).get(stop.scope) != stop:
            emit(stop)  # every replica is told, each tells the others, and risk's log says it, too: once is enough
        return 0 if command.halt else self._cancel_scope(command.scope, f"killed: {command.reason}", emit)

    def _resume(self, command: cmd.Resume, emit: Emit) -> None:
        emit(ev.Resumed(scope=command.scope, reason=command.reason, by=command.principal))

    def _adopt_limits(self, command: cmd.AdoptLimits, emit: Emit) -> None:
        emit(ev.LimitsAdopted(version=command.version, limits=command.limits))

    def _forget_closed(self, command: cmd.ForgetClosed, emit: Emit) -> int:
        return self.fold.forget_closed(command.before_seq, keep=command.keep)

    def _start_owner(self, command: cmd.StartOwner, emit: Emit) -> None:
        emit(
            ev.OwnerStarted(
                owner=command.owner,
                epoch=command.epoch,
                code_version=command.code_version,
                config_hash=command.config_hash,
            )
        )

    # ── what the venue says ─────────────────────────────────────────────────────────────────

    def _report(self, command: cmd.ApplyReport, emit: Emit) -> None:
        if command.report_seq <= self.fold.report_seq:
            return
        report = command.report
        order = self.fold.orders.get(report.order_id)
        if order is None:
            if command.recalled is None:
                return  # placed at the venue by somebody else
            order = self.fold.recall(command.recalled)
        event = meaning(report, order, command.report_seq, self.controls.multiplier(order.spec.instrument))
        if event is None:
            return
        emit(event)
        now = command.ts_report or command.ts  # what the log says that it was
        if isinstance(report, ev.VenueFilled):
            self._after_fill(order, now, emit)
        elif order.status in CLOSED:
            self._after_close(order, emit, now)
