"""What the risk service says: limits that are tighter than the manifest's, and stops that did not reach us directly.

The ceilings are the manifest's and ours; risk says only what is tightened, and what strategies' own manifests say that
came while the stack runs. So an old risk service can't bring back old ceilings, and a restart without any keeps what
was said: it is in our own log.

An owner that has lost the log for a while and claims it again may find there what another has recorded meanwhile, who
had read more of risk. What is remembered here counts again when all of that is read, and of grants what is newer.
"""

import asyncio
import contextlib

import msgspec

from trade2026.controls.limits import LimitBook, Slices, in_force, same_limits, with_told
from trade2026.controls.slices import granted_of, sliced
from trade2026.domain import commands as cmd
from trade2026.domain import events as ev
from trade2026.domain.events import Envelope
from trade2026.domain.shards import partition_of
from trade2026.kit.bus.port import Bus, BusError, Record
from trade2026.kit.clock import Clock
from trade2026.kit.follower import Follower
from trade2026.kit.owner import Owner, Unavailable

TOPIC = "risk.events"
_RETRY_SECONDS = 0.2


class RiskFollower:
    """Follows `risk.events` for the owner of the order log.

    Args:
        ceilings: The manifest's limits.
        partitions: How many the log has: what limits all of them together is cut into slices.
    """

    def __init__(self, bus: Bus, owner: Owner, clock: Clock, ceilings: LimitBook, partitions: int = 1) -> None:
        self.bus, self.owner, self.clock, self.ceilings = bus, owner, clock, ceilings
        self._partitions = partitions
        self._group = f"oms-{owner.partition}" if owner.partition else "oms"
        self._follower: Follower | None = None
        self._said: LimitBook | None = None
        """What risk last said: of it what is tightened and told counts; None until it has: then our own log says it."""
        self._granted: Slices = {}
        """Slices of this partition that risk has granted since we follow it."""
        self._grant = -1
        """The newest grant that was read."""
        self._known_to = 0
        """Before here lies what an owner before us may have read."""
        self.adopted = asyncio.Event()
        """Set, and replaced, when other limits were recorded."""
        self._cause = ""
        self._by = "manifest"
        self._stops: dict[str, tuple[ev.Killed, Envelope]] = {}
        """Stops of the batch that is being read, by scope."""
        self._released: dict[str, int] = {}
        """When a scope was last released here, ns: an older stop that is read later is over."""

    async def start(self) -> None:
        """Go on after the last batch that was decided."""
        begin = await self.bus.committed(self._group, TOPIC, 0)
        begin = max(min(begin, await self.bus.end(TOPIC, 0)), await self.bus.start(TOPIC, 0))
        self._follower = Follower(self.bus, TOPIC, self._read, from_seq=begin, on_batch=self._decide)
        await self._follower.start()

    async def claimed(self) -> None:
        """The log was claimed, the first time or again: adopt what holds by all that was read.

        Raises:
            BusError, Unavailable: not done; the owner's next recovery asks again.
        """
        self._known_to = await self.bus.end(TOPIC, 0)
        await self.adopt()

    async def stop(self) -> None:
        """Stop reading. Idempotent."""
        if self._follower is not None:
            await self._follower.stop()

    @property
    def followed(self) -> list[Follower]:
        """The log of risk as it is followed; nothing before that."""
        return [self._follower] if self._follower is not None else []

    @property
    def error(self) -> str:
        """Why nothing is read any more; empty while all is well."""
        return self._follower.error if self._follower is not None else ""

    def released(self, scope: str) -> None:
        """A person has just released a scope here."""
        self._released[scope] = self.clock.now()

    async def adopt(self) -> None:
        """Record other limits, if the manifest or a tightening has changed what is in force.

        Raises:
            Unavailable: not recorded; the owner's next recovery asks again.
        """
        current: LimitBook = await self.owner.read(lambda machine: machine.controls.book)  # durable, not only decided
        # What is read anew after a restart counts when all of it is read: our own log is newer than its beginning.
        is_read = self._is_read
        said = self._said if self._said is not None and is_read else current
        now = self.clock.now()
        whole = in_force(with_told(self.ceilings, said.told), said.tightened, now)
        # A grant of another limit than this one is none, also if that one should come back.
        granted, grant = {}, current.grant
        self._forget_before(grant)
        if is_read:
            granted = self._granted = granted_of(whole, self._granted)
            grant = max(self._grant, grant)
        wanted = sliced(whole, self.owner.partition, self._partitions, current, granted, grant)
        if is_read:  # a strategy that has what the default has needs no grant to be remembered
            self._granted = {scope: slices for scope, slices in granted.items() if scope in wanted.slices}
        if same_limits(wanted, current):
            return
        version = max(self.ceilings.version, current.version) + 1
        limits = msgspec.Raw(msgspec.json.encode(msgspec.structs.replace(wanted, version=version)))
        command = cmd.AdoptLimits(ts=now, principal=self._by, causation_id=self._cause, version=version, limits=limits)
        await self.owner.submit(command, reduces_risk=True)
        recorded, self.adopted = self.adopted, asyncio.Event()
        recorded.set()

    @property
    def _is_read(self) -> bool:
        """Whether nothing lies before us that an owner before us may have known."""
        follower = self._follower
        return follower is None or (not follower.lag and follower.next_seq >= self._known_to)

    def _forget_before(self, recorded: int) -> None:
        """Of grants our log is newer than our memory: another owner has recorded what was not read here."""
        if self._grant < recorded:
            self._granted = {}

    def _read(self, envelope: Envelope, record: Record) -> None:
        match envelope.data:
            case ev.LimitsChanged() as change:
                self._said = msgspec.json.decode(change.limits, type=LimitBook)
                self._by, self._cause = change.by, f"{record.topic}/{record.partition}/{record.seq}"
            case ev.SlicesGranted() as granted:
                recorded = self.owner.machine.controls.book.grant
                self._forget_before(recorded)
                if granted.partition == self.owner.partition and record.seq > recorded:
                    for scope, slices in msgspec.json.decode(granted.slices, type=Slices).items():
                        self._granted.setdefault(scope, {}).update(slices)
                    self._grant = record.seq
            case ev.Killed() as stop if self._reaches_us(stop.scope):
                self._stops[stop.scope] = (stop, envelope)
            case ev.Resumed() as release:
                self._stops.pop(release.scope, None)
            case _:
                pass

    def _reaches_us(self, scope: str) -> bool:
        """Whether a scope has orders in our partition: the stop of an account elsewhere would be released elsewhere only."""
        kind, _, name = scope.partition(":")
        return kind != "account" or partition_of(name, self._partitions) == self.owner.partition

    async def _decide(self) -> None:
        stops, self._stops = self._stops, {}
        for stop, envelope in stops.values():
            await self._stop(stop, envelope)
        assert self._follower is not None
        # What was read and is not in our log yet must be read again by whoever comes after us.
        if not self._is_read or not await self._adopted():
            return
        with contextlib.suppress(BusError):  # read again after a restart, which changes nothing
            await self.bus.commit(self._group, TOPIC, 0, self._follower.next_seq)

    async def _adopted(self) -> bool:
        """Adopt, however often the log refuses; False if it has another owner by now."""
        while not self.owner.fenced:
            try:
                await self.adopt()
                return True
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)
        return False

    async def _stop(self, stop: ev.Killed, envelope: Envelope) -> None:
        """Stop a scope that is not stopped here: risk could not reach us when it was asked to."""
        while not self.owner.fenced:
            controls = self.owner.machine.controls
            stopped = stop.scope in controls.kills or (stop.halt and stop.scope in controls.halts)
            if stopped or envelope.ts_init <= self._released.get(stop.scope, -1):
                return
            command = cmd.Kill(
                ts=self.clock.now(),
                principal=stop.by,
                causation_id=f"{TOPIC}/0/{envelope.seq}",
                scope=stop.scope,
                reason=stop.reason,
                halt=stop.halt,
            )
            try:
                await self.owner.submit(command, reduces_risk=True)
                return
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)
