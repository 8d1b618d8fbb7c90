"""Whether topics are kept as they should be: somebody may change that on the brokers while all goes on."""

import asyncio

from trade2026.kit.bus.port import Bus, BusError, BusRefused
from trade2026.kit.service import Health

_LOOK_SECONDS = 60.0


class Inspection:
    """Looks from time to time, and tells it in `/health`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.detail = ""
        """What differs; empty while nothing does."""

    async def run(self, pause_seconds: float = _LOOK_SECONDS) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(pause_seconds)

    async def look(self) -> None:
        """Look once."""
        try:
            self.detail = "; ".join(await self._bus.inspect())
        except BusRefused as refusal:
            self.detail = str(refusal)
        except BusError:
            return  # that brokers don't answer is said by whoever writes and reads

    def health(self) -> dict[str, Health]:
        """Nothing while all is as planned."""
        return {"topics": Health(False, self.detail)} if self.detail else {}
