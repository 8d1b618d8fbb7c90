"""Looks at a strategy and takes the steps: the shell around `reconcile_strategy`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from trade2026_operator.cache import Cache
from trade2026_operator.desired import Builder, StrategyAsked
from trade2026_operator.kube import Conflict, Kube
from trade2026_operator.queue import GONE, Key
from trade2026_operator.reconcile import actions as do
from trade2026_operator.reconcile.hosting import is_idle
from trade2026_operator.reconcile.objects import API_VERSION, Manifest, Ref, digest_of, ref_of, uid_of
from trade2026_operator.reconcile.reconcile import FINALIZER
from trade2026_operator.reconcile.strategy import NUMBERS_SECONDS, SeenStrategy, reconcile_strategy
from trade2026_operator.reconcile.strategy_limits import NOTHING_TOLD, OwnLimits, Told, may_be_told

log = logging.getLogger(__name__)

AGAIN_SECONDS = 0.2
CANCEL_TRIES_MAX = 30
"""A strategy that is deleted is let go all the same when its stack can't be reached, and an Event says so."""

TELL_TRIES_MAX = 30
"""The same of its limits."""

Recorder = Callable[[Manifest, str, str, bool], Awaitable[None]]


class Asked(Protocol):
    """What is asked of stacks (see `orders.Orders`)."""

    async def cancel_strategy(self, key: Key, strategy: str, reason: str) -> bool: ...
    async def strategies(self, key: Key) -> Mapping[str, Any] | None: ...
    async def limits(self, key: Key) -> Mapping[str, Told] | None: ...
    async def tell_limits(self, key: Key, strategy: str, limits: Mapping[str, Any], reason: str) -> bool: ...


