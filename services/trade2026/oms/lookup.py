"""Orders of any age: in memory while anything may happen to them and a while longer, in the history after.

An order leaves memory only when the history has all of its events, so it is always in one of the two. It
leaves by a command in the queue of the owner: whoever has seen it in memory is decided on before.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable
from copy import copy
from typing import Any, TypeVar

from trade2026.domain import commands as cmd
from trade2026.domain.orders import CLOSED, Order, OrderSpec, number_of
from trade2026.kit.clock import Clock
from trade2026.kit.history import HistoryReader
from trade2026.kit.owner import Overloaded, Owner, Unavailable
from trade2026.kit.pages import Page
from trade2026.oms.machine import OrderMachine
from trade2026.oms.refusals import SOME_IN_USE, BadList, ClientOrderIdReused, OrderClosed, UnknownOrder

log = logging.getLogger(__name__)
T = TypeVar("T")

CLOSED_KEPT = 20_000
"""Closed orders that stay in memory even when the history has them, for quick answers."""
ORDERS_LOOKED_AT_MAX = 10_000
"""By one page of a list, in memory as in the history."""
_RETRY_SECONDS = 0.5
_CLOSED_WORDS = ("closed", *CLOSED)


class OrderLookup:
    """Finds orders, and lets closed ones leave memory.

    Raises (every question that memory cannot answer): `Unavailable` when the history cannot be read.
    """

    def __init__(self, owner: Owner, history: HistoryReader, clock: Clock) -> None:
        self.owner, self.history, self.clock = owner, history, clock
        self.error = ""
        """Why the history cannot be read; empty while it can."""
        self._leaving = 0
        """Closed orders whose last event is before this position may leave memory at any time."""

    async def find(self, order_id: str) -> Order | None:
        """An order as it is now, durably."""
        found = await self.owner.read(lambda machine: machine.find(order_id))
        return found or self._archived(order_id)

    def account_of(self, order_id: str) -> str:
        """Whose an order is; empty if it is not known."""
        order = self.owner.machine.fold.orders.get(order_id) or self._archived(order_id)
        return order.spec.account if order is not None else ""

    def to_change(self, order_id: str) -> Order:
        """The open order that somebody wants to change, as memory has it at this moment.

        Raises:
            OrderClosed: nothing can happen to it any more, and it may have left memory.
            UnknownOrder: there never was such an order.
            Unavailable: memory is not the log's yet, so nobody can say.
        """
        if not self.owner.ready:
            raise Unavailable(self.owner.detail)
        order = self.owner.machine.fold.orders.get(order_id)
        if order is not None:
            return order
        archived = self._archived(order_id)
        raise OrderClosed(archived) if archived is not None else UnknownOrder(order_id)

    def answered_before(self, spec: OrderSpec) -> Order | None:
        """The order that this client order id named, if it has left memory or may do so before a decision.

        Raises:
            ClientOrderIdReused: it had other content.
        """
        fold = self.owner.machine.fold
        order_id = fold.by_client_id.get((spec.account, spec.client_order_id))
        if order_id is None:
            order = self._ask_history(lambda: self.history.by_client_order_id(spec.account, spec.client_order_id))
        else:
            order = fold.orders[order_id]
            if order.is_open or order.seqs[-1] >= self._leaving:
                return None
        if order is not None and (order.original or order.spec) != spec:
            raise ClientOrderIdReused(order)
        return copy(order) if order is not None else None

    async def list_answered_before(self, specs: list[OrderSpec]) -> list[Order] | None:
        """The orders of a list that these client order ids named, if any of them may have left memory.

        Raises:
            ClientOrderIdReused: one had other content.
            BadList: some name orders and others do not.
        """
        archived = [self.answered_before(spec) for spec in specs]
        if not any(archived):
            return None
        kept = await self.owner.read(lambda machine: [copy(machine.known(spec)) for spec in specs])
        found = [order for pair in zip(archived, kept, strict=True) if (order := pair[1] or pair[0]) is not None]
        if len(found) < len(specs):
            raise BadList(SOME_IN_USE)
        return found

    async def recalled(self, order_id: str) -> Order | None:
        """For a report of a venue: the order if it was ours and has left memory. Waits for the history."""
        fold = self.owner.machine.fold
        if order_id in fold.orders or not 0 <= number_of(order_id) < fold.order_count:
            return None
        while True:
            try:
                return self._archived(order_id)
            except Unavailable as error:
                log.warning("a report about %s has to wait: %s", order_id, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def page(
        self, *, account: str | None = None, status: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> Page:
        """Orders, newest first, and the cursor of the next page (None after the last).

        A page looks at a bounded number of orders, so it may be short, or empty, and have a cursor.

        Args:
            status: `open`, `closed`, an OrdStatus, or None for all.
            cursor: What came with the page before.
        """
        return await self.owner.read(lambda machine: self._page(machine, account, status, cursor, limit))

    def _page(
        self, machine: OrderMachine, account: str | None, status: str | None, cursor: str | None, limit: int
    ) -> Page:
        fold = machine.fold
        newest = fold.order_count - 1 if cursor is None else min(fold.order_count, number_of(cursor)) - 1
        if status is not None and status not in _CLOSED_WORDS:
            return self._open_page(machine, account, status, newest, limit)
        oldest = max(0, newest - ORDERS_LOOKED_AT_MAX + 1)
        archived: dict[int, Order] | None = None
        found: list[Order] = []
        for number in range(newest, oldest - 1, -1):
            order = fold.orders.get(machine.order_id(number))
            if order is None:
                if archived is None:
                    archived = self._archived_between(number, oldest, account, status, limit)
                order = archived.get(number)
                if order is None:
                    continue
            elif _is_listed(order, account, status):
                order = copy(order)
            else:
                continue
            found.append(order)
            if len(found) == limit:
                return found, order.order_id if number else None
        return found, machine.order_id(oldest) if self._is_older(machine, oldest) else None

    @staticmethod
    def _open_page(machine: OrderMachine, account: str | None, status: str, newest: int, limit: int) -> Page:
        """All that are open are in memory."""
        found: list[Order] = []
        opened = machine.fold.open
        for order_id in reversed(opened):
            if number_of(order_id) > newest:
                continue
            order = opened[order_id]
            if account in (None, order.spec.account) and status in ("open", order.status):
                if len(found) == limit:
                    return found, found[-1].order_id
                found.append(copy(order))
        return found, None

    def _archived_between(
        self, newest: int, oldest: int, account: str | None, status: str | None, limit: int
    ) -> dict[int, Order]:
        rows = self._ask_history(lambda: self.history.between(newest, oldest, account, status, limit))
        return {number_of(order.order_id): order for order in rows}

    def _is_older(self, machine: OrderMachine, oldest: int) -> bool:
        first_open = next(iter(machine.fold.open), "")
        if first_open and number_of(first_open) < oldest:
            return True
        return oldest > 0 and self._ask_history(lambda: self.history.has_before(oldest))

    def _archived(self, order_id: str) -> Order | None:
        return self._ask_history(lambda: self.history.by_id(order_id))

    def _ask_history(self, question: Callable[[], T]) -> T:
        try:
            answer = question()
        except sqlite3.Error as error:
            self.error = f"the history cannot be read: {error}"
            raise Unavailable(self.error) from error
        self.error = ""
        return answer

    def forget(self) -> None:
        """Let closed orders leave memory that the history has."""
        try:
            archived = self._ask_history(self.history.next_seq)
        except Unavailable:
            return
        fold = self.owner.machine.fold
        if len(fold.orders) - len(fold.open) <= CLOSED_KEPT:
            return
        self._leaving = self.history.relied_on = max(self._leaving, archived)
        command = cmd.ForgetClosed(ts=self.clock.now(), before_seq=archived, keep=CLOSED_KEPT)
        with contextlib.suppress(Overloaded, Unavailable):  # there is a next time
            self.owner.submit(command).add_done_callback(_leave_it)


def _leave_it(done: "asyncio.Future[Any]") -> None:
    """Nobody waits for the answer."""
    if not done.cancelled():
        done.exception()


def _is_listed(order: Order, account: str | None, status: str | None) -> bool:
    if account is not None and order.spec.account != account:
        return False
    if status == "closed":
        return order.status in CLOSED
    return status is None or order.status == status
