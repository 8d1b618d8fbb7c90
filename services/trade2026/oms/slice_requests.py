"""Asks risk for a larger part of a limit that spans partitions, for orders that only the part has no room for."""

import asyncio
import contextlib
from collections import Counter

import msgspec

from trade2026.controls.slices import Shortage, slice_in
from trade2026.kit.calls import Post
from trade2026.kit.own_key import own_authorization
from trade2026.kit.owner import Owner
from trade2026.kit.settings import ProcessSettings
from trade2026.oms.risk_follower import RiskFollower

_NOTHING_SECONDS, _SILENT_SECONDS = 0.01, 0.5
"""After there was nothing to be had, and after no answer: so long orders are refused at once."""
_LOOK_SECONDS = 0.1
"""Between two questions whether there is still as much to be had."""
_WAITING_MAX = 1_000
"""Orders; those beyond are refused at once."""

_Limit = tuple[str, str]


class _Answer(msgspec.Struct):
    granted: bool


class SliceRequests:
    """One partition's requests: one at a time for each limit, for all orders that wait for it."""

    seconds_max = 0.5
    """For an order to wait, and for all orders of a batch together."""
    answer_seconds_max = 0.3

    def __init__(self, settings: ProcessSettings, owner: Owner, limits: RiskFollower, post: Post) -> None:
        self._settings, self._owner, self._limits, self._post = settings, owner, limits, post
        self.waiting = 0
        self._short: Counter[_Limit] = Counter()
        """What the orders that wait are short of together."""
        self._asking: dict[_Limit, asyncio.Task[None]] = {}
        self._silent_until: dict[_Limit, float] = {}
        self._authorization = own_authorization()

    async def more(self, shortage: Shortage) -> bool:
        """Wait for a larger part; whether there may be room now. It raises nothing."""
        limit = (shortage.scope, shortage.field)
        if self._value(limit) >= shortage.needed:
            return True
        now = asyncio.get_running_loop().time()
        if self.waiting >= _WAITING_MAX or now < self._silent_until.get(limit, 0.0):
            return False
        short = max(1, shortage.needed - self._value(limit))
        self.waiting += 1
        self._short[limit] += short
        try:
            if limit not in self._asking:
                self._asking[limit] = asyncio.create_task(self._ask(limit), name=f"slice of {shortage.scope}")
                self._asking[limit].add_done_callback(lambda _: self._asking.pop(limit, None))
            await asyncio.wait([self._asking[limit]])
            return self._value(limit) >= shortage.needed
        finally:
            self.waiting -= 1
            self._short[limit] -= short

    async def stop(self) -> None:
        """Wait for nothing any more."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, limit: _Limit) -> None:
        await asyncio.sleep(0)  # those that come with it are asked for with it
        before = self._value(limit)
        try:
            async with asyncio.timeout(self.seconds_max):
                needed = await self._to_be_had(limit, before, before + self._short[limit])
                while needed and limit[1] != "order_rate":  # that takes its time
                    if await self._reaches(limit, needed):
                        return
                    needed = await self._to_be_had(limit, before, needed)  # others may have been faster
                if self._value(limit) > before:
                    return
                pause = _NOTHING_SECONDS
        except TimeoutError:
            pause = _SILENT_SECONDS
        self._silent_until[limit] = asyncio.get_running_loop().time() + pause

    async def _reaches(self, limit: _Limit, needed: int) -> bool:
        """Wait for a moment; whether the part is as large. It may become so in several steps."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                while self._value(limit) < needed:
                    await self._limits.adopted.wait()
        return self._value(limit) >= needed

    async def _to_be_had(self, limit: _Limit, before: int, needed: int) -> int:
        """How large the part may become: as needed for all that wait, or for some of them, or 0."""
        for size in dict.fromkeys((needed, before + 1)):
            if size <= self._value(limit) or await self._is_to_be_had(limit, size):
                return size
        return 0

    async def _is_to_be_had(self, limit: _Limit, needed: int) -> bool:
        if "risk" not in self._settings.ports:
            return False
        scope, field = limit
        body = msgspec.json.encode(
            {"scope": scope, "field": field, "needed": needed, "partition": self._owner.partition}
        )
        url = f"{self._settings.url('risk')}/slices"
        seconds = self.answer_seconds_max
        answer = await self._post(url, body, authorization=self._authorization, seconds_max=seconds)
        if not answer.status:
            raise TimeoutError(answer.detail)
        try:
            return answer.ok and msgspec.json.decode(answer.body, type=_Answer).granted
        except msgspec.MsgspecError:
            return False

    def _value(self, limit: _Limit) -> int:
        part = slice_in(self._owner.machine.controls.book.slices, *limit)
        return part.value if part is not None else 0
