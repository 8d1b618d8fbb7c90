"""A desk with one strategy, as a person, a cluster and the strategies' process treat it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.unit.operator.fake_kube import copied
from tests.unit.operator.operated import KEY, LOOKS_MAX, Desk

from trade2026_operator.kube import KubeError
from trade2026_operator.queue import GONE, Key
from trade2026_operator.reconcile.objects import API_VERSION, Ref, condition_of
from trade2026_operator.reconcile.strategy_limits import Told
from trade2026_operator.strategy_worker import StrategyWorker

MAKER = Key(KEY.namespace, "maker")
STRATEGY = Ref(API_VERSION, "Strategy", *MAKER)
PROCESS = Ref("apps/v1", "StatefulSet", KEY.namespace, "desk-strategies")
SPEC: dict[str, Any] = {
    "stackRef": {"name": KEY.name},
    "source": {"class": "trade2026.sdk.examples.market_making:MarketMaking"},
    "symbols": ["BTCUSDT"],
}
RUNNING: dict[str, Any] = {
    "status": "running",
    "reason": "",
    "symbols": ["BTCUSDT.SIM"],
    "position": {"BTCUSDT.SIM": "0.5"},
    "pnl": "12.3456",
    "drawdown": "0.5",
    "open_orders": 2,
    "last_signal_time": "2026-03-04T05:06:07.123456789Z",
}


@dataclass
class Traded(Desk):
    """Attributes:
    answers: What the strategies' process says of each strategy; None: it does not answer.
    asked: Scopes whose orders were cancelled, and whether the strategy could still send one then.
    limits_told: What risk was told of each strategy; None: it does not answer.
    adopts: Whether the order service decides by what risk was told.
    """

    answers: dict[str, dict[str, Any]] | None = None
    asked: list[tuple[str, bool]] = field(default_factory=list[tuple[str, bool]])
    limits_told: dict[str, dict[str, Any]] | None = field(default_factory=dict[str, dict[str, Any]])
    adopts: bool = True
    reasons: list[str] = field(default_factory=list[str])

    def start_operator(self, note: str = "") -> None:
        super().start_operator(note)
        self.strategist = StrategyWorker(
            self.kube, self.cache, self.builder, self, self._say, lambda: self.moment, lambda: self.seconds
        )

    async def begin(self, **spec: Any) -> None:
        """`kubectl apply` of the strategy."""
        if STRATEGY in self.kube.objects:
            await self.kube.merge(STRATEGY, {"spec": spec})
        else:
            manifest = {"apiVersion": API_VERSION, "kind": "Strategy", "spec": {**copy.deepcopy(SPEC), **spec}}
            await self.kube.create({**manifest, "metadata": {"name": MAKER.name, "namespace": MAKER.namespace}})
        self.kube.calls.clear()

    def watch(self) -> None:
        super().watch()
        found = self.kube.objects.get(STRATEGY)
        if found is not None:
            self.cache.strategies.seen(copied(found))
        elif (known := self.cache.strategies.get(MAKER)) is not None:
            self.cache.strategies.gone(known)

    async def look(self) -> None:
        """At the stack, then at the strategy."""
        self.watch()
        await self.worker.look(KEY)
        self.watch()
        self.after = await self.strategist.look(MAKER)
        self.watch()

    async def trade(self) -> None:
        """Both are applied, the pods have come up, and the strategy runs."""
        await self.apply()
        await self.begin()
        await self.settle_all()
        self.answers = {MAKER.name: dict(RUNNING)}
        await self.settle_all()
        self.kube.calls.clear()
        self.said.clear()

    async def settle_all(self) -> None:
        """Pods come up as soon as they are there, until nothing is written any more."""
        for _ in range(LOOKS_MAX):
            before = len(self.kube.calls)
            try:
                await self.look()
            except KubeError:
                continue
            self.become_ready()
            if len(self.kube.calls) == before and (self.after in (None, GONE) or self.after >= 5):
                return
        raise AssertionError(f"it does not settle: {self.kube.calls[-8:]}, again after {self.after}")

    @property
    def status(self) -> dict[str, Any]:
        return self.kube.objects[STRATEGY].get("status") or {}

    def of(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        found = condition_of(self.kube.objects[STRATEGY], kind)
        assert found is not None, f"it has no condition {kind}"
        return found["status"], found["reason"]

    async def cancel_strategy(self, key: Key, strategy: str, reason: str) -> bool:
        assert key == KEY
        workload = self.kube.objects.get(PROCESS)
        self.asked.append((f"strategy:{strategy}", workload is not None))
        return self.can_cancel

    async def limits(self, key: Key) -> Mapping[str, Told] | None:
        assert key == KEY
        if self.limits_told is None:
            return None
        return {name: Told(limits, self.adopts) for name, limits in self.limits_told.items()}

    async def tell_limits(self, key: Key, strategy: str, limits: Mapping[str, Any], reason: str) -> bool:
        assert key == KEY
        if self.limits_told is None:
            return False
        self.limits_told.pop(strategy, None)
        if limits:
            self.limits_told[strategy] = dict(limits)
        self.reasons.append(reason)
        return True

    async def strategies(self, key: Key) -> Mapping[str, Any] | None:
        assert key == KEY
        return self.answers
