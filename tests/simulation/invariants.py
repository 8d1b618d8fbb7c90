"""What must hold at the end of a run, asked of the logs, of the journals, and of every service's answers."""

from functools import partial
from typing import Any

import msgspec
from tests.checker import Broken, OrderLog, check_derived, compare_positions, read_orders, read_partition
from tests.checker_limits import exposures, over_limits, over_shared, over_together
from tests.checker_lists import broken_lists
from tests.checker_states import CLOSED, States, follow_states
from tests.checker_venue import compare_ends, compare_fills, follow_reports, traces
from tests.simulation import stack
from tests.simulation.clients import Journal
from tests.simulation.world import World

from trade2026.controls.limits import LimitBook, Slice, Slices, same_limits
from trade2026.controls.machine import Controls
from trade2026.controls.slices import granted_of, slice_in, sliced
from trade2026.domain import events as ev
from trade2026.domain.numbers import to_nanos
from trade2026.domain.shards import partition_of
from trade2026.oms.machine import OrderMachine
from trade2026.oms.replay import verify

POSITION_SERVICES = ("oms", "risk", "ptrc", "pnl")
_STILL = ("orders.events", "venue.reports", "positions", "pnl")
_PAGE = 50


class Logs:
    """What the log tells, partition by partition and as one."""

    def __init__(self, orders: list[OrderLog], topics: dict[tuple[str, int], list[ev.Envelope]]) -> None:
        self.each, self.topics = orders, topics
        self.states = [follow_states(log.envelopes) for log in orders]
        self.orders = {order_id: life for log in orders for order_id, life in log.orders.items()}
        self.states_of = {order_id: state for states in self.states for order_id, state in states.orders.items()}

    def of(self, account: str) -> OrderLog:
        """The partition of an account."""
        return self.each[partition_of(account, len(self.each))]

    def as_of(self, account: str, said: Any) -> int:
        """What an answer about an account is as of, whether or not it tells of other partitions, too."""
        return said[str(partition_of(account, len(self.each)))] if isinstance(said, dict) else said


async def read_logs(world: World) -> Logs:
    """Read everything that is on the bus."""
    topics = {
        (topic.name, partition): await read_partition(world.log, topic.name, partition)
        for topic in stack.topics(world.partitions)
        for partition in range(topic.partitions)
    }
    return Logs([await read_orders(world.log, partition) for partition in range(world.partitions)], topics)


async def ends(world: World) -> list[int]:
    """Where each log that has to come to rest ends now."""
    found = [await world.log.end(topic, partition) for topic in _STILL for partition in range(world.partitions)]
    return [*found, await world.log.end("risk.events", 0)]


async def behind(world: World) -> str:
    """Who does not know the whole order log yet; empty when all do."""
    newest = {partition: await world.log.end("orders.events", partition) - 1 for partition in range(world.partitions)}
    for account in stack.ACCOUNTS if world.partitions > 1 else stack.ACCOUNTS[:1]:
        wanted = newest[partition_of(account, world.partitions)]
        for service, name in [(each, name) for each in POSITION_SERVICES for name in world.processes_of(each)]:
            said = (await world.ask(service, "GET", f"/positions/{account}", process=name)).body
            if said.get("as_of") != wanted:
                health = await world.ask(service, "GET", "/health", process=name)
                return f"{service} in {name} is as of {said.get('as_of', said)}, not {wanted}: {health}"
    said = (await world.ask("archive", "GET", "/stats")).body
    if said.get("as_of") == (newest[0] if world.partitions == 1 else {str(n): seq for n, seq in newest.items()}):
        return ""
    return f"archive is as of {said.get('as_of')}, not {newest}: {await world.ask('archive', 'GET', '/health')}"


async def has_all(world: World) -> bool:
    """Ask for all of a limit that spans partitions, in one of them; whether it has recorded that it has it."""
    if world.partitions == 1:
        return True
    partition = world.seed // stack.PARTITIONS % world.partitions
    whole = world.service("risk").book.stack.max_open_orders  # type: ignore[attr-defined]
    wanted = {"scope": "stack", "field": "max_open_orders", "partition": partition, "needed": whole}
    await world.ask("risk", "POST", "/slices", wanted)
    cells = world.order_cells(partition)
    return len(cells) == 1 and slice_in(
        cells[0].owner.machine.controls.book.slices, "stack", "max_open_orders"
    ) == Slice(whole, whole)


