"""The OMS: keeps the cells of `orders.events` that are this process's own; follows the market for all of them.

What it promises: 200 after the event is durable under our epoch; cancels and kills before everything
else; new orders refused when the market is stale, disk or memory nearly full, or the version not allowed.
"""

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec

from trade2026 import __version__
from trade2026.controls.limits import LimitBook
from trade2026.domain import commands as cmd
from trade2026.domain.instruments import Instruments
from trade2026.domain.market import Reference
from trade2026.domain.orders import Order, OrderSpec, partition_of_id
from trade2026.kit.calls import Post, post
from trade2026.kit.cell_service import CellService
from trade2026.kit.http import App, Problem
from trade2026.kit.lag import Followed
from trade2026.kit.memory import low_memory
from trade2026.kit.reference import ReferenceCache
from trade2026.kit.service import Context, Health
from trade2026.oms import api
from trade2026.oms.accounts import AccountsOfOrders
from trade2026.oms.cell import TOPIC, OrderCell, Shared
from trade2026.oms.entry import problem_of
from trade2026.oms.order_input import OrderInput, OrderReader, _step
from trade2026.oms.refusals import UnknownOrder
from trade2026.oms.stream import EventStream

log = logging.getLogger(__name__)

_TIMER_SECONDS = 0.25


