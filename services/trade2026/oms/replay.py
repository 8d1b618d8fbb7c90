"""Fold an order log again and take its decisions once more: they must come out as recorded.

What was asked is made again from what was decided: an event holds all that its decision read (law 3), and what
a venue said is in `venue.reports`.
"""

from dataclasses import dataclass, field

from trade2026.controls.limits import LimitBook
from trade2026.controls.machine import Controls
from trade2026.domain import commands as cmd
from trade2026.domain import events as ev
from trade2026.domain.instruments import Instruments
from trade2026.kit.bus.port import Bus, Trimmed
from trade2026.kit.settings import ProcessSettings
from trade2026.oms.machine import OrderMachine
from trade2026.oms.refusals import OrderError

_RECORDS_PER_READ = 2_000
_DIFFERENCES_MAX = 20


@dataclass
class Verification:
    """What a replay found."""

    partition: int = 0
    events: int = 0
    decisions: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether every decision came out as recorded."""
        return not self.differences


class _Decided(Exception):
    """Carries the event that a repeated decision would emit; nothing is folded."""

    def __init__(self, event: ev.AnyEvent) -> None:
        super().__init__()
        self.event = event


def _catch(event: ev.AnyEvent) -> None:
    raise _Decided(event)


async def verify(bus: Bus, settings: ProcessSettings, partition: int = 0) -> Verification:
    """Replay a partition of `orders.events` from its beginning.

    Raises:
        ev.UnknownEvent: the log holds an event of a newer version.
        BusError: the log cannot be read.
    """
    machine = OrderMachine(Controls(LimitBook(), Instruments(settings.instruments).by_id), partition)
    reports, found = _Reports(bus, partition), Verification(partition)
    position, end = await bus.start("orders.events", partition), await bus.end("orders.events", partition)
    while position < end:
        for record in await bus.read("orders.events", partition, position, _RECORDS_PER_READ):
            envelope = ev.decode(record.body)
            report_seq = getattr(envelope.data, "report_seq", -1)
            report = await reports.at(report_seq) if report_seq >= 0 else None
            command = _command(machine, envelope, report)
            if command is not None:
                _compare(machine, command, envelope, found)
            elif isinstance(envelope.data, ev.OrderReleased | ev.OrderRejected) and report_seq < 0:
                _compare_release(machine, envelope.data, envelope, found)
            machine.apply(envelope)
            position = record.seq + 1
    found.events = position
    return found


class _Reports:
    """What the venue said, read forward in pieces."""

    def __init__(self, bus: Bus, partition: int) -> None:
        self._bus, self._partition = bus, partition
        self._first = 0
        self._read: list[ev.Envelope] = []

    async def at(self, seq: int) -> ev.ReportEvent | None:
        """The report at a position; None when the topic has dropped it."""
        if not 0 <= seq - self._first < len(self._read):
            try:
                records = await self._bus.read("venue.reports", self._partition, seq, _RECORDS_PER_READ)
            except Trimmed:
                return None
            self._first, self._read = seq, [ev.decode(record.body) for record in records]
        return self._read[seq - self._first].data if self._read else None  # type: ignore[return-value]


def _command(machine: OrderMachine, envelope: ev.Envelope, report: ev.ReportEvent | None) -> cmd.Command | None:
    """What was asked when this event came of it; None if the event alone does not say."""
    ts = envelope.ts_event
    match envelope.data:
        case ev.OrderAccepted() | ev.OrderRefused() as event:
            return cmd.SubmitOrder(ts=ts, spec=event.spec, reference=event.reference)
        case ev.OrderListAccepted() as event:
            specs = [leg.spec for leg in event.orders]
            return cmd.SubmitList(ts=ts, kind=event.kind, specs=specs, reference=event.reference)  # type: ignore[arg-type]
        case ev.ReplaceRequested() as event:
            order = machine.find(event.order_id)
            kept = order is not None and order.stop_price == event.stop_price
            return cmd.AmendOrder(
                ts=ts,
                order_id=event.order_id,
                quantity=event.quantity,
                price=event.price,
                stop_price=0 if kept else event.stop_price,  # one that has triggered can't be given again
                reference=event.reference,
            )
        case event if report is not None:
            seq: int = event.report_seq  # type: ignore[union-attr]
            return cmd.ApplyReport(ts=ts, report=report, report_seq=seq, ts_report=ts)
        case _:
            return None


def _compare(machine: OrderMachine, command: cmd.Command, envelope: ev.Envelope, found: Verification) -> None:
    found.decisions += 1
    decided: object = None
    try:
        machine.decide(command, _catch)
    except _Decided as emitted:
        decided = emitted.event
    except OrderError as error:
        decided = error
    _note(decided, envelope, found)


def _compare_release(
    machine: OrderMachine, event: ev.OrderReleased | ev.OrderRejected, envelope: ev.Envelope, found: Verification
) -> None:
    """A child is released, or not, by what is known once its parent's end is folded."""
    found.decisions += 1
    child = machine.fold.orders[event.order_id]
    _note(machine.release(child, envelope.ts_event), envelope, found)


def _note(decided: object, envelope: ev.Envelope, found: Verification) -> None:
    if decided != envelope.data and len(found.differences) < _DIFFERENCES_MAX:
        found.differences.append(
            f"orders.events/{found.partition}/{envelope.seq}: recorded {envelope.data}, now {decided!r}"
        )
