"""The kill switch: a stop holds here first, then at the order service and the venue, then in our log.

A release goes the other way: nothing is released before the order service says that its release is durable.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from trade2026.domain.events import Killed, Resumed
from trade2026.kit.bus.port import BusError
from trade2026.kit.calls import Answer, Post
from trade2026.kit.clock import Clock
from trade2026.kit.settings import ProcessSettings

ORDER_SERVICE = "oms"
KILL_TARGETS = (ORDER_SERVICE, "gateway")

Record = Callable[[Killed | Resumed], Awaitable[int]]
"""Writes to our log and returns the position; raises `BusError`."""


@dataclass(eq=False)
class _Latch:
    stop: Killed
    since: int
    """When it was asked for, ns."""


@dataclass(eq=False)
class _Asked:
    body: bytes
    authorization: str
    targets: set[str]
    """Who has not confirmed yet."""
    busy: bool = False


class KillSwitch:
    """Stops that were asked for here, until the order log shows them.

    Args:
        post: How another service is asked.
        record: Writes an event to `risk.events`.
    """

    def __init__(self, settings: ProcessSettings, clock: Clock, post: Post, record: Record) -> None:
        self._settings, self._clock, self._post, self._record = settings, clock, post, record
        self._latched: dict[str, _Latch] = {}
        self._asked: dict[str, _Asked] = {}
        """Kills that somebody has not confirmed, by scope: asked again until they do."""

    @property
    def latched(self) -> dict[str, Killed]:
        """What the order log does not show yet, by scope."""
        return {scope: latch.stop for scope, latch in self._latched.items()}

    def asked_at(self, scope: str) -> int | None:
        """When the stop of a scope was asked for here, in ns; None once the order log shows it."""
        latch = self._latched.get(scope)
        return latch.since if latch is not None else None

    def unconfirmed(self, scope: str) -> list[str]:
        """The services that have not confirmed the stop of a scope."""
        asked = self._asked.get(scope)
        return sorted(asked.targets) if asked is not None else []

    def unconfirmed_by(self, target: str) -> list[str]:
        """The scopes whose stop a service has not confirmed."""
        return sorted(scope for scope, asked in self._asked.items() if target in asked.targets)

    async def kill(self, stop: Killed, authorization: str) -> dict[str, Any]:
        """Stop a scope: latch it here, tell the order service and the venue at once, then log it."""
        started = self._clock.now()
        self._latched[stop.scope] = _Latch(stop, started)
        body = msgspec.json.encode({"scope": stop.scope, "reason": stop.reason, "halt": stop.halt})
        self._asked[stop.scope] = _Asked(body, authorization, set(KILL_TARGETS))
        reached = await self._tell(stop.scope)
        return {"scope": stop.scope, "reached": reached, "ms": self._ms(started), **await self._logged(stop)}

    async def resume(self, release: Resumed, authorization: str) -> dict[str, Any]:
        """Release a scope once the order service has; the stop holds, and is asked for, if it has not.

        A release is never asked for again on its own: whoever asked has been told that it failed.
        """
        scope, started = release.scope, self._clock.now()
        latch = self._latched.get(scope)
        body = msgspec.json.encode({"scope": scope, "reason": release.reason})
        answer, reached = await self._ask(ORDER_SERVICE, "/resume", body, authorization)
        told = {ORDER_SERVICE: reached}
        if not answer.ok:
            refused = {"logged": False, "detail": f"the stop of {scope} holds: {answer.detail or answer.status}"}
            return {"scope": scope, "reached": told, "ms": self._ms(started), **refused}
        if self._latched.get(scope) in (None, latch):  # else it was stopped again meanwhile
            self._latched.pop(scope, None)
            self._asked.pop(scope, None)
            told |= await self._ask_all(
                "/resume", body, authorization, {name for name in KILL_TARGETS if name != ORDER_SERVICE}
            )
        return {"scope": scope, "reached": told, "ms": self._ms(started), **await self._logged(release)}

    def shown(self, event: Killed | Resumed, ts: int) -> None:
        """The order log shows a stop or a release, written at `ts` (ns): it ends what is older here."""
        latch = self._latched.get(event.scope)
        if latch is not None and latch.since > ts:
            return
        self._latched.pop(event.scope, None)
        if isinstance(event, Resumed):
            self._asked.pop(event.scope, None)

    async def ask_again(self) -> None:
        """Tell those who have not confirmed."""
        for scope in sorted(scope for scope, asked in self._asked.items() if not asked.busy):
            await self._tell(scope)

    async def _tell(self, scope: str) -> dict[str, Any]:
        asked = self._asked.get(scope)
        if asked is None:
            return {}
        asked.busy = True
        try:
            told = await self._ask_all("/kill", asked.body, asked.authorization, asked.targets)
        finally:
            asked.busy = False
        # A 4xx will not become better by asking again.
        asked.targets -= {name for name, answer in told.items() if 200 <= answer["status"] < 500}
        if not asked.targets and self._asked.get(scope) is asked:
            del self._asked[scope]
        return told

    async def _ask_all(self, path: str, body: bytes, authorization: str, targets: set[str]) -> dict[str, Any]:
        names = [name for name in KILL_TARGETS if name in targets]
        answers = await asyncio.gather(*(self._ask(name, path, body, authorization) for name in names))
        return {name: told for name, (_, told) in zip(names, answers, strict=True)}

    async def _ask(self, name: str, path: str, body: bytes, authorization: str) -> tuple[Answer, dict[str, Any]]:
        started = self._clock.now()
        if name not in self._settings.ports:
            answer = Answer(404, detail=f"this stack has no {name}")
        else:
            answer = await self._ask_any(name, path, body, authorization)
        told = {"ok": answer.ok, "ms": self._ms(started), "status": answer.status, "detail": answer.detail}
        return answer, told

    async def _ask_any(self, name: str, path: str, body: bytes, authorization: str) -> Answer:
        """Tell every replica of a stop at once; each tells the others, so the first that has done it is enough.

        A release goes to one after the other: what a replica that sleeps finds when it wakes must not release again.
        """
        urls = self._settings.urls(name)
        if path != "/kill":
            answer = Answer(0, detail=f"there is no {name}")
            for url in urls:
                answer = await self._post(url + path, body, authorization=authorization)
                if answer.status or "refused" not in answer.detail.lower():
                    break
            return answer
        asking = {asyncio.ensure_future(self._post(url + path, body, authorization=authorization)) for url in urls}
        answers: list[Answer] = []
        try:
            for answered in asyncio.as_completed(asking):
                answers.append(await answered)
                if answers[-1].ok:
                    break
        finally:
            for task in asking:
                task.cancel()
        return max(answers, key=lambda answer: (answer.ok, answer.status))

    async def _logged(self, event: Killed | Resumed) -> dict[str, Any]:
        try:
            return {"logged": True, "seq": await self._record(event)}
        except BusError as error:
            return {"logged": False, "detail": f"done, but not logged: {error}"}

    def _ms(self, started: int) -> float:
        return round((self._clock.now() - started) / 1e6, 3)