class OmsService(CellService[OrderCell]):
    """Order management for every account of the stack."""

    name = "oms"
    title = "Order management"

    def __init__(self, context: Context, post: Post = post) -> None:
        super().__init__(context)
        settings = self.settings
        venue = settings.venues[0].name if settings.venues else None
        self.instruments = Instruments(settings.instruments, venue)
        self.reader = OrderReader(self.instruments, settings.default_account)
        self.book = msgspec.json.decode(settings.risk, type=LimitBook)
        self.references = ReferenceCache(on_trades=self._on_trades)
        self.latency = context.metrics.histogram(
            "trade2026_order_ack_seconds", "From receipt to durable", service="oms"
        )
        accepted = context.metrics.counter("trade2026_orders_total", "Orders decided", service="oms")
        shared = Shared(context, self.instruments, self.book, self.latency, accepted, post)
        self.split(TOPIC, partial(OrderCell, shared))
        accounts = AccountsOfOrders(self.cells, settings.state)
        self.stream = EventStream(context.bus, TOPIC, self.partitions, accounts.of)
        self.has_market = bool(settings.venues)
        self._timer: asyncio.Task[None] | None = None
        self._room = Health(True)
        self._memory = Health(True)
        self._unique = 0

    def routes(self, app: App) -> None:
        super().routes(app)
        api.add_routes(app, self)

    async def start(self) -> None:
        if __version__ not in self.settings.allowed_versions:
            log.warning("version %s is not in %s: new orders are refused", __version__, self.settings.allowed_versions)
        self._room = self.disk()
        self._unique = self.context.clock.now()
        await self.references.follow(self.context.bus)
        await super().start()
        self._timer = asyncio.ensure_future(self._tick())

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await super().stop()
        await self.references.stop()

    def followed(self) -> Iterable[Followed]:
        return [*self.references.followed, *super().followed()]

    def health(self) -> dict[str, Health]:
        checks = {
            "disk": self._room,
            "memory": self._memory,
            "version": Health(__version__ in self.settings.allowed_versions, f"running {__version__}"),
        }
        checks |= super().health()
        if self.has_market:
            age = self.references.age(self.context.clock.now())
            fresh = age is not None and age < self.book.reference_age_ns_max
            checks["market_data"] = Health(fresh, "" if fresh else "no fresh trades")
        return checks

    def memory(self) -> Health:
        """Whether there is memory for new orders: what is open is there again after a restart, and must fit then, too."""
        why = low_memory(self.context.memory())
        return Health(not why, why)

    def stats(self) -> dict[str, Any]:
        cells = list(self.cells.here.values())
        folds = [cell.owner.machine.fold for cell in cells]
        return {
            "orders": sum(fold.order_count for fold in folds),
            "open_orders": sum(len(fold.open) for fold in folds),
            "orders_in_memory": sum(len(fold.orders) for fold in folds),
            "events": sum(fold.next_seq for fold in folds),
            "epoch": max((cell.owner.epoch for cell in cells), default=0),
            "partitions": sorted(self.cells.here),
            "forwarded": self.cells.forwarded,
            "pending": sum(cell.owner.pending for cell in cells),
            "commits": sum(cell.owner.commits for cell in cells),
            "lag": sum(cell.reports.lag for cell in cells),
            "listeners": self.stream.listeners,
            "p50_ms": self._milliseconds(0.5),
            "p99_ms": self._milliseconds(0.99),
        }

    def _milliseconds(self, quantile: float) -> float | None:
        value = self.latency.quantile(quantile, window=True)
        return round(value / 1e6, 3) if value else None

    # ── whose orders are where ──────────────────────────────────────────────────────────────

    def cell_of(self, account: str) -> OrderCell:
        """The cell of an account. Raises as `Cells.at`."""
        return self.cells.of_account(account)

    def cell_of_order(self, order_id: str) -> OrderCell:
        """The cell of an order. Raises as `Cells.at`, or `Problem` 404: nothing has that id."""
        partition = partition_of_id(order_id)
        if not 0 <= partition < self.partitions:
            raise problem_of(UnknownOrder(order_id))
        return self.cells.at(partition)

    def cells_of_scope(self, scope: str) -> list[OrderCell]:
        """The cells here that a scope reaches into: that of its account, or all. Raises as `Cells.at`."""
        kind, _, name = scope.partition(":")
        return [self.cell_of(name)] if kind == "account" else list(self.cells.here.values())

    # ── commands ────────────────────────────────────────────────────────────────────────────

    def admit(self, cell: OrderCell, *specs: OrderSpec) -> None:
        """Refuse what would add risk while we may not take it; nothing is recorded, a retry is safe."""
        if not self._room.ok:
            raise Problem(503, "disk_low", self._room.detail, retry_after=5)
        if not self._memory.ok:
            raise Problem(503, "memory_low", self._memory.detail, retry_after=5)
        if __version__ not in self.settings.allowed_versions:
            raise Problem(503, "version_not_allowed", f"{__version__} is not a version of this release", retry_after=30)
        cell.admit(*specs)

    def spec(self, order: OrderInput, now: int, idempotency_key: str = "") -> OrderSpec:
        """Return the spec of an input; an order without an id gets one that nobody else has."""
        if order.client_order_id or idempotency_key:
            return self.reader.read(order, idempotency_key, now)
        self._unique += 1
        return self.reader.read(order, f"t{self._unique:x}", now)

    def check_steps(self, instrument_id: str, terms: dict[str, int]) -> None:
        """Refuse new terms that are off the tick or the lot."""
        instrument = self.instruments.by_id[instrument_id]
        for name, value in terms.items():
            step, code = (instrument.lot_size, "off_lot") if name == "quantity" else (instrument.tick_size, "off_tick")
            _step(value, step, code, name)

    def reference(self, instrument: str) -> Reference | None:
        """What the market last said, for the decision and the log."""
        return self.references.get(instrument)

    def answered_before(self, cell: OrderCell, spec: OrderSpec) -> Order | None:
        """The order that this client order id named before it left memory."""
        if spec.client_order_id.startswith("t") and spec.client_order_id == f"t{self._unique:x}":
            return None
        return cell.answered_before(spec)

    async def kill(self, scope: str, reason: str, by: str, *, halt: bool = False) -> int:
        """Latch in every cell here, then log, then cancel; the latch holds even if the log cannot be written."""
        command = cmd.Kill(ts=self.context.clock.now(), principal=by, scope=scope, reason=reason, halt=halt)
        cells = self.cells_of_scope(scope)
        for cell in cells:
            cell.latch(command)
        return _sum(await asyncio.gather(*(cell.log_kill(command) for cell in cells), return_exceptions=True))

    async def resume(self, scope: str, reason: str, by: str) -> None:
        """Release a kill or halt here; only a named person does, and what the log refuses is not released."""
        command = cmd.Resume(ts=self.context.clock.now(), principal=by, scope=scope, reason=reason)
        for cell in self.cells_of_scope(scope):
            await cell.resume(command)

    async def cancel_all(self, command: cmd.CancelAll) -> int:
        """Ask that every open order in a scope be cancelled that is here; return how many were asked."""
        asking = (cell.submit(command, reduces_risk=True) for cell in self.cells_of_scope(command.scope))
        return _sum(await asyncio.gather(*asking, return_exceptions=True))

    def stopped(self) -> set[str]:
        """Every scope that is killed or halted here."""
        return {scope for cell in self.cells.here.values() for scope in cell.stopped()}

    # ── what it follows ─────────────────────────────────────────────────────────────────────

    async def _on_trades(self, ranges: dict[str, Reference]) -> None:
        now = self.context.clock.now()
        for cell in self.cells.here.values():
            cell.observe(ranges, now)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TIMER_SECONDS)
            self._room, self._memory = self.disk(), self.memory()
            for cell in list(self.cells.here.values()):
                cell.tick(self.context.clock.now())
            await self.cells.replace_fenced()


def _sum(answers: Iterable[Any]) -> int:
    """The sum of what cells answered; what one of them met is raised when all have answered."""
    total = 0
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        total += answer
    return total
