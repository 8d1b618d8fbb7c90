"""Looks at a stack and takes the steps: the shell around `reconcile`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from opentelemetry.trace import NoOpTracer, Tracer

from trade2026 import __version__
from trade2026_operator.asked import running
from trade2026_operator.cache import Cache, manager_of
from trade2026_operator.desired import Builder
from trade2026_operator.fallback import Fallbacks
from trade2026_operator.helm.manifests import owned, parse
from trade2026_operator.helm.records import Record, RecordUnreadable, from_secret, to_secret
from trade2026_operator.helm.render import RenderFailed
from trade2026_operator.keys import keys_secret
from trade2026_operator.kube import Conflict, Kube, Refused
from trade2026_operator.metrics import Metrics
from trade2026_operator.queue import GONE, Key
from trade2026_operator.reconcile import actions as do
from trade2026_operator.reconcile.hosting import hosting, is_to_run, version_of
from trade2026_operator.reconcile.objects import (
    STACK_LABEL,
    Manifest,
    Ref,
    digest_of,
    ref_of,
    resource_version_of,
    uid_of,
)
from trade2026_operator.reconcile.reconcile import FINALIZER, reconcile
from trade2026_operator.reconcile.sharing import shared_log
from trade2026_operator.reconcile.state import Desired
from trade2026_operator.reconcile.transitions import transitions
from trade2026_operator.tracing import about, name_of, target_of
from trade2026_operator.wants import Wants

log = logging.getLogger(__name__)

AGAIN_SECONDS = 0.2
"""What was seen is not so any more: a watch will tell in a moment."""
CANCEL_SECONDS_MAX = 60.0
"""A stack that can't be reached any more is deleted all the same, and an Event says so."""

REPLICAS_MANAGER = "trade2026-replicas"
"""Has the replicas of a workload between us and its autoscaler, which takes them over when it first changes them."""

Cancel = Callable[[Manifest], Awaitable[bool]]
"""Cancels a stack's working orders; whether that is done."""
Planned = Callable[[Key, Manifest, Desired], None]
"""Is told of what is wanted of a stack, once for each version of its manifest."""
Recorder = Callable[[Manifest, str, str, bool], Awaitable[None]]
"""Writes a Kubernetes Event on a stack: reason, message, whether it is a warning."""


