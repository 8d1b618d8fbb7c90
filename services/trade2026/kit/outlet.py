"""A topic that follows from another: each event is published once, however often the record that led to it is folded.

The newest record of the own topic names its cause, so after a crash it says what need not be published again. All
that follows from one record for one topic is appended in one piece: it is there together or not at all.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from trade2026.domain.events import AnyEvent, Envelope
from trade2026.kit.bus.port import BusError, Fenced
from trade2026.kit.publisher import Publisher

log = logging.getLogger(__name__)

_RETRY_SECONDS_MAX = 2.0

Waiting = list[tuple[int, AnyEvent, Envelope]]
"""What is to be published, each with when it happened (ns) and its cause, in the order of the causes."""


class Outlet:
    """One topic.

    Args:
        make: Makes a publisher of the topic that has not started.
        follows: The topic that causes what is published.
        partition: Of that topic, and of the one that is published.
    """

    def __init__(self, make: Callable[[], Publisher], follows: str, partition: int = 0) -> None:
        self.error = ""
        """Why nothing can be written now; empty while all is well."""
        self.replaced = ""
        """Which other process publishes instead: this one is of no use any more."""
        self.published = 0
        self.told_seq = -1
        """Position of the newest cause whose events the topic has."""
        self._make, self._causes = make, f"{follows}/{partition}/"
        self._publisher: Publisher | None = None
        self._waiting: Waiting = []
        self._under_way: deque[tuple[asyncio.Future[int], Waiting]] = deque()
        """Appends that are not known to be written, the oldest first; `_waiting` comes after them."""

    @property
    def next_seq(self) -> int:
        """The position that the next event gets."""
        return self._publisher.next_seq if self._publisher is not None else 0

    @property
    def is_done(self) -> bool:
        """Whether all that was added is written."""
        return not self._waiting and not self._under_way

    async def claim(self, end: int) -> None:
        """Own the topic, and learn from it what it has.

        Args:
            end: Where the topic that is followed ends. If that one is not durable, a power cut may have taken its
                end: the positions behind it are given again, to other records.
        """
        publisher = self._make()
        await publisher.start()
        self._publisher = publisher
        cause = publisher.last.causation_id if publisher.last is not None else ""
        told = int(cause.removeprefix(self._causes)) if cause.startswith(self._causes) else -1
        self.told_seq = min(told, end - 1)

    async def close(self) -> None:
        """Wait for what is under way, then let the topic go."""
        if self._publisher is not None:
            await self._publisher.stop()

    def add(self, ts_event: int, event: AnyEvent, cause: Envelope) -> None:
        """Publish an event with the next `write`, unless the topic has it."""
        if cause.seq > self.told_seq:
            self._waiting.append((ts_event, event, cause))

    def send(self) -> None:
        """Append what waits, without waiting for it."""
        if self._waiting:
            self._append()

    async def write(self, end: int, appends_max: int = 0) -> None:
        """Append what waits; return when at most so many appends are under way. What is refused is tried again.

        Raises:
            Fenced: another process owns the topic.
        """
        delay = 0.1
        while not self.is_done:
            self.send()
            try:
                await self._appended(appends_max)
                self.error = ""
                return
            except Fenced as error:
                self._take_back()
                self.replaced = self.error = f"another process owns {self._topic}: {error}"
                raise
            except BusError as error:
                self._take_back()
                if not self.error:  # one line an outage
                    log.warning("%s cannot be written: %s", self._topic, error)
                self.error = f"{self._topic} cannot be written: {error}"
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY_SECONDS_MAX)
                await self._claim_again(end)

    async def finish(self) -> None:
        """Learn what became of appends that a stop has overtaken."""
        try:
            await self._appended(0)
        except BusError as error:
            self._take_back()
            log.warning("%s cannot be written: %s", self._topic, error)

    @property
    def _topic(self) -> str:
        return self._publisher.topic if self._publisher is not None else ""

    def _append(self) -> None:
        assert self._publisher is not None
        envelopes = [
            self._publisher.stamp(
                event,
                offset=offset,
                ts_event=ts_event,
                correlation_id=cause.correlation_id,
                causation_id=f"{self._causes}{cause.seq}",
                traceparent=cause.traceparent,
                principal=cause.principal,
            )
            for offset, (ts_event, event, cause) in enumerate(self._waiting)
        ]
        self._under_way.append((self._publisher.append(envelopes), self._waiting))
        self._waiting = []

    async def _appended(self, appends_max: int) -> None:
        """Wait until at most so many appends are under way. Raises what the oldest failed with."""
        while self._under_way:
            future, published = self._under_way[0]
            if not future.done() and len(self._under_way) <= appends_max:
                return
            await asyncio.shield(future)  # a stop must not leave unknown whether it was written
            self._under_way.popleft()
            self.published += len(published)
            self.told_seq = published[-1][2].seq

    def _take_back(self) -> None:
        """After one append has failed those behind it fail, too: all of it waits again."""
        again: Waiting = []
        for future, events in self._under_way:
            future.add_done_callback(_retrieved)
            again += events
        self._under_way.clear()
        self._waiting = again + self._waiting

    async def _claim_again(self, end: int) -> None:
        """After a failed append some of it may be there: learn from the topic what is not."""
        try:
            await self.close()
            await self.claim(end)
        except Fenced:
            raise
        except BusError as error:
            self.error = str(error)
            return
        self._waiting = [item for item in self._waiting if item[2].seq > self.told_seq]
        if not self._waiting:
            self.error = ""


def _retrieved(done: "asyncio.Future[int]") -> None:
    """Its error is known from the append before it."""
    if not done.cancelled():
        done.exception()