async def check(world: World, journal: Journal) -> None:
    """Raise `Broken` with everything that is wrong."""
    logs = await read_logs(world)
    _raise("what was answered does not hold", [*journal.faults, *world.loop.failures, *_acknowledged(logs, journal)])
    for log, states in zip(logs.each, logs.states, strict=True):
        _raise("orders do what no order may", states.faults)
        _raise("the limits were exceeded", over_limits(log.envelopes))
        _raise("a list is not what its kind means", broken_lists(log.envelopes))
        _raise("the limits in force are not the newest", _limits(logs.topics["risk.events", 0], log, world.partitions))
        _raise("the venue tells another story", _venue(logs.topics["venue.reports", log.partition], log, states))
    _raise("partitions together exceed a limit", _together(world, logs))
    trace_ids = {order_id: state.trace_id for order_id, state in logs.states_of.items()}
    still = [log for (topic, _), log in logs.topics.items() if topic in _STILL]
    _raise("a trace is broken", traces(still, trace_ids))
    _raise("exposure is not what the open orders come to", _exposure(logs, journal))
    await _positions(world, logs, journal)
    for log in logs.each:
        for topic in ("positions", "pnl"):
            published = await check_derived(world.log, log, topic)
            if len(published) != len(log.fills):
                raise Broken(topic, [f"{len(published)} of {len(log.fills)} fills are told"])
    _raise("the history is not what happened", await _history(world, "archive", logs))
    _raise("the order service does not find its orders", await _history(world, "oms", logs))
    settings = stack.settings(world.directory, ("oms",), "orders", partitions=world.partitions)
    for log in logs.each:
        _raise("a fold is not what a full replay makes", _replayed(world, log))
        verified = await verify(world.log, settings, log.partition)
        _raise("decisions come out differently when they are taken again", verified.differences)


def _raise(what: str, faults: list[str]) -> None:
    if faults:
        raise Broken(what, faults)


def _acknowledged(logs: Logs, journal: Journal) -> list[str]:
    faults: list[str] = []
    for (account, client_order_id), order_id in journal.orders.items():
        life = logs.orders.get(order_id)
        if life is None:
            faults.append(f"{order_id} was acknowledged and is not in the log")
        elif (life.spec.account, life.spec.client_order_id) != (account, client_order_id):
            faults.append(f"{order_id} was acknowledged for {account}/{client_order_id}, the log says {life.spec}")
    for order_id in sorted(journal.canceled):
        if not {"CancelRequested", "OrderCanceled", "OrderExpired"} & set(logs.states_of[order_id].events):
            faults.append(f"the cancellation of {order_id} was acknowledged and is not in the log")
    for log in logs.each:
        stops = {
            ("halt" if event.halt else "kill", event.scope, event.reason)
            for envelope in log.envelopes
            if isinstance(event := envelope.data, ev.Killed)
        }
        faults += [
            f"{stop} was acknowledged and is not in the log of partition {log.partition}"
            for stop in journal.stops
            if stop not in stops and _concerns(logs, stop[1], log)
        ]
    faults += [
        f"{order_id} is still {state.status}"
        for order_id, state in logs.states_of.items()
        if state.status not in CLOSED
    ]
    return faults


def _concerns(logs: Logs, scope: str, log: OrderLog) -> bool:
    kind, _, name = scope.partition(":")
    return kind != "account" or logs.of(name) is log


def _limits(risk: list[ev.Envelope], log: OrderLog, partitions: int) -> list[str]:
    """At rest the order service uses the limits that risk has recorded last: a tightening outlives every fault.

    Of what spans partitions each uses what it was granted last, and else no more than it may without a grant.
    """
    changed = [event for envelope in risk if isinstance(event := envelope.data, ev.LimitsChanged)]
    adopted = [event for envelope in log.envelopes if isinstance(event := envelope.data, ev.LimitsAdopted)]
    if not changed or not adopted:
        return [f"{len(changed)} versions were recorded, {len(adopted)} adopted"]
    newest, used = (msgspec.json.decode(bytes(each[-1].limits), type=LimitBook) for each in (changed, adopted))
    granted, grant = _granted(risk, log.partition)
    wanted = sliced(newest, log.partition, partitions, used, granted_of(newest, granted), grant)
    return [] if same_limits(wanted, used) else [f"{used} is used in partition {log.partition}, it must be {wanted}"]


