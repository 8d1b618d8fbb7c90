"""The partitions of a service that are this process's own, and the way to those that another replica has.

A service that is split by account does its work in cells, one for each partition, which share nothing. A membership
says which cells this process is to have; here they are started, stopped, and found by account. That two processes
never both write for a partition is not promised here but by the log, which each cell claims when it starts.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from trade2026.domain.shards import partition_of
from trade2026.kit.bus.membership import EmbeddedMembership, Member, Membership
from trade2026.kit.forward import HOP, SECONDS_MAX, Elsewhere, Forwarder, require_done, target_of
from trade2026.kit.lag import Followed
from trade2026.kit.messages import Request, Response
from trade2026.kit.problem import Problem
from trade2026.kit.service import Health

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.2
_RETRY_SECONDS_MAX = 5.0
_SHARE_SECONDS_MAX = 20.0
"""For the first share; nothing is to be ours where replicas are more than partitions."""
_LOOK_SECONDS = 0.2
"""Between two questions whose a partition is, however many requests ask."""


class Cell(Protocol):
    """The work of one partition."""

    partition: int

    @property
    def fenced(self) -> bool:
        """Whether another process has claimed the partition: this cell is of no use any more."""
        ...

    @property
    def followed(self) -> Sequence[Followed]:
        """What it follows of the log."""
        ...

    def readiness(self) -> tuple[bool, str]:
        """Whether it can answer, and how far its recovery is if not."""
        ...

    def health(self) -> dict[str, Health]:
        """What it depends on, by name; no I/O."""
        ...

    async def start(self) -> None:
        """Claim, recover, and work. What it raises, it raises before it has promised anything to anybody."""
        ...

    async def stop(self) -> None:
        """Finish what was accepted, and let go. Idempotent."""
        ...


C = TypeVar("C", bound=Cell)


class Cells(Generic[C]):
    """Holds the cells that a membership gives to this process.

    Args:
        make: Makes the cell of a partition; each is started once.
    """

    def __init__(self, membership: Membership, make: Callable[[int], C]) -> None:
        self.membership, self.partitions = membership, membership.partitions
        self.here: dict[int, C] = {}
        """Those that are started, by partition."""
        self.troubles: dict[int, str] = {}
        """Why a partition that is to be ours is not here yet."""
        self.forwarder = Forwarder()
        self.forwarded = 0
        self._make = make
        self._coming: dict[int, C] = {}
        """Those that are being started."""
        self._starting: dict[int, asyncio.Task[None]] = {}
        self._answering: set[int] = set()
        """Those here that could answer once: a projection starts before it has folded all."""
        self._was_whole = False
        """Whether all that was to be ours could answer once, and it was something."""
        self._looked_at = 0.0
        self._given = asyncio.Event()
        """Something was to be ours."""
        self._first: set[asyncio.Task[None]] = set()
        """What the process can't start without."""
        self._started = False

    # ── life ────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Join, and return when the first share is here. Raises what one of its cells raised.

        Others let go first of what is to be ours: if we were ready before, the next of them could end meanwhile.
        """
        await self.membership.join(self)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SHARE_SECONDS_MAX):
                await self._given.wait()
        self._first = set(self._starting.values())
        for met in await asyncio.gather(*self._first, return_exceptions=True):
            if isinstance(met, Exception):  # one that was let go meanwhile is cancelled, which is none
                raise met
        self._started = True

    async def stop(self) -> None:
        """Leave, so that others have our partitions at once."""
        try:
            await self.membership.leave()
        finally:
            await self.let_go(frozenset({*self.here, *self._starting}))
            await self.forwarder.close()

    async def take(self, partitions: frozenset[int]) -> None:
        """See `Holder.take`."""
        if partitions:
            self._given.set()
        for partition in sorted(partitions - self.here.keys() - self._starting.keys()):
            self._starting[partition] = asyncio.create_task(self._begin(partition), name=f"cell {partition}")

    async def let_go(self, partitions: frozenset[int]) -> None:
        """See `Holder.let_go`."""
        await asyncio.gather(*(self._end(partition) for partition in partitions))

    async def lose(self, partitions: frozenset[int]) -> None:
        """See `Holder.lose`. A cell can't do harm any more, whatever it believes: its log has another owner."""
        await self.let_go(partitions)

    async def _begin(self, partition: int) -> None:
        """Start the cell, as often as it takes; nobody else does it meanwhile. The process's first ones must succeed."""
        delay = _RETRY_SECONDS
        while True:
            cell: C | None = None
            try:
                cell = self._coming[partition] = self._make(partition)
                await cell.start()
            except asyncio.CancelledError:
                if cell is not None:
                    await cell.stop()
                raise
            except Exception as error:
                if cell is not None:
                    await cell.stop()
                if asyncio.current_task() in self._first:
                    raise
                self.troubles[partition] = repr(error)
                log.warning("partition %s can't be begun yet: %r", partition, error)
            else:
                self.here[partition] = cell
                for pending in (self.troubles, self._coming, self._starting):
                    pending.pop(partition, None)
                self._is_here(partition)
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, _RETRY_SECONDS_MAX)

    async def _end(self, partition: int) -> None:
        starting, cell = self._starting.pop(partition, None), self.here.pop(partition, None)
        self.troubles.pop(partition, None)
        self._coming.pop(partition, None)
        self._answering.discard(partition)
        if starting is not None:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        if cell is not None:
            await cell.stop()

    async def replace_fenced(self) -> None:
        """Begin anew what was fenced and is still ours: whoever has claimed it was not of the group."""
        if isinstance(self.membership, EmbeddedMembership):
            return  # two stacks in one place: the younger stays
        for partition, cell in list(self.here.items()):
            if cell.fenced:
                await self._end(partition)
                if partition in self.membership.held:
                    await self.take(frozenset({partition}))

    @property
    def replaced(self) -> str:
        """Who does our work instead, so that this process is of no use any more; empty while nobody does."""
        if self.membership.replaced or not isinstance(self.membership, EmbeddedMembership):
            return self.membership.replaced
        fenced = next((partition for partition, cell in self.here.items() if cell.fenced), None)
        return f"another process has claimed partition {fenced}" if fenced is not None else ""

    @property
    def is_whole(self) -> bool:
        """Whether all that is to be ours is here, and could answer."""
        return not self._starting and all(self._is_here(partition) for partition in {*self.membership.held, *self.here})

    def _is_here(self, partition: int) -> bool:
        """Whether a cell has started and could answer since; that it can't now, as it recovers, it says itself."""
        if partition not in self._answering and partition in self.here and self.here[partition].readiness()[0]:
            self._answering.add(partition)
        return partition in self._answering

    @property
    def detail(self) -> str:
        """What is not as it should be, for a person; empty for nothing."""
        coming = dict.fromkeys(self._starting, "starting") | {
            partition: _progress(cell)
            for partition, cell in {**self._coming, **self.here}.items()
            if not self._is_here(partition)
        }
        wrong = sorted({**coming, **self.troubles}.items())
        said = [what if self.partitions == 1 else f"partition {partition}: {what}" for partition, what in wrong]
        return "; ".join(filter(None, [self.membership.detail, *said]))

    def readiness(self) -> tuple[bool, str]:
        """Whether all that is to be ours can answer, and how far recovery is if not.

        Once it could, what comes later takes nothing from the others: who asks for that is told so. Else a replica that
        ends would take the one with it that takes over.
        """
        answering = [cell for partition, cell in self.here.items() if self._is_here(partition)]
        for cell in answering:
            ready, detail = cell.readiness()
            if not ready:
                return False, detail
        if not self._started or not (self.is_whole or (self._was_whole and answering)):
            return False, self.detail or "starting"
        self._was_whole = bool(answering)
        return True, "ready"

    def health(self) -> dict[str, Health]:
        """What the cells here depend on, each by its name and partition, and whether all are here."""
        checks: dict[str, Health] = {}
        for partition, cell in sorted(self.here.items()):
            named = cell.health()
            checks |= named if self.partitions == 1 else {f"{name}_{partition}": one for name, one in named.items()}
        if not self.here or self.partitions > 1:
            checks["partitions"] = Health(not self.detail, self.detail)
        return checks

    # ── whose is what ───────────────────────────────────────────────────────────────────────

    def of_account(self, account: str) -> C:
        """The cell of an account. Raises as `at`."""
        return self.at(partition_of(account, self.partitions) if self.partitions > 1 else 0)

    def at(self, partition: int) -> C:
        """The cell of a partition.

        Raises:
            Elsewhere: another replica has it.
            Problem: 503: nobody has it just now, as far as is known; the group is asked again.
        """
        cell = self.here.get(partition)
        if cell is not None and self._is_here(partition):
            return cell
        if cell is not None or partition in self.membership.held:
            raise Problem(503, "not_ready", f"partition {partition} is being taken over here", retry_after=1)
        member = self.membership.whose(partition)
        if member is None or member == self.membership.me:
            self._look_soon()  # who has it may have been told when we could not hear it
            raise Problem(503, "no_owner", f"partition {partition} has no owner just now", retry_after=1)
        raise Elsewhere(member)

    def others(self) -> tuple[dict[Member, list[int]], Problem | None]:
        """The partitions that other replicas have; and why one has no owner just now, so that nobody answers for all."""
        found: dict[Member, list[int]] = {}
        missing: Problem | None = None
        for partition in range(self.partitions):
            try:
                self.at(partition)
            except Elsewhere as elsewhere:
                found.setdefault(elsewhere.member, []).append(partition)
            except Problem as problem:
                missing = missing or problem
        return found, missing

    # ── sending on ──────────────────────────────────────────────────────────────────────────

    async def forward(self, request: Request, elsewhere: Elsewhere) -> Response:
        """Let the other replica answer. Raises `Problem` 503: it can't, or the request was sent on before."""
        if HOP in request.headers:
            self._look_soon()
            raise Problem(503, "not_owner", "this was moved a moment ago: ask again", retry_after=1)
        method = "GET" if request.method == "HEAD" else request.method  # its answer has no body to be waited for
        return await self.send(elsewhere.member, method, target_of(request), request.headers, request.body)

    async def asked_of_others(self, request: Request) -> list[Any]:
        """What the other replicas answer to the same request, of what they have; nothing if it was sent on to us.

        Raises:
            Problem: 503: a partition has no owner just now, or is being taken over here; or what one of them
                answered instead.
        """
        if HOP in request.headers:
            if not self.is_whole:  # what comes may be what we are asked for
                raise Problem(503, "not_ready", f"{self.detail}: ask again", retry_after=1)
            return []
        others, missing = self.others()
        if missing is not None:
            raise missing
        asking = (self.forward(request, Elsewhere(member)) for member in others)
        found: list[Any] = []
        for answer in await asyncio.gather(*asking):
            require_done(answer)
            found.append(msgspec.json.decode(answer.body))
        return found

    async def send(
        self,
        member: Member,
        method: str,
        target: str,
        headers: Mapping[bytes, bytes],
        body: bytes = b"",
        seconds_max: float = SECONDS_MAX,
    ) -> Response:
        """See `Forwarder.send`; who turns out not to have it any more makes us ask the group again."""
        self.forwarded += 1
        try:
            response = await self.forwarder.send(member, method, target, headers, body, seconds_max)
        except Problem:
            self._look_soon()
            raise
        if response.status == 503:
            self._look_soon()
        return response

    def _look_soon(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            task = asyncio.ensure_future(self.membership.look())
            task.add_done_callback(_say_what_failed)


def _progress(cell: Cell) -> str:
    ready, detail = cell.readiness()
    return "starting" if ready else detail


def is_forwarded(request: Request) -> bool:
    """Whether another replica has sent it on, so that only what is here is asked for."""
    return HOP in request.headers


def meant_partitions(request: Request) -> set[int]:
    """The partitions that whoever sent a request on believes to be here. Raises `Problem` 400 for anything else."""
    try:
        return {int(part) for part in request.headers[HOP].split(b",")}
    except ValueError:
        raise Problem(400, "malformed_header", f"{HOP.decode()} names partitions: 0,3", field=HOP.decode()) from None


def _say_what_failed(done: "asyncio.Future[None]") -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        log.error("the group could not be asked again: %r", error)
