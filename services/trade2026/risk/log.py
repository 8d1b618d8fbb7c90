"""The risk service's own log: owns `risk.events`, and folds what it has made durable."""

import asyncio
from collections.abc import Callable

from trade2026.domain.events import RiskEvent, decode
from trade2026.kit.bus.port import Bus, BusError
from trade2026.kit.clock import Clock
from trade2026.kit.publisher import Publisher
from trade2026.risk.machine import RiskMachine

TOPIC = "risk.events"
_RECORDS_PER_READ = 1_000


class NotThere(Exception):
    """The log has gone on meanwhile."""


class RiskLog:
    """Records events one after the other; after a failure the partition is claimed and folded again.

    Args:
        on_fault: Told why the log cannot be written, or "" when it can again.
    """

    def __init__(self, bus: Bus, clock: Clock, *, tenant: str, owner: str, on_fault: Callable[[str], None]) -> None:
        self.machine = RiskMachine()
        self._bus = bus
        self._make_publisher = lambda: Publisher(bus, TOPIC, tenant=tenant, clock=clock, owner=owner)
        self._publisher: Publisher | None = None
        self._on_fault = on_fault
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Claim the partition and fold it to its end."""
        async with self._lock:
            await self._claim()

    async def record(self, event: RiskEvent, *, principal: str, causation_id: str = "", at: int | None = None) -> int:
        """Record an event; returns its position once it is durable.

        Args:
            at: The position that it was decided for: what follows from all before it is wrong at another.

        Raises:
            NotThere: something else was recorded at that position; this was not.
            BusError: it may or may not have been recorded.
        """
        async with self._lock:
            try:
                if self._publisher is None:
                    await self._claim()
                assert self._publisher is not None
                if at is not None and at != self.machine.next_seq:
                    raise NotThere(f"{TOPIC} goes on at {self.machine.next_seq}, not {at}")
                envelope = self._publisher.stamp(event, principal=principal, causation_id=causation_id)
                await self._publisher.append([envelope])
            except BusError as error:
                self._publisher = None
                self._on_fault(str(error))
                raise
            self.machine.apply(envelope)
            self._on_fault("")
            return envelope.seq

    async def reclaim(self) -> None:
        """Claim the partition again after a failure, if nobody has recorded anything since: it may be well again."""
        async with self._lock:
            if self._publisher is not None:
                return
            try:
                await self._claim()
                self._on_fault("")
            except BusError as error:
                self._on_fault(str(error))

    async def stop(self) -> None:
        """Let the partition go."""
        if self._publisher is not None:
            await self._publisher.stop()

    async def _claim(self) -> None:
        publisher = self._make_publisher()
        await publisher.start()
        machine = self.machine
        while machine.next_seq < publisher.next_seq:
            for record in await self._bus.read(TOPIC, 0, machine.next_seq, _RECORDS_PER_READ):
                machine.apply(decode(record.body))
        self._publisher = publisher
