"""Looks at a strategy and takes the steps: the shell around `reconcile_strategy`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from trade2026_operator.cache import Cache
from trade2026_operator.desired import Builder
from trade2026_operator.kube import Conflict, Kube
from trade2026_operator.queue import GONE, Key
from trade2026_operator.reconcile import actions as do
from trade2026_operator.reconcile.hosting import is_idle
from trade2026_operator.reconcile.objects import Manifest, digest_of, ref_of
from trade2026_operator.reconcile.reconcile import FINALIZER
from trade2026_operator.reconcile.strategy import NUMBERS_SECONDS, SeenStrategy, reconcile_strategy

log = logging.getLogger(__name__)

AGAIN_SECONDS = 0.2
CANCEL_TRIES_MAX = 30
"""A strategy that is deleted is let go all the same when its stack can't be reached, and an Event says so."""

Recorder = Callable[[Manifest, str, str, bool], Awaitable[None]]


class Asked(Protocol):
    """What is asked of stacks (see `orders.Orders`)."""

    async def cancel_strategy(self, key: Key, strategy: str, reason: str) -> bool: ...
    async def strategies(self, key: Key) -> Mapping[str, Any] | None: ...


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
        self._faults: dict[Key, tuple[str, str]] = {}
        self._cancelled: dict[Key, Literal["asked", "done"]] = {}
        self._tries: dict[Key, int] = {}
        self._numbers_at: dict[Key, float] = {}

    async def look(self, key: Key) -> float | None:
        """See `queue.Look`. Raises `KubeError`: it is tried again later."""
        strategy = self.cache.strategies.get(key)
        if strategy is None:
            for known in (self._faults, self._cancelled, self._tries, self._numbers_at):
                known.pop(key, None)
            return GONE
        if not is_idle(strategy):
            self._cancelled.pop(key, None)
            self._tries.pop(key, None)
        seen = await self._seen(key, strategy)
        steps = reconcile_strategy(seen, self._now())
        again_after = steps.again_after
        for step in steps.actions:
            try:
                await self._take(key, seen, step)
            except Conflict as error:
                log.info("%s/%s has changed meanwhile: %s", *key, error)
                again_after = AGAIN_SECONDS
        return again_after

    async def _seen(self, key: Key, strategy: Manifest) -> SeenStrategy:
        stack, no_stack = self.cache.strategies.stack_of(strategy)
        if stack is None:
            return SeenStrategy(strategy, "", no_stack, cancelled=self._cancelled.get(key, ""))
        hosting = self.cache.strategies.hosting(stack)
        told = None
        if hosting.settled and hosting.runs:
            told = (await self._asked.strategies(stack) or {}).get(key.name)
        return SeenStrategy(
            strategy=strategy,
            stack=stack.name,
            fault=await self._fault_of(key, self.cache.stacks.get(stack), strategy),
            hosting=hosting,
            told=told,
            cancelled=self._cancelled.get(key, ""),
            numbers_age=self._clock() - self._numbers_at.get(key, float("-inf")),
        )

    async def _fault_of(self, key: Key, stack: Manifest | None, strategy: Manifest) -> str:
        """Looked for once for each version of the two manifests."""
        if stack is None or is_idle(strategy):
            return ""
        digest = digest_of({"metadata": {}, "specs": [stack["spec"], strategy["spec"]]})
        known = self._faults.get(key)
        if known is None or known[0] != digest:
            found = await asyncio.to_thread(self.builder.fault_of, stack, strategy)
            known = self._faults[key] = (digest, found)
        return known[1]

    async def _take(self, key: Key, seen: SeenStrategy, step: do.Action) -> None:
        match step:
            case do.SetFinalizer(present):
                await self._hold(key, present)
            case do.CancelOrders(final):
                await self._cancel(key, seen, final)
            case do.PatchStatus(status):
                await self._patch_status(key, seen, status)
            case do.Say(reason, message, is_warning):
                await self._say(seen.strategy, reason, message, is_warning)
            case _:
                raise AssertionError(f"{step} is no step of a strategy")

    async def _cancel(self, key: Key, seen: SeenStrategy, final: bool) -> None:
        stack, deleting = Key(key.namespace, seen.stack), bool(seen.strategy["metadata"].get("deletionTimestamp"))
        why = "the strategy is deleted" if deleting else "the strategy is paused"
        if not is_idle(seen.strategy):
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
