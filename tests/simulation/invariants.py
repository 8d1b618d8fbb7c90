"""What must hold at the end of a run, asked of the logs, of the journals, and of every service's answers."""

from tests.checker import Broken, OrderLog, check_derived, compare_positions, read_orders, read_partition
from tests.simulation import stack
from tests.simulation.clients import Journal
from tests.simulation.world import World

from trade2026.stack.facts import TOPICS

POSITION_SERVICES = ("oms", "risk", "ptrc", "pnl")
_STILL = ("orders.events", "venue.reports", "positions", "pnl")


async def ends(world: World) -> list[int]:
    """Where each log that has to come to rest ends now."""
    return [await world.bus.end(topic, 0) for topic in _STILL]


async def behind(world: World) -> str:
    """Who does not know the whole order log yet; empty when all do."""
    newest = await world.bus.end("orders.events", 0) - 1
    for service in POSITION_SERVICES:
        reply = await world.ask(service, "GET", f"/positions/{stack.ACCOUNTS[0]}")
        if reply.body.get("as_of") != newest:
            return f"{service} is as of {reply}, not {newest}"
    archive = await world.ask("archive", "GET", "/stats")
    if archive.body.get("as_of") == newest:
        return ""
    return f"archive is as of {archive.body.get('as_of')}, not {newest}: {await world.ask('archive', 'GET', '/health')}"


async def check(world: World, journal: Journal) -> None:
    """Raise `Broken` with everything that is wrong."""
    log = await read_orders(world.bus)
    for topic in TOPICS:
        await read_partition(world.bus, topic.name)
    faults = [*journal.faults, *world.loop.failures]
    faults += _acknowledged(log, journal)
    if faults:
        raise Broken("what was answered does not hold", faults)
    await _positions(world, log, journal)
    for topic in ("positions", "pnl"):
        published = await check_derived(world.bus, log, topic)
        if len(published) != len(log.fills):
            raise Broken(topic, [f"{len(published)} of {len(log.fills)} fills are told"])


def _acknowledged(log: OrderLog, journal: Journal) -> list[str]:
    faults: list[str] = []
    for (account, client_order_id), order_id in journal.orders.items():
        life = log.orders.get(order_id)
        if life is None:
            faults.append(f"{order_id} was acknowledged and is not in the log")
        elif (life.spec.account, life.spec.client_order_id) != (account, client_order_id):
            faults.append(f"{order_id} was acknowledged for {account}/{client_order_id}, the log says {life.spec}")
    return faults


async def _positions(world: World, log: OrderLog, journal: Journal) -> None:
    for path, answer in journal.answers:
        if "/positions/" in path:
            compare_positions(log, answer, path)
    for service in POSITION_SERVICES:
        for account in stack.ACCOUNTS:
            reply = await world.ask(service, "GET", f"/positions/{account}")
            assert reply.status == 200, f"{service} does not answer at the end: {reply}"
            compare_positions(log, reply.body, service)
