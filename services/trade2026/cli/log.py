"""What happened, read from the log: `trace`, `events tail`, `replay`."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trade2026.cli import completion
from trade2026.cli.output import FAILED, USAGE, AsJson, CliError, StatePath, print_json, print_table, show
from trade2026.cli.target import find, find_state, path_to
from trade2026.stack.facts import TOPICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from trade2026.cli.target import Target
    from trade2026.kit.bus.port import Bus, Record
    from trade2026.kit.settings import ProcessSettings
    from trade2026.local.state import StateDir

events = typer.Typer(help="Events of the log: tail.", no_args_is_help=True, rich_markup_mode=None)

_BAR_WIDTH = 32
_PAGE = 500


def trace(
    order_id: Annotated[
        str | None,
        typer.Argument(
            help="The order, or the parent order; the newest order of the account if omitted.",
            show_default=False,
            autocompletion=completion.order_ids,
        ),
    ] = None,
    account: Annotated[str, typer.Option(help="Whose newest order.", autocompletion=completion.accounts)] = "main",
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Draw the life of an order: every event in every service, and what caused it.

    Of an order that a strategy or a parent order decided, it begins with that decision; of a parent order it has all
    children.

    Examples:

    trade2026 trace o0-17

    trade2026 trace e0-3
    """
    target = find(state_dir)
    if order_id is None:
        newest = target.call("oms", "GET", "/orders", query={"account": account, "limit": 1})["orders"]
        if not newest:
            raise CliError(f"{account} has no orders: name an order, or an --account", FAILED)
        order_id = str(newest[0]["order_id"])
    try:
        answer = target.call("archive", "GET", path_to("trace", order_id))
    except CliError as error:
        raise _with_range(target, error) from error
    if as_json:
        print_json(answer)
        return
    if not answer["events"]:
        raise CliError(f"no events of order {order_id} are archived yet", FAILED)
    kind = "parent" if order_id.startswith("e") else "order"
    typer.echo(f"{kind} {answer['order_id']}, trace {answer.get('trace_id') or 'unknown'}\n")
    print_table(waterfall(answer["events"]))


def _with_range(target: "Target", error: CliError) -> CliError:
    """The same error with the orders that there are, where the one that is meant is none of them."""
    if (error.problem or {}).get("code") != "unknown_order":
        return error
    try:
        newest = target.call("oms", "GET", "/orders", query={"limit": 1})["orders"]
    except CliError:
        return error
    there = f"the newest order is {newest[0]['order_id']}" if newest else "there are no orders yet"
    count = partitions_of(target.state, "orders.events") if target.state is not None else 1
    parts = f", in partitions 0 to {count - 1} (the number after the first letter)" if count > 1 else ""
    return CliError(f"{error}: {there}{parts}; `trade2026 order list` shows them", error.exit_code, error.problem)


