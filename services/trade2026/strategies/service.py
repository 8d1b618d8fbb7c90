"""The strategies: owns `strategies.events`; follows `orders.events` and the market; asks the OMS.

What it promises: a decision leaves after all that led to it is durable; after a crash the same decisions
follow from the same deliveries; a strategy that fails is killed and waits for a named person; no strategy
shares this process with orders.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec

from trade2026.domain import events as ev
from trade2026.domain.instruments import Instruments
from trade2026.domain.replicas import instance_name, replica_of
from trade2026.domain.shards import partition_name
from trade2026.kit.calls import post
from trade2026.kit.http import App
from trade2026.kit.lag import Followed, Position
from trade2026.kit.origin import Origin
from trade2026.kit.own_key import own_key
from trade2026.kit.projection import snapshot_directory
from trade2026.kit.service import Context, Health, Service
from trade2026.kit.snapshots import SnapshotStore
from trade2026.sdk.hosted import Hosted
from trade2026.strategies import api
from trade2026.strategies.drawdown import HighestProfits
from trade2026.strategies.heirs import Heirs
from trade2026.strategies.loading import StrategySettings, load
from trade2026.strategies.machine import Decision, Loaded, Parked, StrategiesMachine
from trade2026.strategies.order_entry import Answered, OrderEntry
from trade2026.strategies.runner import TOPIC, Runner
from trade2026.strategies.watchdog import HungStrategies, Watchdog

log = logging.getLogger(__name__)

SHADOW_CODE = "shadow"
"""Why an order of a strategy in the shadow is refused."""
REFUSED_TOLD_MIN = 10
"""So many refusals of orders in a row are worth a word."""
_KILL_RETRY_SECONDS = 0.5
_DRAIN_SECONDS_MAX = 3.0
_PROFITS_SECONDS = 1.0


class StrategiesConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`config` of the service; `strategies` is written by the planner."""

    strategies: list[StrategySettings] = []
    catch_up_seconds: float = 10.0
    """Market data that is older when the process begins is not delivered any more."""
    callback_seconds_max: float = 5.0
    """Of processor time: a strategy whose method takes longer has failed."""


