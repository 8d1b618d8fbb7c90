"""The owner of all partitions of `venue.reports`: one venue decides, each report goes to the partition of its order.

What one command brings about is not one piece across partitions: after a crash one may have its reports and another
not. That is as if the venue had come to them less far, and no report refers to one in another partition.
"""

import asyncio
import gc
from collections import deque
from collections.abc import Callable, Sequence

from trade2026.domain.events import AnyEvent, Envelope, decode, encode
from trade2026.gateway.machine import PaperVenue
from trade2026.kit.bus.port import Bus, Record, Writer
from trade2026.kit.clock import Clock
from trade2026.kit.owner import Owner

REPORTS = "venue.reports"
_RECORDS_PER_READ = 2_000


class ReportsWriter:
    """The writers of all partitions as one; what was appended before is durable when a later append is.

    `homes` has the partition of each record that is appended next.
    """

    def __init__(self) -> None:
        self.topic, self.partition = REPORTS, 0
        self.each: list[Writer] = []
        self.homes: list[int] = []
        self._last: asyncio.Future[int] | None = None

    @property
    def epoch(self) -> int:
        """Of partition 0."""
        return self.each[0].epoch if self.each else 0

    @property
    def next_seq(self) -> int:
        """How many reports there are."""
        return sum(writer.next_seq for writer in self.each)

    def append(self, bodies: Sequence[bytes]) -> "asyncio.Future[int]":
        """As of a `Writer`; in one piece for each partition only."""
        homes, self.homes = self.homes[: len(bodies)], []
        if len(self.each) == 1:
            return self.each[0].append(bodies)
        pieces: dict[int, list[bytes]] = {}
        for home, body in zip(homes, bodies, strict=True):
            pieces.setdefault(home, []).append(body)
        under_way = [self.each[home].append(piece) for home, piece in pieces.items()]
        if self._last is not None and not self._last.done():
            under_way.append(self._last)
        self._last = asyncio.ensure_future(_all(under_way))
        return self._last

    async def close(self) -> None:
        """As of a `Writer`."""
        for writer in self.each:
            await writer.close()


async def _all(under_way: "list[asyncio.Future[int]]") -> int:
    return max(await asyncio.gather(*under_way))


class ReportsOwner(Owner):
    """An owner whose machine says to which partition an event belongs.

    Args:
        restore: Gets the position at which each partition ends, and returns a venue from a snapshot that is not
            beyond them; None begins with the whole logs.
    """

    def __init__(
        self,
        bus: Bus,
        machine: Callable[[], PaperVenue],
        clock: Clock,
        *,
        partitions: int,
        restore: Callable[[list[int]], PaperVenue | None],
        tenant: str,
        name: str,
        on_started: Callable[[], object],
    ) -> None:
        super().__init__(bus, REPORTS, machine, clock, tenant=tenant, name=name, on_started=on_started)
        self.partitions = range(partitions)
        self._restore_to = restore
        self._apart_ns = int(partitions > 1)
        self._writers = ReportsWriter()

    async def _claim_and_fold(self) -> None:
        self.detail = "claiming the logs"
        self._writer = self._writers = writers = ReportsWriter()  # pyright: ignore[reportAttributeAccessIssue]
        for partition in self.partitions:
            writers.each.append(await self.bus.claim(self.topic, partition, self.name))
        ends = [writer.next_seq for writer in writers.each]
        restored = self._restore_to(ends)
        if restored is not None:
            self.machine = restored
        await self._fold_to(ends)
        for partition, end in enumerate(ends):  # the last record may be older than the snapshot: its time binds us
            last = await self.bus.read(self.topic, partition, end - 1, 1) if end else []
            self._ts_init = max(self._ts_init, *(decode(record.body).ts_init for record in last), 0)

    async def _fold_to(self, ends: list[int]) -> None:
        """Fold what was reported in the order in which it was: the first order at a price stands before the others."""
        machine: PaperVenue = self.machine
        waiting: list[deque[Envelope]] = [deque() for _ in ends]
        while behind := [partition for partition, end in enumerate(ends) if machine.reports[partition].next_seq < end]:
            for partition in behind:
                if waiting[partition]:
                    continue
                records = await self._read(partition, machine.reports[partition].next_seq)
                if len(behind) == 1:
                    for record in records:
                        machine.apply(decode(record.body), partition)
                else:
                    waiting[partition].extend(decode(record.body) for record in records)
            while all(waiting[partition] for partition in behind):
                first = min(behind, key=lambda partition: waiting[partition][0].ts_init)
                machine.apply(waiting[first].popleft(), first)
            self.detail = f"replayed {machine.next_seq} of {sum(ends)} events"
            await asyncio.sleep(0)

    async def _read(self, partition: int, position: int) -> list[Record]:
        records = await self.bus.read(self.topic, partition, position, _RECORDS_PER_READ)
        assert records, f"{self.topic}/{partition} ends at {position}"
        if len(records) == _RECORDS_PER_READ:
            gc.freeze()  # what was folded lives on: the collector need not look at it again and again
        return records

    def _emit(self, event: AnyEvent) -> None:
        command, machine = self._command, self.machine
        order_id = getattr(event, "order_id", "")
        home = machine.partition_of(order_id)
        self._emitted += 1
        # No two reports of several partitions have the same time: it says which was first.
        self._ts_init = ts_init = max(self.clock.now(), self._ts_init + self._apart_ns)
        envelope = Envelope(
            machine.reports[home].next_seq,
            self._writers.each[home].epoch,
            getattr(command, "ts_report", 0) or command.ts,
            ts_init,
            self.tenant,
            command.principal,
            order_id or command.correlation_id,
            command.causation_id,
            machine.traceparent_of(order_id) or command.traceparent,
            event,
        )
        machine.apply(envelope, home)
        self._bodies.append(encode(envelope))
        self._writers.homes.append(home)
