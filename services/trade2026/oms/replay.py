"""Fold an order log again and take its decisions once more: they must come out as recorded."""

from dataclasses import dataclass, field

from trade2026.controls.limits import LimitBook
from trade2026.controls.machine import Controls
from trade2026.domain import commands as cmd
from trade2026.domain import events as ev
from trade2026.domain.instruments import Instruments
from trade2026.kit.bus.port import Bus
from trade2026.kit.settings import ProcessSettings
from trade2026.oms.machine import OrderMachine

_RECORDS_PER_READ = 2_000
_DIFFERENCES_MAX = 20


@dataclass
class Verification:
    """What a replay found."""

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


async def verify(bus: Bus, settings: ProcessSettings) -> Verification:
    """Replay `orders.events` from its beginning.

    Raises:
        ev.UnknownEvent: the log holds an event of a newer version.
        BusError: the log cannot be read.
    """
    machine = OrderMachine(Controls(LimitBook(), Instruments(settings.instruments).by_id))
    found = Verification()
    position, end = await bus.start("orders.events", 0), await bus.end("orders.events", 0)
    while position < end:
        for record in await bus.read("orders.events", 0, position, _RECORDS_PER_READ):
            envelope = ev.decode(record.body)
            _compare(machine, envelope, found)
            machine.apply(envelope)
            position = record.seq + 1
    found.events = position
    return found


def _compare(machine: OrderMachine, envelope: ev.Envelope, found: Verification) -> None:
    recorded = envelope.data
    if not isinstance(recorded, ev.OrderAccepted | ev.OrderRefused):
        return
    command = cmd.SubmitOrder(ts=envelope.ts_event, spec=recorded.spec, reference=recorded.reference)
    found.decisions += 1
    try:
        machine.decide(command, _catch)
    except _Decided as decided:
        if decided.event != recorded and len(found.differences) < _DIFFERENCES_MAX:
            found.differences.append(f"orders.events/0/{envelope.seq}: recorded {recorded}, now {decided.event}")