class StrategiesService(Service):
    """Every strategy of the stack."""

    name = "strategies"
    title = "Strategies"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        settings = self.settings
        self.config = msgspec.convert(settings.config.get(self.name, {}), StrategiesConfig, strict=False)
        self.instruments = Instruments(settings.instruments).by_id
        self.number = replica_of(settings.release)
        """Of this process, among those that share the symbols of strategies."""
        self.processes = max((one.shards for one in self.config.strategies), default=1)
        self.loaded = {
            one.name: load(one, settings.instruments, self.number)
            for one in self.config.strategies
            if self.number < one.shards
        }
        self.shards = {one.name: one.shards for one in self.config.strategies}
        self.shadows = frozenset(one.name for one in self.config.strategies if one.shadow)
        """Those that run and send nothing."""
        self.hung = HungStrategies(settings.state / "strategies" / f"{instance_name('hung', self.number)}.json")
        for name, hung in self.hung.read().items():
            one = self.loaded.get(name)
            if one is not None and one.code == hung.code and not one.trouble:
                self.loaded[name] = msgspec.structs.replace(one, make=Parked, trouble=hung.reason)
        for name, one in self.loaded.items():
            if one.trouble:
                log.error("strategy %s can't run: %s", name, one.trouble)
        self.key = own_key()
        self.entry = OrderEntry(settings.addresses("oms"), self.key, self._order_id, self._answered)
        self.reaction = context.metrics.histogram(
            "trade2026_strategy_reaction_seconds",
            "From a trade at the venue to the answer to the order that it led to",
            service=self.name,
        )
        self.runner = self._runner(self.number, self.loaded, self._send)
        orphans = range(self.processes + self.number, settings.partitions(TOPIC), self.processes)
        self.heirs = Heirs(context.bus, orphans if self.number < self.processes else (), partial(_Heir, self))
        self.watchdog = Watchdog(
            lambda: tuple(self.machine.hosted.values()), self.config.callback_seconds_max, self._end_process
        )
        self.highest = HighestProfits()
        self._looking: asyncio.Task[None] | None = None
        self._killing: set[asyncio.Task[None]] = set()

    @property
    def machine(self) -> StrategiesMachine:
        """The strategies; another object after a recovery."""
        return self.runner.machine

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        self.watchdog.start()
        self.entry.start()
        await self.runner.start()
        self.heirs.start()
        self._looking = asyncio.create_task(self._look_at_profits(), name="highest profits")

    async def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        await self.heirs.stop()
        await self.runner.stop()
        await self.entry.stop(_DRAIN_SECONDS_MAX)
        self.watchdog.stop()
        for task in self._killing:
            task.cancel()

    def readiness(self) -> tuple[bool, str]:
        return self.runner.ready, self.runner.detail

    def followed(self) -> Iterable[Followed]:
        cursors = self.machine.cursors
        return [
            Position(*each, cursors[name])
            for each in self.runner.followed
            if (name := partition_name(*each)) in cursors
        ]

    def health(self) -> dict[str, Health]:
        checks = {
            "log": Health(self.runner.ready, self.runner.detail),
            "order_entry": Health(not self.entry.detail, self.entry.detail),
        }
        for name in sorted(self.machine.hosted):
            status, reason = self.status_of(name)
            if status in ("failed", "halted"):
                checks[f"strategy:{name}"] = Health(False, f"{status}: {reason.partition(chr(10))[0]}")
        return checks

    def stats(self) -> dict[str, Any]:
        hosted = self.machine.hosted
        return {
            "strategies": len(self.loaded),
            "running": sum(self.status_of(name)[0] == "running" for name in hosted),
            "deliveries": self.runner.deliveries,
            "decisions": self.runner.decisions,
            "waiting": self.entry.waiting,
            "p50_ms": self._milliseconds(0.5),
            "p99_ms": self._milliseconds(0.99),
        }

    def _milliseconds(self, quantile: float) -> float | None:
        ns = self.reaction.quantile(quantile, window=True)
        return None if ns is None else round(ns / 1e6, 3)

    def status_of(self, name: str) -> tuple[str, str]:
        """How a strategy is, in one word, and why."""
        hosted, one = self.machine.hosted[name], self.loaded.get(name)
        if one is not None and one.trouble:
            return "failed", one.trouble
        if waits := self.runner.handover.waiting.get(name):
            return "starting", waits
        if hosted.status == "running" and hosted.halted:
            return "halted", hosted.halted
        if one is None and hosted.status == "stopped":
            return "stopped", "it was stopped, or taken out of the manifest"
        if hosted.status == "running" and name in self.shadows:
            return "running", "in the shadow: its orders are recorded and not sent"
        if hosted.status == "running" and (refused := hosted.ctx._orders.refused)[0] >= REFUSED_TOLD_MIN:
            return "running", f"its last {refused[0]} orders were refused: {refused[1] or 'no code'}"
        return ("starting" if hosted.status == "new" else hosted.status), hosted.reason

    async def _look_at_profits(self) -> None:
        while True:
            for name, hosted in self.machine.hosted.items():
                self.highest.drawdown(name, hosted.ctx.account.pnl)
            await asyncio.sleep(_PROFITS_SECONDS)

    def _runner(self, number: int, loaded: Mapping[str, Loaded], send: Callable[[Decision, Origin], None]) -> Runner:
        settings, context = self.settings, self.context
        return Runner(
            context.bus,
            context.clock,
            lambda: StrategiesMachine(loaded, self.instruments, number),
            tenant=settings.stack,
            owner=f"{settings.release}-{context.instance}",
            snapshots=SnapshotStore(snapshot_directory(settings.state, self.name, number), self.name),
            send=send,
            failed=self._kill,
            reacted=self.reaction.observe_ns,
            catch_up_ns=int(self.config.catch_up_seconds * 1e9),
            partitions=settings.partitions("orders.events"),
            shard=number,
            shards=settings.partitions(TOPIC),
        )

    def others(self) -> list[str]:
        """Where the other processes are asked that share symbols with this one."""
        numbers = (number for number in range(self.processes) if number != self.number)
        return [self.settings.replica_url(self.name, number) for number in numbers]

    def _order_id(self, strategy: str, client_order_id: str) -> str:
        return self.machine.order_id(strategy, client_order_id)

    def _send(self, decision: Decision, origin: Origin) -> None:
        """What takes risk away leaves in the shadow, too: it may have orders from before."""
        if decision.strategy in self.shadows and not isinstance(decision, ev.CancelDecided):
            told = Answered(decision, SHADOW_CODE, "it runs in the shadow: its orders are not sent")
            asyncio.get_running_loop().call_soon(self._answered, told)
            return
        self.entry.send(decision, origin)

    def _answered(self, answer: Answered) -> None:
        self.runner.refuse(answer.decision, answer.code, answer.reason)

    def _end_process(self, hosted: Hosted) -> None:
        name, one = hosted.definition.name, self.loaded.get(hosted.definition.name)
        self.hung.end_process(name, one.code if one is not None else "", hosted.calling)

    def _kill(self, strategy: str, reason: str) -> None:
        """A strategy that has failed must not leave orders behind, and must not trade until a person says so."""
        task = asyncio.create_task(self._kill_until_done(strategy, reason.partition("\n")[0]))
        self._killing.add(task)
        task.add_done_callback(self._killing.discard)

    async def _kill_until_done(self, strategy: str, reason: str) -> None:
        body = msgspec.json.encode({"scope": f"strategy:{strategy}", "reason": f"it has failed: {reason}"[:200]})
        authorization = f"Bearer {self.key}" if self.key else ""
        where = self.settings.addresses("oms")
        while True:
            url = where.url
            answer = await post(f"{url}/kill", body, authorization=authorization)
            if answer.ok:
                return
            where.move_on(url)
            said = answer.detail or answer.body.decode("utf-8", "replace")[:200]
            log.error("strategy %s has failed and could not be killed yet: %s", strategy, said)
            await asyncio.sleep(_KILL_RETRY_SECONDS)


class _Heir:
    """See `Heir`: a runner without strategies, with a way to the order service of its own."""

    def __init__(self, service: StrategiesService, partition: int) -> None:
        where = service.settings.addresses("oms")
        self.entry = OrderEntry(where, service.key, self._order_id, self._answered)
        self.runner = service._runner(partition, {}, self.entry.send)

    @property
    def is_done(self) -> bool:
        return self.runner.fenced or (self.runner.ready and not self.runner.handover.claims.mine.held)

    async def start(self) -> None:
        self.entry.start()
        await self.runner.start()

    async def stop(self) -> None:
        await self.runner.stop()
        await self.entry.stop(_DRAIN_SECONDS_MAX)

    def _order_id(self, strategy: str, client_order_id: str) -> str:
        return self.runner.machine.order_id(strategy, client_order_id)

    def _answered(self, answer: Answered) -> None:
        self.runner.refuse(answer.decision, answer.code, answer.reason)
