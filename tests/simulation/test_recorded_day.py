"""A day of the recorded market with a few thousand orders: taken again, every decision is the same to the byte."""

import asyncio
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
from tests.simulation import invariants, stack
from tests.simulation.clients import Client, Journal, Officer
from tests.simulation.host import seeded
from tests.simulation.run import rest
from tests.simulation.world import World, recorded_week

from trade2026.controls.limits import LimitBook
from trade2026.controls.machine import Controls
from trade2026.domain import events as ev
from trade2026.gateway.machine import PaperVenue
from trade2026.gateway.replay import Recording
from trade2026.oms.machine import OrderMachine
from trade2026.oms.refusals import OrderError

_DAY_SECONDS = 86_400
_SPEED = 1_440
"""The day takes a minute."""
_ACTIONS = 900
_STOPS = 5

Commands = list[tuple[Any, dict[str, str]]]
"""What was asked, and what was stopped at the venue at that moment: the one thing that is in no command."""


def first_day() -> Recording:
    """The first day of the recorded week."""
    week = recorded_week()
    return stack.cut(week, 0, sum(second < week.seconds[0] + _DAY_SECONDS for second in week.seconds))


async def trade(world: World, journal: Journal) -> None:
    """A day's trading, without faults."""
    world.start()
    await world.until_ready()
    clients = [Client(world, journal, account, seeded(1, account), _ACTIONS) for account in stack.ACCOUNTS]
    await asyncio.gather(
        *(client.run() for client in clients), Officer(world, journal, seeded(1, "officer"), _STOPS).run()
    )
    await rest(world)


def recording_decide(machine: type, commands: Commands) -> Any:
    """The machine's `decide`, which writes down what it was asked."""
    decide = machine.decide  # type: ignore[attr-defined]

    def recorded(self: Any, command: Any, emit: Any) -> Any:
        commands.append((command, dict(getattr(self, "kills", {}))))
        return decide(self, command, emit)

    return mock.patch.object(machine, "decide", recorded)


def decided_again(machine: Any, commands: Commands, log: list[ev.Envelope]) -> bytes:
    """Ask a fresh machine the same questions; what it emits is stamped as the log has it."""
    emitted: list[bytes] = []

    def emit(event: ev.AnyEvent) -> None:
        recorded = log[len(emitted)]
        envelope = msgspec.structs.replace(recorded, data=event)
        emitted.append(ev.encode(envelope))
        machine.apply(envelope)

    for command, stopped in commands:
        if isinstance(machine, PaperVenue):
            machine.kills = stopped
        try:
            machine.decide(command, emit)
        except OrderError:
            continue  # it was refused then as now
    return b"\n".join(emitted)


def test_a_recorded_day_replays_to_the_same_decisions(tmp_path: Path):
    world, journal = World(1, tmp_path, first_day(), _SPEED), Journal()
    asked: Commands = []
    placed: Commands = []

    async def day() -> None:
        with recording_decide(OrderMachine, asked), recording_decide(PaperVenue, placed):
            await trade(world, journal)
        await invariants.check(world, journal)

    world.run(day())
    logs = {topic: [record.body for record in world.records(topic)] for topic in ("orders.events", "venue.reports")}
    orders, reports = ([ev.decode(body) for body in logs[topic]] for topic in ("orders.events", "venue.reports"))
    assert len(journal.orders) > 2_000
    assert sum(isinstance(envelope.data, ev.OrderFilled) for envelope in orders) > 500

    instruments = {instrument.instrument_id: instrument for instrument in stack.INSTRUMENTS}
    oms = OrderMachine(Controls(LimitBook(), instruments))
    assert decided_again(oms, asked, orders) == b"\n".join(logs["orders.events"])
    assert decided_again(PaperVenue(instruments), placed, reports) == b"\n".join(logs["venue.reports"])
