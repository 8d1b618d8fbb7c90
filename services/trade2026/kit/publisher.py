"""An owner without decisions: stamps events and appends them to a partition that it claimed."""

import asyncio
from collections.abc import Sequence

from trade2026.domain.events import AnyEvent, Envelope, decode, encode
from trade2026.kit.bus.port import Bus, Writer
from trade2026.kit.clock import Clock


class Publisher:
    """Writes one partition. `last` is the newest envelope that was there when it was claimed."""

    def __init__(self, bus: Bus, topic: str, *, tenant: str, clock: Clock, owner: str, partition: int = 0) -> None:
        self.bus, self.topic, self.partition = bus, topic, partition
        self.tenant, self.clock, self.owner = tenant, clock, owner
        self.last: Envelope | None = None
        self._writer: Writer | None = None
        self._ts_init = 0

    async def start(self) -> None:
        """Claim the partition and learn where it ends."""
        self._writer = await self.bus.claim(self.topic, self.partition, self.owner)
        end = self._writer.next_seq
        if end:
            records = await self.bus.read(self.topic, self.partition, end - 1, 1)
            if records:
                self.last = decode(records[-1].body)
                self._ts_init = self.last.ts_init

    @property
    def next_seq(self) -> int:
        """The position that the next event gets."""
        assert self._writer is not None, "publish after start"
        return self._writer.next_seq

    def stamp(
        self,
        event: AnyEvent,
        *,
        offset: int = 0,
        ts_event: int = 0,
        correlation_id: str = "",
        causation_id: str = "",
        traceparent: str = "",
        principal: str = "local",
    ) -> Envelope:
        """Put the envelope around an event that will be the `offset`-th of the next append."""
        assert self._writer is not None, "publish after start"
        self._ts_init = ts_init = max(self.clock.now(), self._ts_init)
        return Envelope(
            self._writer.next_seq + offset,
            self._writer.epoch,
            ts_event or ts_init,
            ts_init,
            self.tenant,
            principal,
            correlation_id,
            causation_id,
            traceparent,
            event,
        )

    def append(self, envelopes: Sequence[Envelope]) -> "asyncio.Future[int]":
        """Append stamped envelopes in one piece."""
        assert self._writer is not None, "publish after start"
        return self._writer.append([encode(envelope) for envelope in envelopes])

    def publish(
        self,
        event: AnyEvent,
        *,
        ts_event: int = 0,
        correlation_id: str = "",
        causation_id: str = "",
        traceparent: str = "",
        principal: str = "local",
    ) -> "asyncio.Future[int]":
        """Stamp and append one event; the future is its position once it is durable."""
        return self.append(
            [
                self.stamp(
                    event,
                    ts_event=ts_event,
                    correlation_id=correlation_id,
                    causation_id=causation_id,
                    traceparent=traceparent,
                    principal=principal,
                )
            ]
        )

    async def stop(self) -> None:
        """Wait for what is under way, then let go."""
        if self._writer is not None:
            await self._writer.close()
