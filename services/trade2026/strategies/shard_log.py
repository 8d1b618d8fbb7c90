"""The claims of one process on symbols, and what the others have claimed: `strategies.shards`, a partition a process."""

from collections.abc import Collection

from trade2026.domain import events as ev
from trade2026.domain.events import decode
from trade2026.kit.bus.port import Bus
from trade2026.kit.clock import Clock
from trade2026.kit.publisher import Publisher
from trade2026.strategies.shards import Claims, conflicts

SHARDS = "strategies.shards"
_BATCH = 1_000


class ShardLog:
    """Owns one partition, and reads all.

    Args:
        partitions: Of the topic.
    """

    def __init__(self, bus: Bus, partition: int, partitions: int, *, tenant: str, clock: Clock, owner: str) -> None:
        self.partition = partition
        self._bus = bus
        self._log = Publisher(bus, SHARDS, tenant=tenant, clock=clock, owner=owner, partition=partition)
        self._claims = {each: Claims() for each in range(partitions)}
        self._read_to = dict.fromkeys(range(partitions), 0)

    async def start(self) -> None:
        """Claim our partition: whoever had it can claim no symbol any more. Raises `BusError`."""
        await self._log.start()
        await self._read(self.partition)

    async def stop(self) -> None:
        """Let the partition go. Idempotent."""
        await self._log.stop()

    @property
    def mine(self) -> Claims:
        """What is claimed here."""
        return self._claims[self.partition]

    async def claim(self, strategy: str, instruments: Collection[str]) -> dict[int, frozenset[str]]:
        """Claim symbols that are free, durably, and then look again: what others have claimed of them, by partition.

        They may be traded when it is nothing. What was claimed before is looked at all the same: an earlier life may
        have ended between the two.
        """
        found = await self._look(strategy, instruments)
        missing = sorted({*instruments} - self.mine.of(strategy))
        if found or not missing:
            return found
        await self._write(ev.SymbolsClaimed(strategy=strategy, instruments=missing))
        return await self._look(strategy, instruments)

    async def _look(self, strategy: str, instruments: Collection[str]) -> dict[int, frozenset[str]]:
        for partition in self._claims:
            await self._read(partition)
        others = {partition: claims for partition, claims in self._claims.items() if partition != self.partition}
        return conflicts(strategy, instruments, others)

    async def keep(self, strategy: str, instruments: Collection[str]) -> None:
        """Claim symbols in which orders of ours are open, whoever else claims them: an older version claimed none."""
        if missing := sorted({*instruments} - self.mine.of(strategy)):
            await self._write(ev.SymbolsClaimed(strategy=strategy, instruments=missing))

    async def has_first(self, strategy: str) -> bool:
        """Whether the first process, which there always is, has claimed anything of it: before, it may be of a version
        that claims nothing, and trade all."""
        await self._read(0)
        return bool(self._claims[0].of(strategy))

    async def release(self, strategy: str, instruments: Collection[str]) -> None:
        """Let symbols go in which nothing is open."""
        if gone := sorted({*instruments} & self.mine.of(strategy)):
            await self._write(ev.SymbolsReleased(strategy=strategy, instruments=gone))

    async def _write(self, event: ev.AnyEvent) -> None:
        await self._log.append([self._log.stamp(event, principal=getattr(event, "strategy", "local"))])
        await self._read(self.partition)

    async def _read(self, partition: int) -> None:
        end = await self._bus.end(SHARDS, partition)
        while (at := self._read_to[partition]) < end:
            for record in await self._bus.read(SHARDS, partition, at, _BATCH):
                self._claims[partition].apply(decode(record.body).data)
                self._read_to[partition] = record.seq + 1


async def is_claimed(bus: Bus, partition: int) -> bool:
    """Whether a partition has claims, whoever owns it."""
    claims, at, end = Claims(), 0, await bus.end(SHARDS, partition)
    while at < end:
        for record in await bus.read(SHARDS, partition, at, _BATCH):
            claims.apply(decode(record.body).data)
            at = record.seq + 1
    return bool(claims.held)
