"""The live shell of the strategies: reads the topics, records what was delivered, then lets decisions go.

Nothing leaves before the deliveries that led to it are durable. After a crash: the newest snapshot, what was
delivered since in the recorded order, then the decisions that the order log knows nothing of, once more.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import xxhash

from trade2026 import __version__
from trade2026.domain import events as ev
from trade2026.domain.events import Envelope, decode
from trade2026.domain.market import Bar, Book
from trade2026.domain.shards import partition_name
from trade2026.kit import tracing
from trade2026.kit.bus.port import Bus, BusError, Fenced, Record, Trimmed
from trade2026.kit.clock import Clock
from trade2026.kit.origin import NOWHERE, Origin
from trade2026.kit.publisher import Publisher
from trade2026.kit.snapshots import SnapshotStore
from trade2026.sdk.saving import NotSaveable
from trade2026.strategies.handover import Handover
from trade2026.strategies.machine import CLOCK, ORDERS, Decision, Delivery, Replayed, StrategiesMachine
from trade2026.strategies.shard_log import ShardLog

log = logging.getLogger(__name__)

TOPIC = "strategies.events"
TICKS = "market.ticks"
BOOKS = "market.books"
BARS = "market.bars"
MARKET = (BARS, TICKS, BOOKS)
SNAPSHOT_NS = 60 * 10**9
_RECORDS_PER_TURN = 200
_REPLAY_BATCH = 1_000
_HISTORY_BARS_MAX = 20_000
"""Records of `market.bars` that are looked through for a strategy that begins."""
_TIMER_SECONDS = 0.02
_FLUSH_SECONDS = 1.0
_HANDOVER_SECONDS = 0.2
"""Between two looks at symbols that another process is to let go."""
_UNDER_WAY_MAX = 200
_RETRY_SECONDS = 0.5
_LINE_LEVEL = logging.INFO
_BEGINS_A_TRACE = (ev.OrderDecided, ev.OrderListDecided)


class Runner:
    """Runs every strategy of a stack.

    Args:
        machine: Makes an empty machine with the strategies that are defined.
        send: Hands a durable decision to the order service.
        failed: Told that a strategy has failed, with the reason; not during a replay.
        reacted: Told the nanoseconds from a trade or book at the venue to the answer to an order that it led to.
        catch_up_ns: Market data that is older than this when the runner begins is not delivered any more.
        partitions: Of the order log.
        shard: Our partition of our own log, and of the claims on symbols.
        shards: So many partitions those have.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        machine: Callable[[], StrategiesMachine],
        *,
        tenant: str,
        owner: str,
        snapshots: SnapshotStore,
        send: Callable[[Decision, Origin], None],
        failed: Callable[[str, str], None],
        reacted: Callable[[int], None] = lambda ns: None,
        catch_up_ns: int = 10 * 10**9,
        partitions: int = 1,
        shard: int = 0,
        shards: int = 1,
    ) -> None:
        self.bus, self.clock, self.snapshots = bus, clock, snapshots
        self.machine = machine()
        self.ready = False
        self.fenced = False
        self.detail = "not started"
        self.decisions = 0
        self.deliveries = 0
        self._make, self._send, self._failed, self._catch_up_ns = machine, send, failed, catch_up_ns
        self._reacted = reacted
        self.followed = [*((ORDERS, partition) for partition in range(partitions)), *((topic, 0) for topic in MARKET)]
        """Every partition that is delivered."""
        self._led_by: dict[tuple[str, int], int] = {}
        """When what led to an order that is not answered yet happened at the venue, ns."""
        self._log = Publisher(bus, TOPIC, tenant=tenant, clock=clock, owner=owner, partition=shard)
        self.shard = shard
        claims = ShardLog(bus, shard, shards, tenant=tenant, clock=clock, owner=owner)
        self.handover = Handover(claims, clock)
        self._tasks: list[asyncio.Task[None]] = []
        self._under_way: asyncio.Future[int] | None = None
        self._uncommitted = 0
        self._snapshot_at = 0
        self._unsaveable = ""
        self._origins: dict[tuple[str, int], Origin] = {}
        """Of the decisions that a replay has read; those before its snapshot are not known."""
        self._recovery: asyncio.Task[None] | None = None
        self._stopping = False

    # ── life ────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Claim the log, replay it, begin what has not begun, send again what was not answered, and go on."""
        self.detail = "claiming the log"
        await self._log.start()
        await self.handover.claims.start()
        await self._replay(self._log.next_seq)
        await self._place_cursors()
        await self._read_orders()
        await self.handover.keep(self.machine)
        for decision in self.machine.to_send():
            self._send(decision, self._origins.pop((decision.strategy, decision.number), NOWHERE))
        self._origins.clear()
        await self._settle()
        self.ready, self.detail = True, "ready"
        self._snapshot_at = self.clock.now()
        self._tasks = [
            asyncio.create_task(self._follow(*place), name=partition_name(*place)) for place in self.followed
        ]
        self._tasks += [
            asyncio.create_task(self._tick(), name="timers"),
            asyncio.create_task(self._keep(), name="flush"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def stop(self, reason: str = "the stack was stopped") -> None:
        """End every strategy in order, record it, and keep a snapshot; `send` is called for what they decide."""
        self._stopping = True
        if self._recovery is not None:
            self._recovery.cancel()
        await self._cancel_tasks()
        if self.ready:
            for name, hosted in self.machine.hosted.items():
                if hosted.status == "running":
                    self._record(self.machine.end(name, self.clock.now(), reason))
            try:
                await self._snapshot()
            except BusError as error:
                log.error("the end of the strategies could not be recorded: %s", error)
        self.ready, self.detail = False, "stopped"
        await self.handover.claims.stop()
        await self._log.stop()

    async def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Memory may be ahead of the log: begin again from it, as after a crash."""
        if not self.ready or self._stopping:
            return
        self.ready, self.fenced = False, isinstance(error, Fenced)
        self.detail = f"another runner has the log: {error}" if self.fenced else f"begins again: {error!r}"
        log.error("%s: %s", TOPIC, self.detail, exc_info=error)
        if not self.fenced:
            self._recovery = asyncio.ensure_future(self._recover())

    async def _recover(self) -> None:
        await self._cancel_tasks()
        while not (self.ready or self.fenced):
            await asyncio.sleep(_RETRY_SECONDS)
            try:
                self.machine = self._make()
                self._led_by.clear()
                self._under_way = None
                await self.start()
            except Exception as error:
                self.fenced = isinstance(error, Fenced)
                self.detail = f"recovering: {error!r}"
                log.warning("%s: %s", TOPIC, self.detail)

    # ── recovery ────────────────────────────────────────────────────────────────────────────

    async def _replay(self, end: int) -> None:
        snapshot = self.snapshots.load(next_seq_max=end)
        at = max(await self.bus.start(TOPIC, self.shard), 0)
        if snapshot is not None:
            self.machine.restore(snapshot.state)
            at = snapshot.header.next_seq
        while at < end:
            for record in await self.bus.read(TOPIC, self.shard, at, _REPLAY_BATCH):
                envelope = decode(record.body)
                event, found = envelope.data, None
                if isinstance(event, ev.Delivered | ev.StrategyWarmed):
                    found = await self._read_again(event.runs, event.digest)
                self.machine.replay(event, found)
                if isinstance(event, ev.Decision):
                    self._origins[event.strategy, event.number] = self._origin(envelope)
                at = record.seq + 1
            self.detail = f"replayed {at} of {end} events"
            await asyncio.sleep(0)
        self.machine.settle()
        for hosted in self.machine.hosted.values():
            hosted.take_lines()  # they were said before

    async def _read_again(self, runs: Sequence[ev.Run], digest: str) -> Replayed:
        """What was delivered, as it was; or as much of it as is still there, and why."""
        found = Replayed([], {})
        check = xxhash.xxh64()
        for run in runs:
            if run.topic == CLOCK:
                found.deliveries.append(Delivery(CLOCK, 0, run.first))
                continue
            found.cursors[partition_name(run.topic, run.partition)] = run.first + run.count
            try:
                records = await self._read_run(run)
            except Trimmed as error:
                found.trouble = str(error)
                continue
            if len(records) < run.count:
                found.trouble = f"{partition_name(run.topic, run.partition)} ends before {run.first + run.count}"
            for record in records:
                check.update(record.body)
                found.deliveries.append(_delivery(record))
        if not found.trouble and check.hexdigest() != digest:
            found.trouble = "the records there are not those that it was given"
        return found

    async def _read_run(self, run: ev.Run) -> list[Record]:
        records: list[Record] = []
        while len(records) < run.count:
            at, missing = run.first + len(records), run.count - len(records)
            more = await self.bus.read(run.topic, run.partition, at, min(missing, _REPLAY_BATCH))
            if not more:
                break
            records += more
        return records

    async def _place_cursors(self) -> None:
        """Where to go on: the order log where we were; the market too, but not with what is stale by now."""
        cursors = self.machine.cursors
        for topic, partition in self.followed:
            if topic == ORDERS:
                self.machine.place(topic, cursors.get(partition_name(topic, partition), 0), partition)
        fresh_from = self.clock.now() - self._catch_up_ns
        for topic in MARKET:
            end = await self.bus.end(topic, 0)
            at = min(max(cursors.get(topic, end), await self.bus.start(topic, 0)), end)
            while at < end:
                records = await self.bus.read(topic, 0, at, _REPLAY_BATCH)
                stale = [record for record in records if decode(record.body).ts_init < fresh_from]
                at += len(stale)
                if len(stale) < len(records) or not records:
                    break
            self.machine.place(topic, at)

    async def _read_orders(self) -> None:
        """Fold the order log to its end, so that what has arrived is not sent again."""
        for topic, partition in self.followed:
            if topic != ORDERS:
                continue
            end = await self.bus.end(topic, partition)
            while (at := self.machine.cursors[partition_name(topic, partition)]) < end:
                self._deliver(await self.bus.read(topic, partition, at, _REPLAY_BATCH))
                await self._wait_for_commits()

    async def _settle(self) -> None:
        """End what is not defined any more, let go of symbols that move, and begin what may."""
        for name in self.machine.to_end:
            leaves = self.machine.hosted[name].definition.instruments
            self._record(self.machine.end(name, self.clock.now(), "it is not defined any more", leaves))
        for name, leaves in (await self.handover.let_go(self.machine)).items():
            reason = "symbols of it move to another process"
            self._record(self.machine.end(name, self.clock.now(), reason, sorted(leaves)))
        for name in self.handover.unclaimed(self.machine):
            if not await self.handover.may_begin(self.machine, name):
                self._record(self.machine.end(name, self.clock.now(), self.handover.waiting[name]))
        for name in self.machine.to_begin:
            if not await self.handover.may_begin(self.machine, name):
                continue
            trades = await self._trades_before(self.machine.warm_up(name))
            since = _ts_init(trades[0]) if trades else self.clock.now()
            history = await self._bars_before(since, self.machine.warm_up_bars(name)) + trades
            log.info("strategy %s begins", name)
            self._record(self.machine.begin(name, self.clock.now(), history))

    async def _trades_before(self, count: int) -> list[Delivery]:
        """The last trades, the oldest first."""
        if count <= 0:
            return []
        end = self.machine.cursors[TICKS]
        first = max(await self.bus.start(TICKS, 0), end - count)
        return [_delivery(record) for record in await self._read_run(ev.Run(TICKS, 0, first, end - first))]

    async def _bars_before(self, since: int, wanted: dict[tuple[str, str], int]) -> list[Delivery]:
        """The bars since a time (ns), and before it as far back as so many of each kind are wanted; oldest first."""
        end = self.machine.cursors[BARS]
        begin = max(await self.bus.start(BARS, 0), end - _HISTORY_BARS_MAX)
        missing = dict(wanted)
        found: list[Delivery] = []
        while (at := end - len(found)) > begin:
            first = max(begin, at - _REPLAY_BATCH)
            for record in reversed(await self._read_run(ev.Run(BARS, 0, first, at - first))):
                delivery = _delivery(record)
                if not missing and _ts_init(delivery) < since:
                    return found[::-1]
                found.append(delivery)
                _count_down(missing, delivery)
        return found[::-1]

    # ── deliveries ──────────────────────────────────────────────────────────────────────────

    async def _follow(self, topic: str, partition: int) -> None:
        reader = await self.bus.open_reader(topic, partition, self.machine.cursors[partition_name(topic, partition)])
        try:
            while True:
                records = await reader.read(_RECORDS_PER_TURN)
                self._deliver(_newest_books(records) if topic == BOOKS else records)
                await self._wait_for_commits()
                await asyncio.sleep(0)
        finally:
            await reader.close()

    def _deliver(self, records: Sequence[Record]) -> None:
        for record in records:
            envelope = decode(record.body)
            events = self.machine.deliver(record.topic, record.partition, record.seq, record.body, envelope)
            if record.topic != ORDERS:
                for event in events:
                    if isinstance(event, ev.OrderDecided):
                        self._led_by[event.strategy, event.number] = envelope.ts_event
            self._record(events, f"{record.topic}/{record.partition}/{record.seq}")
        self.deliveries += len(records)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TIMER_SECONDS)
            now, due = self.clock.now(), self.machine.next_due
            if due and due <= now:
                self._record(self.machine.pass_time(now), "clock")

    async def _keep(self) -> None:
        """Record what led to nothing, begin what was released, keep a snapshot from time to time."""
        while True:
            # Those that want the same symbol ask at different times, so that one of them finds it free.
            await asyncio.sleep(_HANDOVER_SECONDS * (1 + self.shard / 4) if self.handover.waiting else _FLUSH_SECONDS)
            self._record(self.machine.flush())
            if self.machine.to_begin or self.machine.to_end or self.handover.is_leaving(self.machine):
                await self._settle()
            if self.clock.now() - self._snapshot_at >= SNAPSHOT_NS:
                await self._snapshot()

    def refuse(self, decision: Decision, code: str, reason: str) -> None:
        """The order service has taken a decision (no code), or would not."""
        if not self.ready:
            return  # it is in the log: after the recovery it is sent again
        if led_by := self._led_by.pop((decision.strategy, decision.number), 0):
            self._reacted(self.clock.now() - led_by)
        if not code or isinstance(decision, ev.CancelDecided | ev.AmendDecided):
            self.machine.acknowledged(decision.strategy, decision.number)
            return
        refused = ev.DecisionRefused(
            strategy=decision.strategy, number=decision.number, code=code, reason=reason, ts=self.clock.now()
        )
        self._record(self.machine.refuse(refused))

    # ── the log ─────────────────────────────────────────────────────────────────────────────

    def _record(self, events: list[ev.AnyEvent], cause: str = "") -> None:
        """Append events in one piece; their decisions leave when they are durable."""
        for name, hosted in self.machine.hosted.items():
            for line in hosted.take_lines():
                log.log(_LINE_LEVEL, "%s: %s", name, line)
        if not events:
            return
        envelopes = [
            self._log.stamp(
                event,
                offset=offset,
                principal=getattr(event, "strategy", "local"),
                causation_id=cause,
                traceparent=tracing.new_traceparent() if isinstance(event, _BEGINS_A_TRACE) else "",
            )
            for offset, event in enumerate(events)
        ]
        future = self._log.append(envelopes)
        self._under_way = future
        self._uncommitted += 1
        future.add_done_callback(lambda done: self._recorded(done, envelopes))

    def _recorded(self, done: "asyncio.Future[int]", envelopes: list[Envelope]) -> None:
        self._uncommitted -= 1
        if done.cancelled() or (error := done.exception()) is not None:
            self._fail(error if not done.cancelled() and error is not None else BusError("the log was let go"))
            return
        for envelope in envelopes:
            event = envelope.data
            if isinstance(event, ev.Decision):
                self.decisions += 1
                self._send(event, self._origin(envelope))
            elif isinstance(event, ev.StrategyFailed):
                log.error("strategy %s has failed: %s", event.strategy, event.reason)
                self._failed(event.strategy, event.reason)

    def _origin(self, envelope: Envelope) -> Origin:
        return Origin(envelope.traceparent, f"{TOPIC}/{self.shard}/{envelope.seq}")

    async def _wait_for_commits(self) -> None:
        if self._uncommitted > _UNDER_WAY_MAX and self._under_way is not None:
            await asyncio.wait([self._under_way])

    async def _snapshot(self) -> None:
        """Keep everything as it is at this position of the log, once that is durable."""
        self._snapshot_at = self.clock.now()
        self._record(self.machine.flush())
        next_seq, last = self._log.next_seq, self._under_way
        try:
            state = self.machine.save()
        except NotSaveable as error:
            if self._unsaveable != str(error):
                self._unsaveable = str(error)
                log.warning("no snapshot of the strategies, so a restart replays all: %s", error)
            return
        if last is not None:
            await last
        try:
            await asyncio.to_thread(self.snapshots.write, state, next_seq, __version__)
        except OSError as error:
            log.warning("no snapshot of the strategies: %s", error)


def _delivery(record: Record) -> Delivery:
    return Delivery(record.topic, record.partition, record.seq, record.body, decode(record.body))


def _count_down(missing: dict[tuple[str, str], int], delivery: Delivery) -> None:
    """One bar less is missing of this one's kind; what is complete goes."""
    bar = delivery.envelope.data if delivery.envelope is not None else None
    assert isinstance(bar, Bar)
    key = bar.instrument, bar.interval
    if (left := missing.get(key, 0) - 1) > 0:
        missing[key] = left
    else:
        missing.pop(key, None)


def _ts_init(delivery: Delivery) -> int:
    return delivery.envelope.ts_init if delivery.envelope is not None else 0


def _newest_books(records: Sequence[Record]) -> Sequence[Record]:
    """The last book of each instrument: who is behind needs no older one."""
    if len(records) == 1:
        return records
    newest: dict[str, Record] = {}
    for record in records:
        book: Any = decode(record.body).data
        if isinstance(book, Book):
            newest.pop(book.instrument, None)
            newest[book.instrument] = record
    return list(newest.values())
