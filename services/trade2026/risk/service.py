"""Risk: owns `risk.events`; follows `orders.events`, all partitions, and the market, and answers what an order would
meet.

What it promises: a check is as of a position in the order log of its account, and by the same rules that the order service
enforces; limits are only ever tightened here; a kill reaches the order service and the venue directly,
before it is logged.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import Any

import msgspec

from trade2026.controls.exposure import DAY_NS, Exposure, sum_of
from trade2026.controls.limits import (
    LIMIT_SCOPES,
    LimitBook,
    LimitSet,
    Tightening,
    ceiling_of,
    in_force,
    same_limits,
    with_told,
)
from trade2026.controls.machine import Check, in_scope
from trade2026.controls.slices import too_small
from trade2026.domain import events as ev
from trade2026.domain.instruments import Instruments
from trade2026.domain.market import Reference
from trade2026.domain.numbers import SCALE
from trade2026.domain.orders import OrderSpec
from trade2026.domain.rejects import RejectCode
from trade2026.domain.shards import partition_of
from trade2026.kit.bus.port import BusError
from trade2026.kit.calls import Post, post
from trade2026.kit.followers import AsOf, as_of
from trade2026.kit.http import App
from trade2026.kit.lag import Followed
from trade2026.kit.reference import ReferenceCache
from trade2026.kit.service import Context, Health, Service
from trade2026.risk import api
from trade2026.risk.log import RiskLog
from trade2026.risk.machine import STOP_ALERTS, kept_through, near_limits, next_end, tightened, unblocked
from trade2026.risk.orders_seen import ORDERS, OrdersSeen
from trade2026.risk.sharing import SharingOut
from trade2026.risk.stops import KILL_TARGETS, KillSwitch

log = logging.getLogger(__name__)

_TIMER_SECONDS = 1.0
_SCOPES_PER_TURN = 200


class RiskService(Service):
    """Limits, exposure, alerts and the kill switch of a stack."""

    name = "risk"
    title = "Limits, alerts, kill switch"

    def __init__(self, context: Context, post: Post = post) -> None:
        super().__init__(context)
        settings = self.settings
        venue = settings.venues[0].name if settings.venues else None
        self.instruments = Instruments(settings.instruments, venue)
        self.manifest = msgspec.json.decode(settings.risk, type=LimitBook)
        """The limits of the stack's manifest."""
        self.orders = [
            OrdersSeen(context, partition, self.manifest, self.instruments.by_id, self._on_stop, self._on_change)
            for partition in range(settings.partitions(ORDERS))
        ]
        """By partition of the order log."""
        self.references = ReferenceCache(on_trades=self._on_trades)
        owner = f"{settings.release}-risk-{context.instance}"
        self.log = RiskLog(context.bus, context.clock, tenant=settings.stack, owner=owner, on_fault=self._log_fault)
        self.stops = KillSwitch(settings, context.clock, post, self._record_stop)
        self.checks = context.metrics.counter(
            "trade2026_risk_checks_total", "Pre-trade checks answered", service="risk"
        )
        self._timer: asyncio.Task[None] | None = None
        self.sharing = SharingOut(self)
        self._log_error = ""
        self._changing = asyncio.Lock()

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        await self.log.start()
        await self.references.follow(self.context.bus)
        for orders in self.orders:
            await orders.start()
        await self._raise_alerts()
        await self.refresh_limits("manifest", "the manifest was applied")
        self._timer = asyncio.ensure_future(self._tick())
        await self.sharing.start()

    async def stop(self) -> None:
        await self.sharing.stop()
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)
        for orders in self.orders:
            await orders.stop()
        await self.references.stop()
        await self.log.stop()

    def readiness(self) -> tuple[bool, str]:
        followers = [orders.follower for orders in self.orders if orders.follower is not None]
        if not followers:
            return False, "claiming the log"
        return self._timer is not None, followers[-1].progress

    def followed(self) -> Iterable[Followed]:
        return [
            *[orders.follower for orders in self.orders if orders.follower is not None],
            *self.references.followed,
        ]

    def health(self) -> dict[str, Health]:
        age = self.references.age(self.context.clock.now())
        fresh = age is not None and age < self.book.reference_age_ns_max
        checks = {
            "log": Health(not self._log_error, self._log_error),
            "orders_log": self._orders_log(),
            "market_data": Health(fresh, "" if fresh else self.references.error or "no fresh trades"),
        }
        for target in KILL_TARGETS:
            scopes = self.stops.unconfirmed_by(target)
            detail = f"has not confirmed the stop of {', '.join(scopes)}; asked again every second" if scopes else ""
            checks[target] = Health(not scopes, detail)
        return checks | self.sharing.health()

    def stats(self) -> dict[str, Any]:
        alerts = self.log.machine.alerts.values()
        return {
            "as_of": self.as_of,
            "lag": sum(each.follower.lag for each in self.orders if each.follower is not None),
            "limits_version": self.book.version,
            "stopped_scopes": len(self.stopped()),
            "open_orders": sum(len(orders.fold.open) for orders in self.orders),
            "alerts": len(alerts),
            "alerts_open": sum(not alert.acknowledged_by for alert in alerts),
        }

    # ── questions ───────────────────────────────────────────────────────────────────────────

    @property
    def as_of(self) -> AsOf:
        """Position of the newest order event that answers contain; -1 before the first."""
        return as_of([orders.fold.next_seq for orders in self.orders])

    def orders_of(self, account: str) -> OrdersSeen:
        """The partition of the order log in which an account's orders are."""
        return self.orders[partition_of(account, len(self.orders))]

    @property
    def book(self) -> LimitBook:
        """The limits in force."""
        return self.log.machine.book if self.log.machine.book.version else self.manifest

    @property
    def ceilings(self) -> LimitBook:
        """The limits of the stack's manifest, and of those of strategies that were told."""
        return with_told(self.manifest, self.book.told)

    def is_enforced(self, strategy: str) -> bool:
        """Whether every partition decides by what was last told of a strategy's limits."""
        told = self.book.told.get(strategy)
        return all(orders.controls.book.told.get(strategy) == told for orders in self.orders)

    def explain(self, spec: OrderSpec, now: int) -> list[Check]:
        """Every rule that an order would meet now."""
        self.checks.inc(1)
        verdicts = self.orders_of(spec.account).controls.explain(spec, self.reference(spec.instrument), now)
        for scope, stop in self.stops.latched.items():
            if in_scope(scope, spec):
                verdicts.insert(0, _latched_verdict(stop))
        return verdicts

    def reference(self, instrument: str) -> Reference | None:
        """What the market last said."""
        return self.references.get(instrument)

    def stopped(self) -> dict[str, ev.Killed]:
        """Every kill and halt in force, by scope."""
        halts = {scope: stop for orders in self.orders for scope, stop in orders.controls.halts.items()}
        kills = {scope: stop for orders in self.orders for scope, stop in orders.controls.kills.items()}
        return {**halts, **kills, **self.stops.latched}

    def stopped_since(self, scope: str) -> int | None:
        """When a scope was stopped, in ns; of a stop in the snapshot its alert says so, None if that is forgotten."""
        seen = [orders.stopped_at[scope] for orders in self.orders if scope in orders.stopped_at]
        if (asked := self.stops.asked_at(scope)) is not None or seen:
            return asked or min(seen)
        alerts = reversed(self.log.machine.alerts.values())
        told = (alert.ts for alert in alerts if alert.scope == scope and alert.alert_id.startswith(STOP_ALERTS))
        return next(told, None)

    def exposure(self, kind: str, name: str = "") -> Exposure:
        """The exposure of a scope over all partitions; as `Controls.exposure`."""
        return sum_of([orders.controls.group(kind, name) for orders in self.orders])

    def warnings(self, book: LimitBook, scope: str) -> list[str]:
        """What limits of a scope will refuse more than is meant, because they span partitions."""
        worth: dict[str, int] = {}
        for name, instrument in self.instruments.by_id.items():
            reference = self.reference(name)
            lot = instrument.lot_size * reference.last // SCALE * instrument.multiplier // SCALE if reference else 0
            if least := max(lot, instrument.min_notional):
                worth[name] = least
        return too_small(book, len(self.orders), worth, scope)

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

    async def tell(self, strategy: str, own: LimitSet, by: str, reason: str) -> LimitBook:
        """Take the limits of a strategy's own manifest for its ceilings; without any, the stack's manifest decides.

        Raises:
            BusError: not recorded.
        """
        async with self._changing:
            told = {name: limits for name, limits in self.book.told.items() if name != strategy}
            if own != LimitSet():
                told[strategy] = own
            before, after = self.ceilings, with_told(self.manifest, told)
            tightenings = self.book.tightened
            if (strategy in before.told) != (strategy in told):
                tightenings = kept_through(tightenings, f"strategy:{strategy}", before, after)
            return await self._adopt(tightenings, by, reason, ceilings=after, only_if_changed=True)

    async def refresh_limits(self, by: str, reason: str) -> None:
        """Record a new version if the manifest or the clock has changed what is in force."""
        async with self._changing:
            await self._adopt(self.book.tightened, by, reason, only_if_changed=True)

    async def _adopt(
        self,
        tightenings: list[Tightening],
        by: str,
        reason: str,
        *,
        ceilings: LimitBook | None = None,
        only_if_changed: bool = False,
    ) -> LimitBook:
        before = self.log.machine.book
        now = self.context.clock.now()
        version = max(before.version, self.manifest.version) + 1
        book = msgspec.structs.replace(in_force(ceilings or self.ceilings, tightenings, now), version=version)
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
        for orders in self.orders:
            waiting, orders.alerts_waiting = orders.alerts_waiting, []
            for position, (alert, cause) in enumerate(waiting):
                if alert.alert_id in self.log.machine.alerts:
                    continue
                try:
                    await self.log.record(alert, principal="risk", causation_id=cause)
                except BusError:
                    orders.alerts_waiting[:0] = waiting[position:]
                    return

    async def look_at_exposure(self, now: int) -> None:
        """Compare exposure with what is allowed, independently of who let it happen."""
        book, day = self.book, now // DAY_NS
        for number, scope in enumerate(
            sorted({scope for each in self.orders for scope in each.controls.scopes_known()})
        ):
            kind, _, name = scope.partition(":")
            if kind in LIMIT_SCOPES:
                exposure = self.exposure(kind, name)
                orders = self.orders_of(name) if kind == "account" else self.orders[0]
                for alert in near_limits(scope, book.of(kind, name), exposure, day, self.as_of):
                    if alert.alert_id not in self.log.machine.alerts:
                        orders.raise_later(alert, orders.newest)
            if number % _SCOPES_PER_TURN == _SCOPES_PER_TURN - 1:
                await asyncio.sleep(0)

    # ── what it follows ─────────────────────────────────────────────────────────────────────

    async def _on_trades(self, ranges: dict[str, Reference]) -> None:
        for instrument, reference in ranges.items():
            for orders in self.orders:
                orders.controls.marked(instrument, reference.last)

    def _on_stop(self, event: ev.Killed | ev.Resumed, ts: int) -> None:
        """A stop that was asked for here is shown by the order log when it is in every partition that it concerns."""
        self.sharing.stopped(event, ts)
        kind, _, name = event.scope.partition(":")
        concerned = [self.orders_of(name)] if kind == "account" else self.orders
        stopped = [event.scope in each.controls.halts or event.scope in each.controls.kills for each in concerned]
        if isinstance(event, ev.Resumed) or all(stopped):
            self.stops.shown(event, ts)

    def _on_change(self, event: ev.LimitsAdopted | ev.OrderFilled, ts: int) -> None:
        self.sharing.changed(event, ts)

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
        positions = [orders.fold.next_seq for orders in self.orders]
        await self._raise_alerts()
        for orders, next_seq in zip(self.orders, positions, strict=True):
            await orders.remember(next_seq)

    def _log_fault(self, error: str) -> None:
        if error and error != self._log_error:
            log.warning("risk.events cannot be written: %s", error)
        self._log_error = error

    def _orders_log(self) -> Health:
        followers = [orders.follower for orders in self.orders if orders.follower is not None]
        if len(followers) < len(self.orders):
            return Health(False, "not started")
        error = "; ".join(follower.error for follower in followers if follower.error)
        return Health(not error, error or f"as of {self.as_of}, {sum(each.lag for each in followers)} behind")


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
