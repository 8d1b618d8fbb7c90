"""Asks risk for a larger part of a limit that spans partitions, for orders that only the part has no room for."""

import asyncio
import os

import msgspec

from trade2026.controls.slices import Shortage, slice_in
from trade2026.kit.calls import Post
from trade2026.kit.owner import Owner
from trade2026.kit.settings import ProcessSettings
from trade2026.oms.risk_follower import RiskFollower

KEY_VARIABLE = "TRADE2026_KEY"
"""Environment variable with the bearer key for risk, where the stack asks for one."""
SECONDS_MAX = 0.5
"""For an order to wait. What came before it by then has had its chance, too."""
_ANSWER_SECONDS_MAX = 0.3
_WAITING_MAX = 500
"""Orders; those beyond are refused at once."""


class _Answer(msgspec.Struct):
    granted: bool


class SliceRequests:
    """One partition's requests, one at a time for each limit however many orders wait for it."""

    def __init__(self, settings: ProcessSettings, owner: Owner, limits: RiskFollower, post: Post) -> None:
        self._settings, self._owner, self._limits, self._post = settings, owner, limits, post
        self.waiting = 0
        self._asking: dict[tuple[str, str], asyncio.Task[None]] = {}
        key = os.environ.get(KEY_VARIABLE, "")
        self._authorization = f"Bearer {key}" if key else ""

    async def more(self, shortage: Shortage) -> None:
        """Return when the part is larger, or when there is no use in waiting any longer."""
        if self.waiting >= _WAITING_MAX:
            return
        key = (shortage.scope, shortage.field)
        if key not in self._asking:
            self._asking[key] = asyncio.create_task(self._ask(shortage), name=f"slice of {shortage.scope}")
            self._asking[key].add_done_callback(lambda _: self._asking.pop(key, None))
        self.waiting += 1
        try:
            await asyncio.shield(self._asking[key])
        finally:
            self.waiting -= 1

    async def stop(self) -> None:
        """Wait for nothing any more."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def _ask(self, shortage: Shortage) -> None:
        try:
            async with asyncio.timeout(SECONDS_MAX):
                if await self._is_to_be_had(shortage) and shortage.field != "order_rate":  # that takes its time
                    while not self._has(shortage):
                        await self._limits.adopted.wait()
        except TimeoutError:
            return

    async def _is_to_be_had(self, shortage: Shortage) -> bool:
        if "risk" not in self._settings.ports:
            return False
        body = msgspec.json.encode({**msgspec.structs.asdict(shortage), "partition": self._owner.partition})
        url = f"{self._settings.url('risk')}/slices"
        answer = await self._post(url, body, authorization=self._authorization, seconds_max=_ANSWER_SECONDS_MAX)
        return answer.ok and msgspec.json.decode(answer.body, type=_Answer).granted

    def _has(self, shortage: Shortage) -> bool:
        part = slice_in(self._owner.machine.controls.book.slices, shortage.scope, shortage.field)
        return part is not None and part.value >= shortage.needed
