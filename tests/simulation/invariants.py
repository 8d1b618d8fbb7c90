"""What must hold at the end of a run, asked of the logs, of the journals, and of every service's answers."""

from functools import partial
from typing import Any

import msgspec
from tests.checker import Broken, OrderLog, check_derived, compare_positions, read_orders, read_partition
from tests.checker_limits import exposures, over_limits
from tests.checker_lists import broken_lists
from tests.checker_states import CLOSED, States, follow_states
from tests.checker_venue import compare_ends, compare_fills, follow_reports, traces
from tests.simulation import stack
from tests.simulation.clients import Journal
from tests.simulation.world import World

from trade2026.controls.limits import LimitBook
from trade2026.controls.machine import Controls
from trade2026.domain import events as ev
from trade2026.domain.numbers import to_nanos
from trade2026.oms.machine import OrderMachine
from trade2026.oms.replay import verify
from trade2026.stack.facts import TOPICS

POSITION_SERVICES = ("oms", "risk", "ptrc", "pnl")
_STILL = ("orders.events", "venue.reports", "positions", "pnl")
_PAGE = 50


async def ends(world: World) -> list[int]:
    """Where each log that has to come to rest ends now."""
    return [await world.bus.end(topic, 0) for topic in _STILL]


async def behind(world: World) -> str:
    """Who does not know the whole order log yet; empty when all do."""
    newest = await world.bus.end("orders.events", 0) - 1
    for service in POSITION_SERVICES:
        reply = await world.ask(service, "GET", f"/positions/{stack.ACCOUNTS[0]}")
        if reply.body.get("as_of") != newest:
            return f"{service} is as of {reply.body.get('as_of', reply)}, not {newest}: {await world.ask(service, 'GET', '/health')}"
    archive = await world.ask("archive", "GET", "/stats")
    if archive.body.get("as_of") == newest:
        return ""
    return f"archive is as of {archive.body.get('as_of')}, not {newest}: {await world.ask('archive', 'GET', '/health')}"


async def check(world: World, journal: Journal) -> None:
    """Raise `Broken` with everything that is wrong."""
    log = await read_orders(world.bus)
    logs = {topic.name: await read_partition(world.bus, topic.name) for topic in TOPICS}
    states = follow_states(log.envelopes)
    _raise(
        "what was answered does not hold", [*journal.faults, *world.loop.failures, *_acknowledged(log, states, journal)]
    )
    _raise("orders do what no order may", states.faults)
    _raise("the limits were exceeded", over_limits(log.envelopes))
    _raise("a list is not what its kind means", broken_lists(log.envelopes))
    _raise("the limits in force are not the newest", _limits(logs["risk.events"], log))
    _raise("the venue tells another story", _venue(logs["venue.reports"], log, states))
    trace_ids = {order_id: state.trace_id for order_id, state in states.orders.items()}
    _raise("a trace is broken", traces((logs[topic] for topic in _STILL), trace_ids))
    _raise("exposure is not what the open orders come to", _exposure(log, journal))
    await _positions(world, log, journal)
    for topic in ("positions", "pnl"):
        published = await check_derived(world.bus, log, topic)
        if len(published) != len(log.fills):
            raise Broken(topic, [f"{len(published)} of {len(log.fills)} fills are told"])
    _raise("the history is not what happened", await _history(world, "archive", log, states))
    _raise("the order service does not find its orders", await _history(world, "oms", log, states))
    _raise("a fold is not what a full replay makes", _replayed(world, log))
    verified = await verify(world.bus, stack.settings(world.directory, ("oms",), "orders"))
    _raise("decisions come out differently when they are taken again", verified.differences)


def _raise(what: str, faults: list[str]) -> None:
    if faults:
        raise Broken(what, faults)


def _acknowledged(log: OrderLog, states: States, journal: Journal) -> list[str]:
    faults: list[str] = []
    for (account, client_order_id), order_id in journal.orders.items():
        life = log.orders.get(order_id)
        if life is None:
            faults.append(f"{order_id} was acknowledged and is not in the log")
        elif (life.spec.account, life.spec.client_order_id) != (account, client_order_id):
            faults.append(f"{order_id} was acknowledged for {account}/{client_order_id}, the log says {life.spec}")
    for order_id in sorted(journal.canceled):
        if not {"CancelRequested", "OrderCanceled", "OrderExpired"} & set(states.orders[order_id].events):
            faults.append(f"the cancellation of {order_id} was acknowledged and is not in the log")
    stops = {
        ("halt" if event.halt else "kill", event.scope, event.reason)
        for envelope in log.envelopes
        if isinstance(event := envelope.data, ev.Killed)
    }
    faults += [f"{stop} was acknowledged and is not in the log" for stop in journal.stops if stop not in stops]
    faults += [
        f"{order_id} is still {state.status}" for order_id, state in states.orders.items() if state.status not in CLOSED
    ]
    return faults


