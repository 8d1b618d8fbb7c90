"""The leader's part of scaling: asks the pods of releases that scale how they are, and keeps what follows from it.

It runs beside the reconciling of stacks and never in it. It writes no object that a pod depends on: the HPA asks the
metrics server, that one asks here, and the number of replicas is the HPA's own.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp

from trade2026_operator.cache import MANAGER, Cache
from trade2026_operator.kube import Kube, KubeError
from trade2026_operator.queue import Key
from trade2026_operator.reconcile.objects import Manifest
from trade2026_operator.reconcile.state import Desired
from trade2026_operator.slo import memory
from trade2026_operator.slo.board import Answer, Board
from trade2026_operator.slo.demand import EASE_SECONDS, Objective
from trade2026_operator.slo.followed import Followed
from trade2026_operator.slo.guards import Verdict, heard, held, is_enough
from trade2026_operator.slo.samples import Sample, Unreadable, read_sample
from trade2026_operator.slo.targets import Pod, Scaled, autoscaler_of, pods_of, scaled, situation_of
from trade2026_operator.slo.telling import Teller, changed, is_bad
from trade2026_operator.slo.windows import NEWEST_SECONDS, WINDOW_SECONDS, Window

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
_ANSWER_SECONDS_MAX = 2.0
_ANSWER_BYTES_MAX = 2 * 2**20
_AT_ONCE_MAX = 64
"""With answers as long as they may be 128 MiB."""
_GAP_SECONDS_MAX = 30.0

Recorder = Callable[[Manifest, str, str, bool], Awaitable[None]]
Ask = Callable[[str, int], Awaitable[str]]
"""The metrics of a process, by address and port. Raises `Unreadable`."""


@dataclass
class _Stack:
    teller: Teller = field(default_factory=Teller)
    followed: dict[str, Followed] = field(default_factory=dict[str, Followed])
    saved_at: float = 0.0
    saved: Manifest | None = None
    restored: bool = False


class Scaler:
    """Args:
    ask: See `Ask`.
    clock: Seconds, monotonic.
    wall: Seconds since 1970.
    others: Who else serves external metrics; empty where nobody does.
    window_seconds: Over which rates are taken.
    ease_seconds: In which a need is forgotten, to a third of it.
    """

    def __init__(
        self,
        kube: Kube,
        cache: Cache,
        say: Recorder,
        ask: Ask,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        others: Callable[[], str] = str,
        window_seconds: float = WINDOW_SECONDS,
        ease_seconds: float = EASE_SECONDS,
    ) -> None:
        self.board = Board()
        self._kube, self._cache, self._say, self._ask = kube, cache, say, ask
        self._clock, self._wall, self._others = clock, wall, others
        self._window_seconds, self._ease_seconds = window_seconds, ease_seconds
        self._stacks: dict[Key, _Stack] = {}
        self._wanted: dict[Key, list[Scaled]] = {}

    def planned(self, key: Key, stack: Manifest, desired: Desired) -> None:
        """What is wanted of a stack is another thing now; with a fault in it all goes on as it was."""
        if releases := scaled(stack, desired):
            self._wanted[key] = releases
        elif not desired.fault:
            self._wanted.pop(key, None)

    async def run(self, pause_seconds: float = LOOK_SECONDS) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(pause_seconds)

    async def look(self) -> None:
        """One look at all releases that scale."""
        stacks = self._cache.stacks
        wanted = {
            key: releases
            for key, releases in self._wanted.items()
            if key in stacks and not stacks[key]["metadata"].get("deletionTimestamp")
        }
        self.board.keep_only(each.target for releases in wanted.values() for each in releases)
        for key in self._stacks.keys() - wanted.keys():
            del self._stacks[key]
            self._cache.scaling_told(key, ())
        looks = (self._look_at(key, stacks[key], releases) for key, releases in wanted.items())
        for key, failure in zip(wanted, await asyncio.gather(*looks, return_exceptions=True), strict=True):
            if failure is not None:
                trace = None if isinstance(failure, KubeError) else failure
                log.warning("the scaling of %s/%s is looked at again: %s", *key, failure, exc_info=trace)

    async def _look_at(self, key: Key, stack: Manifest, releases: list[Scaled]) -> None:
        known = self._stacks.setdefault(key, _Stack())
        if not known.restored:
            await self._restore(known, stack, releases)
        # All at once: of replicas that do not answer each is waited for.
        found = await asyncio.gather(*(self._told(key, each, self._followed(known, each)) for each in releases))
        verdicts = {each.target.release: verdict for each, verdict in zip(releases, found, strict=True)}
        await self._tell(key, known, stack, verdicts)
        await self._remember(known, stack)

    async def _told(self, key: Key, release: Scaled, followed: Followed) -> Verdict:
        """The verdict on a release, which is on the board then."""
        try:
            verdict = await self._judge(key, release, followed)
            self.board.put(release.target, Answer(verdict.replicas, verdict.why, self._clock()))
        except Exception:
            # Numbers of others: whatever is wrong with them is no reason to keep no stack any more.
            log.exception("%s can't be measured", release.name)
            followed.window.restart()
            verdict = held("MetricsUnreadable", "what its replicas say makes no sense (see the operator's log)")
            self.board.put(release.target, Answer(None, verdict.why, self._clock()))
        return heard(verdict, autoscaler_of(release, self._cache.children(key)), self._others())

    def _followed(self, known: _Stack, release: Scaled) -> Followed:
        """What is known of a release; with another objective its error budget begins anew."""
        name, objective = release.target.release, release.objective
        followed = known.followed.get(name)
        if followed is None:
            followed = known.followed[name] = Followed(self._window(objective))
        followed.follow(self._window(objective))
        return followed

    def _window(self, objective: Objective) -> Window:
        return Window(objective.seconds, objective.quantile, self._window_seconds)

    async def _judge(self, key: Key, release: Scaled, followed: Followed) -> Verdict:
        children, now, wall = self._cache.children(key), self._clock(), self._wall()
        window = followed.window
        situation = situation_of(release, children, window.still_burning(wall))
        pods = pods_of(release, children)
        if situation is None or not pods:
            return held("NotReady", "no replica has started")
        samples = await self._samples(release, pods)
        if not is_enough(len(samples), len(pods)):
            return held("MetricsMissing", f"{len(samples)} of {len(pods)} replicas say how they are")
        since = now - followed.looked_at if followed.looked_at is not None else 0.0
        if since > _GAP_SECONDS_MAX:
            window.restart()
        followed.looked_at = now
        window.add(now, wall, samples, len(pods))
        if window.covered_seconds < NEWEST_SECONDS:
            return held("WindowIncomplete", f"{window.covered_seconds:.0f} of {window.seconds:.0f} s are measured")
        measured = window.measured(len(pods), wall)
        return followed.judge(release.objective, measured, situation, now, since, self._ease_seconds)

    async def _samples(self, release: Scaled, pods: list[Pod]) -> dict[str, Sample]:
        """Of those that answer."""
        texts = await asyncio.gather(*(self._ask(pod.address, release.port) for pod in pods), return_exceptions=True)
        found: dict[str, Sample] = {}
        for pod, text in zip(pods, texts, strict=True):
            try:
                if isinstance(text, BaseException):
                    raise text
                found[pod.life] = read_sample(text, release.service)
            except Unreadable as error:
                log.info("%s at %s: %s", release.name, pod.address, error)
        return found

    async def _tell(self, key: Key, known: _Stack, stack: Manifest, verdicts: Mapping[str, Verdict]) -> None:
        before = known.teller.told
        told = known.teller.tell(verdicts, self._clock())
        if told is None:
            return
        self._cache.scaling_told(key, told)
        for each in changed(before, told):
            if each.message:
                await self._say(stack, each.reason, each.message, is_bad(each))

    async def _restore(self, known: _Stack, stack: Manifest, releases: list[Scaled]) -> None:
        known.saved = await self._kube.get(memory.place_of(stack))
        remembered = memory.read(known.saved)
        for release in releases:
            followed = self._followed(known, release)
            if (found := remembered.get(release.target.release)) is not None:
                followed.resume(found.limit_seconds, found.quantile, found.fit, found.minutes)
        known.restored, known.saved_at = True, self._clock()

    async def _remember(self, known: _Stack, stack: Manifest) -> None:
        """Now and then, and only what is new."""
        if self._clock() - known.saved_at < memory.SAVE_SECONDS:
            return
        known.saved_at = self._clock()
        remembered = {
            release: memory.Remembered(window.limit_seconds, window.quantile, each.fit, list(window.minutes))
            for release, each in known.followed.items()
            for window in [each.window]
        }
        wanted = memory.to_manifest(stack, remembered)
        if (known.saved or {}).get("data") != wanted["data"]:
            known.saved = await self._kube.apply(wanted, MANAGER)


class Asking:
    """Asks processes for their metrics, a few at a time."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._room = asyncio.Semaphore(_AT_ONCE_MAX)

    async def __call__(self, address: str, port: int) -> str:
        """See `Ask`."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS_MAX))
        host = f"[{address}]" if ":" in address else address
        try:
            async with self._room, self._session.get(f"http://{host}:{port}/metrics") as answer:
                if answer.status != 200:
                    raise Unreadable(f"it answers {answer.status}")
                text = bytearray()
                async for part in answer.content.iter_any():
                    text += part
                    if len(text) > _ANSWER_BYTES_MAX:
                        raise Unreadable(f"it says more than {_ANSWER_BYTES_MAX / 2**20:.0f} MiB")
                return text.decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreadable(f"it does not answer: {error!r}") from error

    async def close(self) -> None:
        """Idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None
