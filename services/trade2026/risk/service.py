"""Risk: owns `risk.events`; follows `orders.events` and the market, and answers what an order would meet.

What it promises: a check is as of a position in the order log, and by the same rules that the order service
enforces; limits are only ever tightened here; a kill reaches the order service and the venue directly,
before it is logged.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import Any

import msgspec

from trade2026.controls import order_log
from trade2026.controls.exposure import DAY_NS
from trade2026.controls.limits import LIMIT_SCOPES, LimitBook, LimitSet, Tightening, ceiling_of, in_force, same_limits
from trade2026.controls.machine import Check, Controls, in_scope
from trade2026.domain import events as ev
from trade2026.domain.events import Envelope, decode
from trade2026.domain.instruments import Instruments
from trade2026.domain.market import Reference
from trade2026.domain.order_fold import OrderFold
from trade2026.domain.orders import OrderSpec
from trade2026.domain.rejects import RejectCode
from trade2026.kit.bus.port import BusError, Record
from trade2026.kit.calls import Post, post
from trade2026.kit.follower import Follower
from trade2026.kit.http import App
from trade2026.kit.lag import Followed
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.reference import ReferenceCache
from trade2026.kit.service import Context, Health, Service
from trade2026.kit.snapshots import SnapshotStore
from trade2026.risk import api
from trade2026.risk.log import RiskLog
from trade2026.risk.machine import MINUTE_NS, Watch, near_limits, next_end, tightened, unblocked
from trade2026.risk.stops import KILL_TARGETS, KillSwitch

log = logging.getLogger(__name__)

ORDERS = "orders.events"
_TIMER_SECONDS = 1.0
_GROUP = "risk"
_ALERTS_WAITING_MAX = 10_000
_SCOPES_PER_TURN = 200
_RECORDS_PER_READ = 2_000
_REFUSED = msgspec.json.encode(ev.OrderRefused.__struct_config__.tag)
"""Is in the record of every refusal: a minute may hold a million events of which none is one."""


class RiskService(Service):
    """Limits, exposure, alerts and the kill switch of a stack."""

    name = "risk"
    title = "Limits, alerts, kill switch"

    def __init__(self, context: Context, post: Post = post) -> None:
        super().__init__(context)
        settings = self.settings
        venue = settings.venues[0].name if settings.venues else None
        self.instruments = Instruments(settings.instruments, venue)
        self.ceilings = msgspec.json.decode(settings.risk, type=LimitBook)
        self.controls = Controls(self.ceilings, self.instruments.by_id)
        self.fold = OrderFold(self.controls)
        self.snapshots = SnapshotStore(snapshot_directory(settings.state, "oms"), "oms")
        """Of the order log, made by the archive."""
        self.references = ReferenceCache(on_trades=self._on_trades)
        owner = f"{settings.release}-risk-{context.instance}"
        self.log = RiskLog(context.bus, context.clock, tenant=settings.stack, owner=owner, on_fault=self._log_fault)
        self.stops = KillSwitch(settings, context.clock, post, self._record_stop)
        self.checks = context.metrics.counter(
            "trade2026_risk_checks_total", "Pre-trade checks answered", service="risk"
        )
        self._watch = Watch()
        self._alerts_waiting: list[tuple[ev.AlertRaised, str]] = []
        self._orders: Follower | None = None
        self._timer: asyncio.Task[None] | None = None
        self._log_error = ""
        self._looked_at = 0
        self._changing = asyncio.Lock()

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        await self.log.start()
        await self.references.follow(self.context.bus)
        await self._restore()
        self._orders = Follower(
            self.context.bus, ORDERS, self._on_order, from_seq=self.fold.next_seq, on_batch=self._after_batch
        )
        await self._orders.start()
        await self._raise_alerts()
        await self.refresh_limits("manifest", "the manifest was applied")
        self._timer = asyncio.ensure_future(self._tick())

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)
        if self._orders is not None:
            await self._orders.stop()
        await self.references.stop()
        await self.log.stop()

    def readiness(self) -> tuple[bool, str]:
        if self._orders is None:
            return False, "claiming the log"
        return self._timer is not None, self._orders.progress

    def followed(self) -> Iterable[Followed]:
        return [part for part in (self._orders, *self.references.followed) if part is not None]

    def health(self) -> dict[str, Health]:
        age = self.references.age(self.context.clock.now())
        fresh = age is not None and age < self.book.reference_age_ns_max
        checks = {
            "log": Health(not self._log_error, self._log_error),
            "orders_log": Health(self._orders is not None and not self._orders.error, self._orders_detail()),
            "market_data": Health(fresh, "" if fresh else self.references.error or "no fresh trades"),
        }
        for target in KILL_TARGETS:
            scopes = self.stops.unconfirmed_by(target)
            detail = f"has not confirmed the stop of {', '.join(scopes)}; asked again every second" if scopes else ""
            checks[target] = Health(not scopes, detail)
        return checks

    def stats(self) -> dict[str, Any]:
        alerts = self.log.machine.alerts.values()
        return {
            "as_of": self.as_of,
            "lag": self._orders.lag if self._orders is not None else 0,
            "limits_version": self.book.version,
            "stopped_scopes": len(self.stopped()),
            "open_orders": len(self.fold.open),
            "alerts": len(alerts),
            "alerts_open": sum(not alert.acknowledged_by for alert in alerts),
        }

    # ── questions ───────────────────────────────────────────────────────────────────────────

    @property
    def as_of(self) -> int:
        """Position of the newest order event that answers contain; -1 before the first."""
        return self.fold.next_seq - 1

    @property
    def book(self) -> LimitBook:
        """The limits in force."""
        return self.log.machine.book if self.log.machine.book.version else self.ceilings

    def explain(self, spec: OrderSpec, now: int) -> list[Check]:
        """Every rule that an order would meet now."""
        self.checks.inc(1)
        verdicts = self.controls.explain(spec, self.reference(spec.instrument), now)
        for scope, stop in self.stops.latched.items():
            if in_scope(scope, spec):
                verdicts.insert(0, _latched_verdict(stop))
        return verdicts

    def reference(self, instrument: str) -> Reference | None:
        """What the market last said."""
        return self.references.get(instrument)

    def stopped(self) -> dict[str, ev.Killed]:
        """Every kill and halt in force, by scope."""
        return {**self.controls.halts, **self.controls.kills, **self.stops.latched}

    # ── limits ──────────────────────────────────────────────────────────────────────────────

    async def tighten(self, wanted: Tightening) -> LimitBook:
        """Make limits tighter; without an end, until the manifest changes those that are tightened.

        Raises:
            WouldWiden: it would be wider than what is in force.
            BusError: not recorded.
        """
        ceiling = ceiling_of(self.ceilings, wanted.scope, wanted.limits)
        return await self._tighten(msgspec.structs.replace(wanted, ceiling=ceiling))

    async def _tighten(self, wanted: Tightening) -> LimitBook:
        async with self._changing:
            return await self._adopt(tightened(self.book, wanted), wanted.by, wanted.reason)

    async def block(self, instrument: str, by: str, reason: str) -> LimitBook:
        """Put an instrument on the restricted list of the stack until somebody unblocks it."""
        if instrument in (self.book.stack.restricted or []):
            return self.book
        return await self._tighten(
            Tightening(scope="stack", limits=LimitSet(restricted=[instrument]), by=by, reason=reason)
        )

    async def unblock(self, instrument: str, by: str, reason: str) -> LimitBook:
        """Take an instrument off the list, as far as it was put there by `block`."""
        async with self._changing:
            return await self._adopt(unblocked(self.book, instrument), by, reason, only_if_changed=True)

    async def refresh_limits(self, by: str, reason: str) -> None:
        """Record a new version if the manifest or the clock has changed what is in force."""
        async with self._changing:
            await self._adopt(self.book.tightened, by, reason, only_if_changed=True)

    async def _adopt(
        self, tightenings: list[Tightening], by: str, reason: str, *, only_if_changed: bool = False
    ) -> LimitBook:
        before = self.log.machine.book
        now = self.context.clock.now()
        version = max(before.version, self.ceilings.version) + 1
        book = msgspec.structs.replace(in_force(self.ceilings, tightenings, now), version=version)
        if only_if_changed and same_limits(book, before):
            return before
        limits = msgspec.Raw(msgspec.json.encode(book))
        await self.log.record(ev.LimitsChanged(version=version, limits=limits, by=by, reason=reason), principal=by)
        return book

    async def _record_stop(self, event: ev.Killed | ev.Resumed) -> int:
        return await self.log.record(event, principal=event.by)

    # ── alerts ──────────────────────────────────────────────────────────────────────────────

    async def acknowledge(self, alert_id: str, by: str, note: str) -> None:
        """Note that a person has seen an alert."""
        await self.log.record(ev.AlertAcknowledged(alert_id=alert_id, by=by, note=note), principal=by)

    async def _raise_alerts(self) -> None:
        waiting, self._alerts_waiting = self._alerts_waiting, []
        for position, (alert, cause) in enumerate(waiting):
            if alert.alert_id in self.log.machine.alerts:
                continue
            try:
                await self.log.record(alert, principal="risk", causation_id=cause)
            except BusError:
                self._alerts_waiting[:0] = waiting[position:]
                return

    async def look_at_exposure(self, now: int) -> None:
        """Compare exposure with what is allowed, independently of who let it happen."""
        book, day = self.book, now // DAY_NS
        for number, scope in enumerate(self.controls.scopes_known()):
            kind, _, name = scope.partition(":")
            if kind in LIMIT_SCOPES:
                exposure = self.controls.exposure(kind, name)
                for alert in near_limits(scope, book.of(kind, name), exposure, day, self.as_of):
                    if alert.alert_id not in self.log.machine.alerts:
                        self._alerts_waiting.append((alert, f"{ORDERS}/0/{self.as_of}"))
            if number % _SCOPES_PER_TURN == _SCOPES_PER_TURN - 1:
                await asyncio.sleep(0)

    # ── what it follows ─────────────────────────────────────────────────────────────────────

    def _on_order(self, envelope: Envelope, record: Record) -> None:
        self.fold.apply(envelope)
        data = envelope.data
        if isinstance(data, ev.Killed | ev.Resumed):
            self.stops.shown(data, envelope.ts_init)
        alert = self._watch.look(envelope, self.fold.orders.get(getattr(data, "order_id", "")))
        if alert is not None and len(self._alerts_waiting) < _ALERTS_WAITING_MAX:
            self._alerts_waiting.append((alert, f"{record.topic}/{record.partition}/{record.seq}"))

    async def _after_batch(self) -> None:
        self.fold.forget_closed(self.fold.next_seq)

    async def _restore(self) -> None:
        """Begin with a snapshot that lies before what was looked at: no alert of the rest may be missed."""

        def make(state: bytes) -> tuple[OrderFold, Controls]:
            controls = Controls(self.ceilings, self.instruments.by_id)
            fold = OrderFold(controls)
            order_log.restore(state, fold, controls)
            return fold, controls

        bus = self.context.bus
        looked_at = min(await bus.committed(_GROUP, ORDERS, 0), await bus.end(ORDERS, 0))
        restored = self.snapshots.restore(make, next_seq_max=looked_at)
        if restored is not None:
            self.fold, self.controls = restored
            await self._recount(self.fold.next_seq)
        self._looked_at = looked_at

    async def _recount(self, end: int) -> None:
        """Look again at the last minute before a snapshot: how often was refused in it is in no snapshot."""
        refusals: list[Envelope] = []
        oldest, position, since = await self.context.bus.start(ORDERS, 0), end, 0
        while position > oldest:
            begin = max(oldest, position - _RECORDS_PER_READ)
            found = await self._read(begin, position)
            since = since or decode(found[-1]).ts_init - MINUTE_NS
            likely = [decode(body) for body in found if _REFUSED in body]
            refusals[:0] = [envelope for envelope in likely if isinstance(envelope.data, ev.OrderRefused)]
            if decode(found[0]).ts_init < since:
                break
            position = begin
        for envelope in refusals:
            self._watch.look(envelope)

    async def _read(self, begin: int, end: int) -> list[bytes]:
        found: list[bytes] = []
        while (position := begin + len(found)) < end:
            records = await self.context.bus.read(ORDERS, 0, position, end - position)
            assert records, f"{ORDERS} has no {position}, though it goes on to {end}"
            found += [record.body for record in records]
        return found

    async def _remember(self, next_seq: int) -> None:
        """Keep durably up to where every alert was raised."""
        if next_seq > self._looked_at and not self._alerts_waiting:
            await self.context.bus.commit(_GROUP, ORDERS, 0, next_seq)
            self._looked_at = next_seq

    async def _on_trades(self, ranges: dict[str, Reference]) -> None:
        for instrument, reference in ranges.items():
            self.controls.marked(instrument, reference.last)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TIMER_SECONDS)
            if self._log_error:
                await self.log.reclaim()
            with contextlib.suppress(BusError):
                await self.look_around()

    async def look_around(self) -> None:
        """The work of the timer: end tightenings, repeat what was not confirmed, raise alerts."""
        now = self.context.clock.now()
        end = next_end(self.book)
        if end and end <= now:
            await self.refresh_limits("clock", "a tightening has ended")
        await self.stops.ask_again()
        await self.look_at_exposure(now)
        next_seq = self.fold.next_seq
        await self._raise_alerts()
        await self._remember(next_seq)

    def _log_fault(self, error: str) -> None:
        if error and error != self._log_error:
            log.warning("risk.events cannot be written: %s", error)
        self._log_error = error

    def _orders_detail(self) -> str:
        if self._orders is None:
            return "not started"
        return self._orders.error or f"as of {self.as_of}, {self._orders.lag} behind"


def _latched_verdict(stop: ev.Killed) -> Check:
    word = "halted" if stop.halt else "killed"
    return Check(
        rule="halt" if stop.halt else "kill",
        code=RejectCode.HALTED if stop.halt else RejectCode.KILLED,
        scope=stop.scope,
        limit="no",
        actual="yes",
        passed=False,
        message=f"{stop.scope} was {word} by {stop.by}: {stop.reason}; a named person must resume it",
    )