def waterfall(found: list[dict[str, Any]]) -> "Table":
    """A table of events in the order of their time.

    AFTER is the time since the order was received, TOOK the time since the cause of the event, and the bar spans
    both: it begins where the cause was.
    """
    from rich.table import Table

    owners = {topic.name: topic.owner for topic in TOPICS}
    times = {event["event_id"]: _nanos(event["ts_init"]) for event in found}
    ordered = sorted(found, key=lambda event: times[event["event_id"]])
    received = min(_nanos(ordered[0].get("ts_event") or ordered[0]["ts_init"]), times[ordered[0]["event_id"]])
    span = max(times.values()) - received or 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("AFTER", "TOOK"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("", "SERVICE", "EVENT", "ID", "CAUSED BY"):
        table.add_column(heading, no_wrap=True)
    for event in ordered:
        at = times[event["event_id"]]
        # What no other event caused is the answer to a request, or to the market.
        cause = times.get(event.get("causation_id") or "", received if event is ordered[0] else at)
        start = _BAR_WIDTH * (cause - received) // span
        end = max(start + 1, _BAR_WIDTH * (at - received) // span)
        table.add_row(
            _milliseconds(at - received),
            f"+{_milliseconds(at - cause)}" if cause != at else "",
            f"{' ' * start}{'━' * (end - start)}".ljust(_BAR_WIDTH),
            owners.get(event["event_id"].split("/")[0], "–"),
            str(event["type"]),
            str(event["event_id"]),
            str(event.get("causation_id") or ("a request" if event is ordered[0] else "–")),
        )
    return table


def _nanos(moment: Any) -> int:
    if isinstance(moment, int):
        return moment
    parsed = datetime.fromisoformat(str(moment))
    since = parsed.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def _milliseconds(nanos: int) -> str:
    return f"{nanos / 1e6:.3f} ms"


@events.command()
def tail(
    topic: Annotated[str, typer.Option(help="Whose events.", autocompletion=completion.topics)] = "orders.events",
    partition: Annotated[
        int | None, typer.Option(help="Of a topic that is split by account; all of them if omitted.", min=0)
    ] = None,
    start: Annotated[int | None, typer.Option("--from", help="Begin at this position; the last 20 if omitted.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-F", help="Go on with what comes, until Ctrl-C.")] = False,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Print events from the log, amounts as decimal text; with --json, one object a line.

    Example: trade2026 events tail --topic orders.events --from 0 --follow
    """
    import asyncio

    names = [known.name for known in TOPICS]
    if topic not in names:
        from trade2026.stack.nearest import nearest

        raise CliError(f"{topic!r} is no topic{nearest(topic, names)}", USAGE)
    state = find_state(state_dir)
    count = partitions_of(state, topic)
    if partition is not None and partition >= count:
        there = "only partition 0" if count == 1 else f"partitions 0 to {count - 1}"
        raise CliError(f"{topic} has no partition {partition}: it has {there}", USAGE)
    wanted = range(count) if partition is None else [partition]
    asyncio.run(_tail(state, topic, wanted, start, follow, as_json))


async def _tail(
    state: "StateDir", topic: str, partitions: "Sequence[int]", start: int | None, follow: bool, as_json: bool
) -> None:
    import asyncio

    from trade2026.kit.bus.port import BusError

    bus = open_bus(state)
    try:
        ends = [await _print_to_end(bus, topic, partition, start, as_json) for partition in partitions]
        if follow:
            followed = zip(partitions, ends, strict=True)
            await asyncio.gather(*(_print_on(bus, topic, partition, at, as_json) for partition, at in followed))
    except BusError as error:
        raise CliError(str(error), FAILED) from error
    finally:
        await bus.close()


async def _print_to_end(bus: "Bus", topic: str, partition: int, start: int | None, as_json: bool) -> int:
    """Print what is there; returns the position after it."""
    end, oldest = await bus.end(topic, partition), await bus.start(topic, partition)
    if start is not None and not oldest <= start < end:
        there = f"has positions {oldest} to {end - 1}" if oldest < end else f"is empty, its next position is {end}"
        typer.echo(f"note: {topic}/{partition} {there}; {start} is none of them", err=True)
    at = max(oldest, end - 20 if start is None else start)
    while at < end and (records := await bus.read(topic, partition, at, _PAGE)):
        for record in records:
            _print_record(record, as_json)
        at = records[-1].seq + 1
    return at


async def _print_on(bus: "Bus", topic: str, partition: int, at: int, as_json: bool) -> None:
    reader = await bus.open_reader(topic, partition, at)
    while True:
        for record in await reader.read():
            _print_record(record, as_json)


def _print_record(record: "Record", as_json: bool) -> None:
    from trade2026.domain.events import decode
    from trade2026.kit.views import event_view

    view = event_view(decode(record.body), record.topic, record.partition)
    if as_json:
        typer.echo(json.dumps(view, ensure_ascii=False))
        return
    data = " ".join(f"{name}={_short(value)}" for name, value in view["data"].items())
    typer.echo(f"{view['ts_init']} {view['event_id']} {view['type']} {data}")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + " ".join(f"{name}={_short(inner)}" for name, inner in value.items()) + "}"
    return str(value)


def replay(
    verify: Annotated[bool, typer.Option("--verify", help="Also decide every command again and compare.")] = False,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Fold the order log again from its first event; with --verify, say whether the decisions are the same.

    Example: trade2026 replay --verify
    """
    import asyncio

    result = asyncio.run(_replay(find_state(state_dir), verify))
    show(result, as_json, _replayed(result))
    if result.get("differences"):
        raise CliError("the log and the decisions differ", FAILED)


def _replayed(result: dict[str, Any]) -> str:
    if "differences" in result:
        lines = [f"{result['decisions']:,} decision(s) taken again from {result['events']:,} events"]
        found = result["differences"]
        return "\n".join([*lines, *map(str, found)] if found else [*lines, "every one is as it was recorded"])
    return (
        f"{result['events']:,} events in {result['seconds']:.2f} s ({result['events_per_second']:,} a second): "
        f"{result['orders']:,} order(s), {result['open_orders']:,} of them open"
    )


async def _replay(state: "StateDir", verify: bool) -> dict[str, Any]:
    import time

    from trade2026.domain.events import decode
    from trade2026.domain.order_fold import OrderFold
    from trade2026.kit.bus.port import BusError

    bus = open_bus(state)
    partitions = range(partitions_of(state, "orders.events"))
    try:
        if verify:
            return await _verify(bus, state, partitions)
        folds = [OrderFold() for _ in partitions]
        started = time.perf_counter()
        events_read = 0
        for partition, fold in enumerate(folds):
            at, end = await bus.start("orders.events", partition), await bus.end("orders.events", partition)
            while at < end and (records := await bus.read("orders.events", partition, at, _PAGE)):
                for record in records:
                    fold.apply(decode(record.body))
                events_read += len(records)
                at = records[-1].seq + 1
        seconds = time.perf_counter() - started
        return {
            "events": events_read,
            "orders": sum(fold.order_count for fold in folds),
            "open_orders": sum(len(fold.open) for fold in folds),
            "seconds": round(seconds, 3),
            "events_per_second": round(events_read / seconds) if seconds else 0,
        }
    except BusError as error:
        raise CliError(str(error), FAILED) from error
    finally:
        await bus.close()


async def _verify(bus: "Bus", state: "StateDir", partitions: "Sequence[int]") -> dict[str, Any]:
    """Under the instruments of the manifest that the state directory keeps: a restored copy has no process yet."""
    import msgspec

    from trade2026.kit.settings import ProcessSettings
    from trade2026.oms import replay as oms_replay
    from trade2026.stack.manifest import ManifestError, load
    from trade2026.stack.planner import plan

    path = state.path / "manifest.yaml"
    try:
        release = next(release for release in plan(load(path)).releases if "oms" in release.services)
    except (OSError, ManifestError) as error:
        raise CliError(f"{path} can't be used: {error}; bring the stack up once", FAILED) from error
    settings = msgspec.json.decode(msgspec.json.encode(release.settings), type=ProcessSettings)
    found = [await oms_replay.verify(bus, settings, partition) for partition in partitions]
    return {
        "events": sum(each.events for each in found),
        "decisions": sum(each.decisions for each in found),
        "differences": [difference for each in found for difference in each.differences],
    }


def open_bus(state: "StateDir") -> "Bus":
    """The stack's bus, to read from; it may be running meanwhile."""
    import msgspec

    from trade2026.kit.bus.port import TopicConfig
    from trade2026.log_archive import opening

    if not state.path.exists():
        raise CliError(f"{state.path} does not exist", USAGE)
    if (settings := _settings_of(state)) is not None:
        return opening.open_bus(msgspec.structs.replace(settings, state_dir=str(state.path)))
    topics = [
        TopicConfig(
            name=topic.name,
            partitions=partitions_of(state, topic.name),
            durable=topic.durable,
            segment_bytes_max=topic.segment_bytes_max,
            retention_bytes_max=topic.retention_bytes_max,
        )
        for topic in TOPICS
    ]
    return opening.open_copy(state.path, topics)


def partitions_of(state: "StateDir", topic: str) -> int:
    """How many partitions a topic of the stack has: as its processes were told, or as its journals are."""
    if (settings := _settings_of(state)) is not None:
        return settings.partitions(topic)
    folders = (path for path in (state.path / "bus" / topic).glob("*") if path.name.isdecimal())
    return max((int(path.name) + 1 for path in folders), default=1)


def _settings_of(state: "StateDir") -> "ProcessSettings | None":
    """What some process of the stack was told last; None in a restored copy, which has had none yet."""
    from trade2026.kit.settings import load
    from trade2026.stack.facts import GROUPS, SERVICES

    written = [path for name in (*GROUPS, *SERVICES) if (path := state.settings(name)).exists()]
    return load(max(written, key=lambda path: path.stat().st_mtime)) if written else None