def _granted(risk: list[ev.Envelope], partition: int) -> tuple[Slices, int]:
    """What a partition was granted, and the newest grant."""
    granted: Slices = {}
    newest = -1
    for envelope in risk:
        if isinstance(event := envelope.data, ev.SlicesGranted) and event.partition == partition:
            for scope, slices in msgspec.json.decode(bytes(event.slices), type=Slices).items():
                granted.setdefault(scope, {}).update(slices)
            newest = envelope.seq
    return granted, newest


def _together(world: World, logs: Logs) -> list[str]:
    """Whatever partitions do at the same time: each event in the order in which all of them became durable.

    What positions count for depends on marks, which are in no log: of money only the slices are added up.
    """
    if world.partitions == 1:
        return []
    events = [(partition, logs.each[partition].envelopes[seq]) for partition, seq in world.order]
    ceilings = stack.limits(world.partitions)
    orders_only = msgspec.structs.replace(
        ceilings, stack=msgspec.structs.replace(ceilings.stack, max_gross_exposure=None)
    )
    return [*over_together(events, orders_only), *over_shared(events, world.partitions)]


def _venue(reports: list[ev.Envelope], log: OrderLog, states: States) -> list[str]:
    at_venue, faults = follow_reports(reports)
    faults += compare_fills(reports, log.envelopes)
    statuses = {order_id: (state.status, state.routed) for order_id, state in states.orders.items()}
    return faults + compare_ends(at_venue, statuses)


def _exposure(logs: Logs, journal: Journal) -> list[str]:
    faults: list[str] = []
    for path, answer in journal.answers:
        if "/exposure" in path:
            account = answer["scope"].removeprefix("account:")
            as_of = logs.as_of(account, answer["as_of"])
            wanted = exposures(logs.of(account).envelopes, account, as_of)
            said = (answer["open_orders"], to_nanos(answer["reserved"]))
            if said != wanted:
                faults.append(f"{account} as of {as_of}: {said}, must be {wanted}")
    return faults


async def _positions(world: World, logs: Logs, journal: Journal) -> None:
    for path, answer in journal.answers:
        if "/positions/" in path:
            compare_positions(logs.of(answer["account"]), answer, path)
    for service in POSITION_SERVICES:
        for account in stack.ACCOUNTS:
            reply = await world.ask(service, "GET", f"/positions/{account}")
            assert reply.status == 200, f"{service} does not answer at the end: {reply}"
            compare_positions(logs.of(account), reply.body, service)


async def _history(world: World, service: str, logs: Logs) -> list[str]:
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
    for order_id, life in logs.orders.items():
        view = found.pop(order_id, None)
        if view is None:
            faults.append(f"{order_id} is not listed")
        elif (view["status"], to_nanos(view["cum_qty"])) != (logs.states_of[order_id].status, life.cum_qty):
            faults.append(f"{view} is not {logs.states_of[order_id].status} with {life.cum_qty}")
    return faults + [f"{order_id} is listed and never was" for order_id in found]


def _replayed(world: World, log: OrderLog) -> list[str]:
    """What was restored from snapshots and tails equals a fold of everything."""
    instruments = {instrument.instrument_id: instrument for instrument in stack.INSTRUMENTS}
    whole = OrderMachine(Controls(LimitBook(), instruments), log.partition)
    ptrc = world.service("ptrc").cells.here[log.partition].machine  # type: ignore[attr-defined]
    positions = type(ptrc)()
    for envelope in log.envelopes:
        whole.apply(envelope)
        positions.apply(envelope)
    cells = world.order_cells(log.partition)
    if len(cells) != 1:
        return [f"{len(cells)} order services have partition {log.partition} at the end"]
    oms = cells[0].owner.machine
    archive = world.service("archive").keepers[log.partition].machine  # type: ignore[attr-defined]
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