class Worker:
    """Takes the steps of stacks.

    Args:
        now: UTC.
    """

    def __init__(
        self,
        kube: Kube,
        cache: Cache,
        builder: Builder,
        cancel: Cancel,
        say: Recorder,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        metrics: Metrics | None = None,
        planned: Planned = lambda key, stack, desired: None,
        tracer: Tracer | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self._tracer = tracer or NoOpTracer()
        self.kube, self.cache, self.builder = kube, cache, builder
        self._cancel, self._say, self._now = cancel, say, now
        self._planned = planned
        self._wants = Wants(builder.chart.copy())
        self._fallbacks = Fallbacks(kube)
        self._cancelling_since: dict[Key, tuple[str, datetime]] = {}
        """By whose uid, for another one may have taken its name."""

    async def look(self, key: Key) -> float | None:
        """See `queue.Look`. Raises `KubeError` or `RenderFailed`: it is tried again later."""
        began, end = time.monotonic(), "failed"
        with self._tracer.start_as_current_span("reconcile", attributes=about(key)) as span:
            try:
                after, acted = await self._look(key)
                end = "acted" if acted else "settled"
                return after
            finally:
                span.set_attribute("trade2026.end", end)
                self.metrics.looked(time.monotonic() - began, end)

    async def _look(self, key: Key) -> tuple[float | None, bool]:
        """In how many seconds it is to be looked at again, and whether anything was done."""
        stack = self.cache.stacks.get(key)
        if stack is None:
            self._wants.forget(key)
            self._planned(key, {}, Desired())
            self._cancelling_since.pop(key, None)
            self._fallbacks.forget(key)
            return GONE, False
        is_ending = bool(stack["metadata"].get("deletionTimestamp"))
        desired = Desired() if is_ending else await self._wanted(key, stack)
        for ref in self.cache.incomplete(key):
            if (found := await self.kube.get(ref)) is not None:
                self.cache.found(key, found)
        if key not in self.cache.stacks:
            return GONE, False
        observed = self.cache.observed(key)
        steps = reconcile(observed, desired, self._now())
        strategies = self.cache.strategies
        strategies.hosted(key, hosting(observed, desired, steps.actions, strategies.hosting(key)))
        again_after = steps.again_after
        seen = {record.secret_name: record.version for each in observed.records.values() for record in each}
        try:
            for step in steps.actions:
                with self._tracer.start_as_current_span(name_of(step), attributes=target_of(step)):
                    taken = await self._take(key, stack, step, seen)
                if not taken:
                    again_after = AGAIN_SECONDS
        except Conflict as error:
            log.info("%s/%s has changed meanwhile: %s", *key, error)
            again_after = AGAIN_SECONDS  # and the steps that were left rest on what is not so any more
        if desired.is_transient:
            raise RenderFailed(desired.fault)
        return again_after, bool(steps.actions)

    async def _wanted(self, key: Key, stack: Manifest) -> Desired:
        """What the manifest asks for, rendered once for each of its versions."""
        records = self.cache.records(key)
        stack, instead_of = await self._fallbacks.planned(key, stack, self.builder, records)
        now = running(records, stack["spec"].get("version", __version__))
        strategies = self.cache.strategies.of(key)
        asked = [[version_of(each), is_to_run(each)] for each in strategies]
        name = {"name": key.name}
        if why := shared_log(stack, self.cache.stacks.values()):
            return Desired(fault=why)
        said = {"spec": stack["spec"], "beside": str(now), "strategies": asked, "instead": instead_of}
        digest = digest_of({"metadata": name, **said})
        known = self._wants.get(key, digest)
        if known is None:
            with self._tracer.start_as_current_span("render"):
                known = await asyncio.to_thread(self.builder.desired, stack, now, strategies, instead_of)
            if not known.is_transient:
                self._wants.put(key, digest, known)
                self._planned(key, stack, known)
        return known

    async def _take(self, key: Key, stack: Manifest, step: do.Action, seen: dict[str, str]) -> bool:
        """Take a step; False if it was not taken, and is to be looked at again. Raises `Conflict`.

        Args:
            seen: Versions of records, by Secret.
        """
        match step:
            case do.Apply(manifest, corrects):
                self.metrics.corrections += corrects
                return await self._apply(key, manifest)
            case do.KeepReplicas(ref):
                self.cache.found(key, await self.kube.apply(_replicas(step), REPLICAS_MANAGER))
            case do.MakeKeys():
                await self._make_keys(key)
            case do.Delete(ref, uid):
                await self.kube.delete(ref, uid)
            case do.WriteRecord():
                await self._write_record(key, step, seen)
            case do.ReadRecord(secret):
                await self._read_record(key, secret)
            case do.DropRecord(secret):
                await self.kube.delete(Ref("v1", "Secret", key.namespace, secret))
            case do.SetFinalizer(present):
                await self._hold(stack, present)
            case do.CancelOrders():
                await self._cancel_orders(key, stack)
            case do.PatchStatus(status):
                await self._patch_status(stack, status)
            case do.Say(reason, message, is_warning):
                await self._say(stack, reason, message, is_warning)
        return True

    async def _apply(self, key: Key, manifest: Manifest) -> bool:
        asked = digest_of(manifest)
        try:
            answer = await self.kube.apply(manifest, manager_of(manifest))
        except Refused as error:
            self.cache.refused(key, ref_of(manifest), asked, str(error))
            return False
        self.cache.applied(key, asked, answer)
        return True

    async def _make_keys(self, key: Key) -> None:
        """Once: those that somebody has put there are the stack's."""
        wanted = keys_secret(key.name, key.namespace)
        found = await self.kube.get(ref_of(wanted))
        self.cache.found(key, found if found is not None else await self.kube.create(wanted))

    async def _write_record(self, key: Key, step: do.WriteRecord, seen: dict[str, str]) -> None:
        """A record is made, or takes the place of the same revision's: but not of what a person's `helm` wrote meanwhile."""
        record = step.record
        before = await self.kube.get(Ref("v1", "Secret", record.namespace, record.secret_name))
        if before is not None and resource_version_of(before) != seen.get(record.secret_name) and _is_record(before):
            self.cache.recorded(key, before)
            raise Conflict(409, "Conflict", f"{record.secret_name} was written meanwhile")
        if record.summary_of:
            like = Ref("v1", "Secret", record.namespace, step.like or record.secret_name)
            record = record.completed(_whole(await self.kube.get(like) if step.like else before))
        secret = to_secret(record, self._now(), {STACK_LABEL: key.name})
        if before is None:
            written = await self.kube.create(secret)
        else:
            secret["metadata"]["resourceVersion"] = resource_version_of(before)
            written = await self.kube.replace(secret)
        seen[record.secret_name] = resource_version_of(written)
        self.cache.recorded(key, written)

    async def _read_record(self, key: Key, secret: str) -> None:
        record = _whole(await self.kube.get(Ref("v1", "Secret", key.namespace, secret)))
        manifests = owned(parse(record.manifest), record.name, record.namespace)
        self.cache.read(key, record.content, tuple(manifests))

    async def _hold(self, stack: Manifest, present: bool) -> None:
        meta = stack["metadata"]
        others = [name for name in meta.get("finalizers") or [] if name != FINALIZER]
        names = [*others, FINALIZER] if present else others
        patch = {"metadata": {"finalizers": names, "resourceVersion": meta["resourceVersion"]}}
        answer = await self.kube.merge(ref_of(stack), patch)
        if answer["metadata"].get("deletionTimestamp") and not answer["metadata"].get("finalizers"):
            self.cache.stack_gone(answer)  # nobody held it but us
        else:
            self.cache.stack_seen(answer)

    async def _cancel_orders(self, key: Key, stack: Manifest) -> None:
        life, since = self._cancelling_since.get(key, ("", self._now()))
        since = since if life == uid_of(stack) else self._now()
        self._cancelling_since[key] = uid_of(stack), since
        if await self._cancel(stack):
            self.cache.cancelled.add(key)
        elif (self._now() - since).total_seconds() >= CANCEL_SECONDS_MAX:
            self.cache.cancelled.add(key)
            await self._say(
                stack, "OrdersNotCancelled", "its order service could not be reached: look at the venue", True
            )

    async def _patch_status(self, stack: Manifest, status: dict[str, Any]) -> None:
        ref, meta = ref_of(stack), self.cache.stacks[Key(stack["metadata"]["namespace"], stack["metadata"]["name"])]
        patch = {"metadata": {"resourceVersion": meta["metadata"]["resourceVersion"]}, "status": status}
        self.cache.stack_seen(await self.kube.merge(ref, patch, "status"))
        before = (meta.get("status") or {}).get("conditions") or []
        for said in transitions(before, status["conditions"]):
            await self._say(stack, said.reason, said.message, said.is_warning)


def _is_record(secret: Manifest) -> bool:
    try:
        from_secret(secret)
    except RecordUnreadable:
        return False
    return True


def _whole(secret: Manifest | None) -> Record:
    """Raises `Conflict`: the record of which there was a summary is not there any more."""
    try:
        if secret is not None:
            return from_secret(secret)
    except RecordUnreadable as error:
        raise Conflict(409, "RecordUnreadable", str(error)) from error
    raise Conflict(409, "NotFound", "the record was deleted meanwhile")


def _replicas(step: do.KeepReplicas) -> Manifest:
    ref = step.ref
    meta = {"name": ref.name, "namespace": ref.namespace}
    if step.version:
        meta["resourceVersion"] = step.version
    return {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": meta, "spec": {"replicas": step.count}}