class StrategyWorker:
    """Takes the steps of strategies.

    Args:
        now: UTC.
        clock: Seconds, for how old the numbers of a status are.
    """

    def __init__(
        self,
        kube: Kube,
        cache: Cache,
        builder: Builder,
        asked: Asked,
        say: Recorder,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kube, self.cache, self.builder = kube, cache, builder
        self._asked, self._say, self._now, self._clock = asked, say, now, clock
        self._asks: dict[Key, tuple[str, StrategyAsked]] = {}
        self._cancelled: dict[Key, Literal["asked", "done"]] = {}
        self._tries: dict[Key, int] = {}
        self._withdrawn: dict[Key, int] = {}
        """Of those that are deleted: how often their limits were asked to be taken back."""
        self._numbers_at: dict[Key, float] = {}
        self._lives: dict[Key, str] = {}
        """Whose all of this is: by its uid, for another one may have taken its name."""

    async def look(self, key: Key) -> float | None:
        """See `queue.Look`. Raises `KubeError`: it is tried again later."""
        strategy = self.cache.strategies.get(key)
        if strategy is None or self._lives.get(key) != uid_of(strategy):
            for known in (self._asks, self._cancelled, self._tries, self._withdrawn, self._numbers_at, self._lives):
                known.pop(key, None)
        if strategy is None:
            return GONE
        self._lives[key] = uid_of(strategy)
        if await self._is_early(key, strategy):
            return AGAIN_SECONDS
        seen = await self._seen(key, strategy)
        if not (is_idle(strategy) or seen.fault):
            self._cancelled.pop(key, None)
            self._tries.pop(key, None)
            seen = replace(seen, cancelled="")
        steps = reconcile_strategy(seen, self._now())
        again_after = steps.again_after
        for step in steps.actions:
            try:
                await self._take(key, seen, step)
            except Conflict as error:
                log.info("%s/%s has changed meanwhile: %s", *key, error)
                again_after = AGAIN_SECONDS
        return again_after

    async def _is_early(self, key: Key, strategy: Manifest) -> bool:
        """Whether its stack is there, and no watch has told of it yet: without it, it would count as gone."""
        name = (strategy.get("status") or {}).get("stack")
        if not name or self.cache.strategies.stack_of(strategy)[0] is not None:
            return False
        named = (strategy["spec"].get("stackRef") or {}).get("name", name)
        is_known = Key(key.namespace, name) in self.cache.stacks
        return named == name and not is_known and await self.kube.get(_stack(key.namespace, name)) is not None

    async def _seen(self, key: Key, strategy: Manifest) -> SeenStrategy:
        stack, no_stack = self.cache.strategies.stack_of(strategy)
        if stack is None:
            return SeenStrategy(strategy, "", no_stack, cancelled=self._cancelled.get(key, ""))
        hosting = self.cache.strategies.hosting(stack)
        asks = await self._asked_of(key, self.cache.stacks.get(stack), strategy)
        told = None
        if hosting.settled and hosting.runs:
            told = (await self._asked.strategies(stack) or {}).get(key.name)
        return SeenStrategy(
            strategy=strategy,
            stack=stack.name,
            fault="" if is_idle(strategy) else asks.fault,
            hosting=hosting,
            told=told,
            cancelled=self._cancelled.get(key, ""),
            numbers_age=self._clock() - self._numbers_at.get(key, float("-inf")),
            own_limits=OwnLimits(asks.limits, await self._told_limits(stack, strategy, asks.limits)),
            withdrawn=self._withdrawn.get(key, 0) >= TELL_TRIES_MAX,
        )

    async def _told_limits(self, stack: Key, strategy: Manifest, wanted: Mapping[str, Any] | None) -> Told | None:
        if not may_be_told(strategy, wanted):
            return None
        told = await self._asked.limits(stack)
        return None if told is None else told.get(strategy["metadata"]["name"], NOTHING_TOLD)

    async def _asked_of(self, key: Key, stack: Manifest | None, strategy: Manifest) -> StrategyAsked:
        """Looked for once for each version of the two manifests."""
        if stack is None:
            return StrategyAsked()
        digest = digest_of({"metadata": {}, "specs": [stack["spec"], strategy["spec"]]})
        known = self._asks.get(key)
        if known is None or known[0] != digest:
            found = await asyncio.to_thread(self.builder.asked_of, stack, strategy)
            known = self._asks[key] = (digest, found)
        return known[1]

    async def _take(self, key: Key, seen: SeenStrategy, step: do.Action) -> None:
        match step:
            case do.SetFinalizer(present):
                await self._hold(key, present)
            case do.CancelOrders(final):
                await self._cancel(key, seen, final)
            case do.TellLimits(limits):
                await self._tell_limits(key, seen, limits)
            case do.PatchStatus(status):
                await self._patch_status(key, seen, status)
            case do.Say(reason, message, is_warning):
                await self._say(seen.strategy, reason, message, is_warning)
            case _:
                raise AssertionError(f"{step} is no step of a strategy")

    async def _cancel(self, key: Key, seen: SeenStrategy, final: bool) -> None:
        stack, deleting = Key(key.namespace, seen.stack), bool(seen.strategy["metadata"].get("deletionTimestamp"))
        why = "the strategy is deleted" if deleting else "the strategy is paused"
        if seen.fault:
            why = "the strategy does not fit its stack any more"
        elif not is_idle(seen.strategy):
            await self._asked.cancel_strategy(stack, key.name, "the strategy runs in the shadow")
            return
        done = await self._asked.cancel_strategy(stack, key.name, why)
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        if final and not done and deleting and tries >= CANCEL_TRIES_MAX:
            done = True
            told = "its stack's order service could not be reached: look at the venue"
            await self._say(seen.strategy, "OrdersNotCancelled", told, True)
        # Who can't be reached now is asked again when the strategy can send no more: that is what counts.
        self._cancelled[key] = "done" if final and done else "asked"

    async def _tell_limits(self, key: Key, seen: SeenStrategy, limits: Mapping[str, Any]) -> None:
        meta = seen.strategy["metadata"]
        why = f"generation {meta.get('generation', 0)} of Strategy {key.name} was applied"
        if meta.get("deletionTimestamp"):
            why = f"Strategy {key.name} was deleted"
            tries = self._withdrawn[key] = self._withdrawn.get(key, 0) + 1
            if tries == TELL_TRIES_MAX:
                told = (
                    "its stack's risk service could not be reached: its limits stand until a strategy of its name comes"
                )
                await self._say(seen.strategy, "LimitsNotWithdrawn", told, True)
        await self._asked.tell_limits(Key(key.namespace, seen.stack), key.name, limits, why)

    async def _hold(self, key: Key, present: bool) -> None:
        strategy = self.cache.strategies.get(key)
        assert strategy is not None
        meta = strategy["metadata"]
        others = [name for name in meta.get("finalizers") or [] if name != FINALIZER]
        names = [*others, FINALIZER] if present else others
        patch = {"metadata": {"finalizers": names, "resourceVersion": meta["resourceVersion"]}}
        self.cache.strategies.seen(await self.kube.merge(ref_of(strategy), patch))

    async def _patch_status(self, key: Key, seen: SeenStrategy, status: dict[str, Any]) -> None:
        strategy = self.cache.strategies.get(key)
        assert strategy is not None
        patch = {"metadata": {"resourceVersion": strategy["metadata"]["resourceVersion"]}, "status": status}
        answer = await self.kube.merge(ref_of(strategy), patch, "status")
        if seen.told is not None and seen.numbers_age >= NUMBERS_SECONDS:
            self._numbers_at[key] = self._clock()
        self.cache.strategies.seen(answer)


def _stack(namespace: str, name: str) -> Ref:
    return Ref(API_VERSION, "TradingStack", namespace, name)