def _limits(risk: list[ev.Envelope], log: OrderLog) -> list[str]:
    """At rest the order service uses the limits that risk has recorded last: a tightening outlives every fault."""
    changed = [event for envelope in risk if isinstance(event := envelope.data, ev.LimitsChanged)]
    adopted = [event for envelope in log.envelopes if isinstance(event := envelope.data, ev.LimitsAdopted)]
    if not changed or not adopted:
        return [f"{len(changed)} versions were recorded, {len(adopted)} adopted"]
    newest, used = (msgspec.json.decode(bytes(each[-1].limits), type=LimitBook) for each in (changed, adopted))
    same = msgspec.structs.replace(newest, version=used.version) == used
    return [] if same else [f"{used} is used, {newest} was recorded last"]


def _venue(reports: list[ev.Envelope], log: OrderLog, states: States) -> list[str]:
    at_venue, faults = follow_reports(reports)
    faults += compare_fills(reports, log.envelopes)
    statuses = {order_id: (state.status, state.routed) for order_id, state in states.orders.items()}
    return faults + compare_ends(at_venue, statuses)


def _exposure(log: OrderLog, journal: Journal) -> list[str]:
    faults: list[str] = []
    for path, answer in journal.answers:
        if "/exposure" in path:
            account = answer["scope"].removeprefix("account:")
            wanted = exposures(log.envelopes, account, answer["as_of"])
            said = (answer["open_orders"], to_nanos(answer["reserved"]))
            if said != wanted:
                faults.append(f"{account} as of {answer['as_of']}: {said}, must be {wanted}")
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


async def _history(world: World, service: str, log: OrderLog, states: States) -> list[str]:
    """List every order page by page: each once, as the log tells it."""
    found: dict[str, dict[str, Any]] = {}
    faults: list[str] = []
    cursor = ""
    while cursor is not None:
        reply = await world.ask(service, "GET", f"/orders?limit={_PAGE}{cursor and f'&cursor={cursor}'}")
        if reply.status != 200:
            return [f"{service} does not list its orders: {reply}"]
        for order in reply.body["orders"]:
            if order["order_id"] in found:
                faults.append(f"{order['order_id']} is listed twice")
            found[order["order_id"]] = order
        cursor = reply.body["cursor"]
    for order_id, life in log.orders.items():
        view = found.pop(order_id, None)
        if view is None:
            faults.append(f"{order_id} is not listed")
        elif (view["status"], to_nanos(view["cum_qty"])) != (states.orders[order_id].status, life.cum_qty):
            faults.append(f"{view} is not {states.orders[order_id].status} with {life.cum_qty}")
    return faults + [f"{order_id} is listed and never was" for order_id in found]


def _replayed(world: World, log: OrderLog) -> list[str]:
    """What was restored from snapshots and tails equals a fold of everything."""
    instruments = {instrument.instrument_id: instrument for instrument in stack.INSTRUMENTS}
    whole = OrderMachine(Controls(LimitBook(), instruments))
    ptrc = world.service("ptrc").cells.here[0].machine  # type: ignore[attr-defined]
    positions = type(ptrc)()
    for envelope in log.envelopes:
        whole.apply(envelope)
        positions.apply(envelope)
    oms = world.service("oms").cells.here[0].owner.machine  # type: ignore[attr-defined]
    archive = world.service("archive").keepers[0].machine  # type: ignore[attr-defined]
    compared = {
        "the order service's controls": (oms.controls.snapshot, whole.controls.snapshot),
        "the archive's controls": (archive.controls.snapshot, whole.controls.snapshot),
        "ptrc's positions": (ptrc.snapshot, positions.snapshot),
        "the order service's counts": (partial(_counts, oms), partial(_counts, whole)),
    }
    return [
        f"{name}: {mine()!r} is not {theirs()!r}" for name, (mine, theirs) in compared.items() if mine() != theirs()
    ]


def _counts(machine: OrderMachine) -> tuple[int, ...]:
    fold = machine.fold
    return fold.next_seq, fold.ts_init, fold.order_count, fold.list_count, fold.report_seq, len(fold.open)
