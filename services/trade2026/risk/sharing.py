"""What limits need that span partitions: slices are shared out, and losses and executions added up. Idle with one."""

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from trade2026.controls.slices import Shortage
from trade2026.domain import events as ev
from trade2026.kit.bus.port import BusError
from trade2026.kit.own_key import own_authorization
from trade2026.kit.service import Health
from trade2026.risk.log import NotThere
from trade2026.risk.slicing import Slicing, View
from trade2026.risk.whole import Past, WholeStops, longest_window

if TYPE_CHECKING:
    from trade2026.risk.service import RiskService

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 0.01
"""Between two looks, however much happens."""
_RECORD_SECONDS_MAX = 10.0
"""A partition that has not recorded a grant for so long is told of in `/health`."""
_WINDOWS = (2, 4, 8)
"""So many times the time over which executions are limited are read back, until what was before has no say."""
_RECORDS_MAX = 1_000_000
"""Of one partition that are read back."""


class SharingOut:
    """Looks whenever something has changed that may call for another share, or for a stop."""

    def __init__(self, risk: "RiskService") -> None:
        self._risk = risk
        self._slicing, self._whole = Slicing(), WholeStops()
        self._wake = asyncio.Event()
        self._may_share = True
        """Something has changed that may call for another share: an execution alone does not."""
        self._task: asyncio.Task[None] | None = None
        self._granted_at: dict[int, int] = {}
        """When (ns) a partition was granted what it has not recorded yet."""

    @property
    def _is_needed(self) -> bool:
        return len(self._risk.orders) > 1

    async def start(self) -> None:
        """Look from now on, as if this process had always looked.

        Raises:
            BusError: what was executed before can't be read.
        """
        if not self._is_needed:
            return
        await self._recount()
        for orders in self._risk.orders:  # what one has stopped while nobody looked
            for scope, (stop, ts) in orders.trips.items():
                if scope in orders.controls.halts:
                    self._whole.tripped(stop, ts)
        self._task = asyncio.create_task(self._run(), name="sharing out of limits")
        self._task.add_done_callback(_say_what_failed)

    async def _recount(self) -> None:
        """Count executions of before, as far back as it takes to know how many count now."""
        book, now = self._risk.book, self._risk.context.clock.now()
        window = longest_window(book)
        if not window:
            self._whole.recount(book, Past(now, True, []), now)
            return
        for windows in _WINDOWS:
            read = [await each.executions(now - windows * window, _RECORDS_MAX) for each in self._risk.orders]
            reached = [since for _, since in read]
            past = Past(max(reached), not any(reached), [event for events, _ in read for event in events])
            if self._whole.recount(book, past, now, is_final=windows == _WINDOWS[-1]):
                return

    async def stop(self) -> None:
        """Look no more. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def health(self) -> dict[str, Health]:
        """Whether what was granted is taken; nothing with one partition."""
        if not self._is_needed:
            return {}
        if self._task is not None and self._task.done():
            return {"slices": Health(False, "limits are not shared out any more; see the log")}
        now = self._risk.context.clock.now()
        late = [number for number, since in sorted(self._granted_at.items()) if now - since > _RECORD_SECONDS_MAX * 1e9]
        detail = f"partition {', '.join(map(str, late))} has not recorded its slices" if late else ""
        return {"slices": Health(not late, detail)}

    def changed(self, event: ev.LimitsAdopted | ev.OrderFilled, ts: int) -> None:
        """A partition has recorded limits, or an order has executed."""
        if self._is_needed:
            if isinstance(event, ev.OrderFilled):
                self._whole.filled(self._risk.book, event, ts)
            else:
                self._may_share = True
            self._wake.set()

    def stopped(self, event: ev.Killed | ev.Resumed, ts: int) -> None:
        """A partition shows a stop or a release, written at `ts` (ns)."""
        if isinstance(event, ev.Resumed):
            self._whole.released(event.scope, ts)
        elif self._is_needed and self._task is not None and event.cause != "person":
            self._whole.tripped(event, ts)
            self._wake.set()

    def want(self, shortage: Shortage, partition: int) -> bool:
        """A partition asks for a larger slice; whether there is as much to be had."""
        now = self._risk.context.clock.now()
        wanted = self._slicing.want(self.views(shortage.scope), shortage, partition, now)
        self._may_share = True
        self._wake.set()
        return wanted

    def views(self, asked: str = "") -> list[View]:
        """Every limit that spans partitions, as it is shared out now; also of a scope that nobody has traded in."""
        if not self._is_needed:
            return []
        seen = [orders.controls for orders in self._risk.orders]
        grants = self._risk.log.machine.grants
        for number, controls in enumerate(seen):
            if number in grants:
                grants[number].recorded(controls.book.grant)
                if not grants[number].waiting:
                    self._granted_at.pop(number, None)
        return self._slicing.views(self._risk.book, seen, grants, self._risk.context.clock.now(), asked)

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                self._may_share = True
            self._wake.clear()
            await self._halt()
            if self._may_share:
                await self._share_out()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _share_out(self) -> None:
        """Grant what is to be granted now; what could not be recorded is decided anew with the next look."""
        self._may_share = False
        try:
            await self._grant()
        except NotThere:
            self._may_share = True
            self._wake.set()
        except BusError as error:
            log.warning("limits can't be shared out now: %s", error)

    async def _grant(self) -> None:
        now, at = self._risk.context.clock.now(), self._risk.log.machine.next_seq
        for number, slices in sorted(self._slicing.proposals(self.views(), now).items()):
            event = ev.SlicesGranted(partition=number, slices=msgspec.Raw(msgspec.json.encode(slices)))
            # Another grant may have been recorded that we did not know of: then this one would be too much.
            await self._risk.log.record(event, principal="risk", at=at)
            self._granted_at.setdefault(number, now)
            at += 1

    async def _halt(self) -> None:
        risk = self._risk
        seen = [orders.controls for orders in risk.orders]
        self._whole.look_at_losses(risk.book, seen, risk.context.clock.now())
        for scope, stop in list(self._whole.due.items()):
            stopped = all(scope in each.halts or scope in each.kills for each in seen)
            if not stopped and scope not in risk.stops.latched:
                await risk.stops.kill(stop, own_authorization())
            if self._whole.due.get(scope) is stop:
                del self._whole.due[scope]


def _say_what_failed(done: "asyncio.Task[None]") -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        log.error("limits are not shared out any more: %r", error, exc_info=error)
