"""What venues say of a partition's orders: read from `venue.reports`, decided by the owner, in order."""

import asyncio
import logging
from functools import partial
from typing import Any

from trade2026.domain import commands as cmd
from trade2026.domain import events as ev
from trade2026.domain.events import Envelope
from trade2026.kit.bus.port import Bus, Record
from trade2026.kit.clock import Clock
from trade2026.kit.follower import Follower
from trade2026.kit.owner import Owner, Unavailable
from trade2026.oms.lookup import OrderLookup
from trade2026.oms.machine import OrderMachine

log = logging.getLogger(__name__)

TOPIC = "venue.reports"


class VenueFollower:
    """Follows `venue.reports` for the owner of a partition of the order log."""

    def __init__(self, bus: Bus, owner: Owner, orders: OrderLookup, clock: Clock) -> None:
        self.bus, self.owner, self.orders, self.clock = bus, owner, orders, clock
        self._follower: Follower | None = None
        self._said: list[tuple[Envelope, Record]] = []
        """Reports of the batch that is being read."""
        self._deciding: asyncio.Future[list[Any]] | None = None
        """Answers to the batch before."""

    async def start(self) -> None:
        """Go on after the last report that the log holds; again after every recovery of the owner."""
        await self.stop()
        self._said = []
        machine: OrderMachine = self.owner.machine
        self._follower = Follower(
            self.bus,
            TOPIC,
            self._read,
            partition=self.owner.partition,
            from_seq=machine.fold.report_seq + 1,
            on_batch=partial(self._decide, machine),
        )
        await self._follower.start()

    async def stop(self) -> None:
        """Stop reading. Idempotent."""
        if self._follower is not None:
            await self._follower.stop()

    @property
    def is_following(self) -> bool:
        """Whether it was started."""
        return self._follower is not None

    @property
    def followed(self) -> list[Follower]:
        """The reports as they are followed; nothing before that."""
        return [self._follower] if self._follower is not None else []

    @property
    def error(self) -> str:
        """Why nothing is read any more; empty while all is well."""
        return self._follower.error if self._follower is not None else ""

    @property
    def lag(self) -> int:
        """Reports that wait for a decision."""
        return self._follower.lag if self._follower is not None else 0

    def _read(self, envelope: Envelope, record: Record) -> None:
        self._said.append((envelope, record))

    async def _decide(self, machine: OrderMachine) -> None:
        """Have what the venue said decided; the batch before must be durable before more is read.

        Only by the machine for which it was read: after a recovery the log may lack reports before these.
        """
        said, self._said = self._said, []
        commands = [await self._command(envelope, record) for envelope, record in said]
        if machine is not self.owner.machine:
            return
        before = self._deciding
        try:
            self._deciding = self.owner.submit_many(commands, reduces_risk=True)
        except Unavailable:
            return  # the owner is recovering: it begins again after the last report that its log holds
        self._deciding.add_done_callback(_say_which_failed)
        if before is not None:
            await asyncio.wait([before])

    async def _command(self, envelope: Envelope, record: Record) -> cmd.Command:
        report: ev.ReportEvent = envelope.data  # type: ignore[assignment]
        return cmd.ApplyReport(
            ts=self.clock.now(),
            ts_report=envelope.ts_event,
            principal="venue",
            causation_id=f"{record.topic}/{record.partition}/{record.seq}",
            report=report,
            report_seq=record.seq,
            recalled=await self.orders.recalled(report.order_id),
        )


def _say_which_failed(done: "asyncio.Future[list[Any]]") -> None:
    for answer in done.result() if not done.cancelled() else ():
        if isinstance(answer, Exception) and not isinstance(answer, Unavailable):
            log.error("a report could not be decided: %r", answer)
