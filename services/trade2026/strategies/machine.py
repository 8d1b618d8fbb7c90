"""All strategies of a stack as one pure machine: what was delivered in, what must be recorded out.

Every delivery is remembered as a run of positions, and written down together with the first decision that
follows from it: a decision without its deliveries is never in the log, and deliveries that led to nothing
may be lost in a crash, because nobody has seen their effect. Replayed in the recorded order, the same
strategies must decide the same; one that does not is failed, and its recorded decisions stand.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import xxhash

from trade2026.domain import events as ev
from trade2026.domain.instruments import Instrument
from trade2026.domain.shards import partition_name
from trade2026.sdk.hosted import Definition, Hosted
from trade2026.sdk.strategy import Strategy

ORDERS = "orders.events"
CLOCK = "clock"
RUNS_MAX = 5_000
"""Runs that may wait for a decision before they are written down without one."""
_LINES_MAX = 200

Decision = ev.OrderDecided | ev.OrderListDecided | ev.CancelDecided | ev.AmendDecided
_DECISIONS = (ev.OrderDecided, ev.OrderListDecided, ev.CancelDecided, ev.AmendDecided)


class Loaded(msgspec.Struct, frozen=True):
    """A strategy that can run here: its class, and the hash of its code and definition."""

    definition: Definition
    make: type[Strategy[Any]]
    code: str
    trouble: str = ""
    """Why it can't run, if it can't; then `make` is `Parked`."""


class Parked(Strategy[Any]):
    """Stands for a strategy that is not defined any more, or can't be loaded: it keeps what that one remembers."""

    def __init__(self) -> None:
        self.kept: Any = None

    def save(self) -> Any:
        return self.kept

    def restore(self, saved: Any) -> None:
        self.kept = saved


class Delivery(msgspec.Struct, frozen=True):
    """One record as it was delivered; for `clock`, `seq` is the time (ns) and there is no envelope."""

    topic: str
    partition: int
    seq: int
    body: bytes = b""
    envelope: ev.Envelope | None = None


class Replayed(msgspec.Struct):
    """What could be read again of recorded runs, in order."""

    deliveries: list[Delivery]
    cursors: dict[str, int]
    """By partition, the position after the last record of the runs, found or not."""
    trouble: str = ""
    """Why something is missing."""

    @property
    def whole(self) -> bool:
        """Whether it is all there, as it was."""
        return not self.trouble


class SavedStrategy(msgspec.Struct):
    """One strategy in a snapshot."""

    definition: Definition
    code: str
    state: msgspec.Raw
    unconfirmed: list[Decision]


class SavedMachine(msgspec.Struct):
    """A snapshot."""

    cursors: dict[str, int]
    strategies: dict[str, SavedStrategy]


class Runs:
    """What was delivered since it was last written down."""

    def __init__(self) -> None:
        self.runs: list[ev.Run] = []
        self._digest = xxhash.xxh64()

    def add(self, topic: str, partition: int, seq: int, body: bytes) -> None:
        """A record was delivered."""
        last = self.runs[-1] if self.runs else None
        if last is not None and (last.topic, last.partition, last.first + last.count) == (topic, partition, seq):
            self.runs[-1] = ev.Run(topic, partition, last.first, last.count + 1)
        else:
            self.runs.append(ev.Run(topic, partition, seq))
        self._digest.update(body)

    def place(self, topic: str, partition: int, seq: int) -> None:
        """What comes next of a partition is the record at `seq`."""
        self.runs.append(ev.Run(topic, partition, seq, 0))

    def pass_time(self, ts: int) -> None:
        """Time has passed."""
        self.runs.append(ev.Run(CLOCK, 0, ts))

    @property
    def digest(self) -> str:
        """Of every record's body."""
        return self._digest.hexdigest()


class StrategiesMachine:
    """Every strategy of a stack.

    Args:
        loaded: What is defined now.
        instruments: Of the stack, by id.
        shard: The process whose log this is, of those that share symbols: what it left is its own, too.
    """

    def __init__(self, loaded: Mapping[str, Loaded], instruments: Mapping[str, Instrument], shard: int = 0) -> None:
        self.loaded, self.instruments, self.shard = loaded, instruments, shard
        self.hosted: dict[str, Hosted] = {}
        self.codes: dict[str, str] = {}
        """The code that each strategy was last started with."""
        self.unconfirmed: dict[str, dict[int, Decision]] = {}
        """Decisions of which the order log has said nothing yet."""
        self.cursors: dict[str, int] = {}
        """By partition (see `partition_name`), the position after the last record that was delivered."""
        self._runs = Runs()
        self._failed: set[str] = set()
        self._expected: dict[str, list[ev.AnyEvent]] = {}
        for one in loaded.values():
            self._add(one)

    def _add(self, one: Loaded) -> Hosted:
        definition, parked = one.definition, one.make is Parked
        if parked:
            definition = msgspec.structs.replace(definition, parameters={})
        instruments = [self.instruments[name] for name in definition.instruments if name in self.instruments]
        hosted = self.hosted[definition.name] = Hosted(one.make, definition, instruments)
        hosted.muted = parked
        self.unconfirmed[definition.name] = {}
        return hosted

    # ── deliveries ──────────────────────────────────────────────────────────────────────────

    def deliver(self, topic: str, partition: int, seq: int, body: bytes, envelope: ev.Envelope) -> list[ev.AnyEvent]:
        """Give every strategy the next record; return what must be recorded before any of it leaves."""
        self.cursors[partition_name(topic, partition)] = seq + 1
        self._runs.add(topic, partition, seq, body)
        for name, hosted in self.hosted.items():
            hosted.deliver(envelope)
            if topic == ORDERS and self.unconfirmed[name]:
                self._confirm(name, envelope.data)
        return self._collect()

    def place(self, topic: str, cursor: int, partition: int = 0) -> None:
        """Go on with a partition from a position, which is recorded with what is recorded next."""
        place = partition_name(topic, partition)
        if self.cursors.get(place) != cursor:
            self.cursors[place] = cursor
            self._runs.place(topic, partition, cursor)

    def pass_time(self, ts: int) -> list[ev.AnyEvent]:
        """It is `ts` (ns); return what must be recorded."""
        self._runs.pass_time(ts)
        for hosted in self.hosted.values():
            hosted.pass_time(ts)
        return self._collect()

    @property
    def next_due(self) -> int:
        """When a strategy wants to be called next (ns); 0 if never."""
        return min((due for hosted in self.hosted.values() if (due := hosted.next_due)), default=0)

    def flush(self) -> list[ev.AnyEvent]:
        """Return what was delivered and led to nothing, to be recorded."""
        runs, self._runs = self._runs, Runs()
        return [ev.Delivered(runs=runs.runs, digest=runs.digest)] if runs.runs else []

    # ── life ────────────────────────────────────────────────────────────────────────────────

    @property
    def to_begin(self) -> list[str]:
        """Strategies that are defined, can run, and have not begun with the code that they have now."""
        return [name for name, one in self.loaded.items() if not one.trouble and self._waits(name, one)]

    def _waits(self, name: str, one: Loaded) -> bool:
        hosted = self.hosted[name]
        released = hosted.muted and hosted.status == "running"
        return hosted.status in ("new", "stopped") or released or self.codes.get(name) != one.code

    @property
    def to_end(self) -> list[str]:
        """Strategies that are not defined any more, or can't be loaded, and have not ended."""
        return [
            name
            for name, hosted in self.hosted.items()
            if not self._is_wanted(name) and hosted.status not in ("new", "stopped")
        ]

    def _is_wanted(self, name: str) -> bool:
        return name in self.loaded and not self.loaded[name].trouble

    def warm_up(self, name: str) -> int:
        """How many trades of the past a strategy wants to see before it begins: none if it remembers some."""
        hosted = self.hosted[name]
        return hosted.strategy.warm_up() if hosted.status == "new" else 0

    def warm_up_bars(self, name: str) -> dict[tuple[str, str], int]:
        """The same of bars, by instrument and interval."""
        hosted = self.hosted[name]
        count = hosted.strategy.warm_up_bars() if hosted.status == "new" else 0
        wanted = [(each, interval) for each in hosted.definition.instruments for interval in sorted(hosted.told_bars)]
        return dict.fromkeys(wanted, count) if count > 0 else {}

    def begin(self, name: str, ts: int, history: list[Delivery]) -> list[ev.AnyEvent]:
        """Start a strategy at `ts` (ns) after it has seen some history; return what must be recorded."""
        one = self.loaded[name]
        before = self.flush()
        if history:
            runs = Runs()
            for delivery in history:
                runs.add(delivery.topic, delivery.partition, delivery.seq, delivery.body)
            warmed = ev.StrategyWarmed(strategy=name, runs=runs.runs, digest=runs.digest)
            before.append(warmed)
            self._warm(name, history)
        started = ev.StrategyStarted(
            strategy=name,
            code=one.code,
            account=one.definition.account,
            instruments=one.definition.instruments,
            parameters=msgspec.Raw(msgspec.json.encode(one.definition.parameters)),
            ts=ts,
        )
        self._start(started)
        return [*before, started, *self._collect()]

    def end(self, name: str, ts: int, reason: str, leaves: Sequence[str] = ()) -> list[ev.AnyEvent]:
        """Stop a strategy in order, and cancel its orders in the instruments that it leaves."""
        stopped = ev.StrategyStopped(strategy=name, reason=reason, ts=ts, leaves=sorted(leaves))
        before = self.flush()
        self._stop(stopped)
        return [*before, stopped, *self._collect()]

    def wanted(self, name: str) -> frozenset[str]:
        """The instruments that a strategy is to trade here; none if it is not to run."""
        return frozenset(self.loaded[name].definition.instruments) if self._is_wanted(name) else frozenset()

    def open_in(self, name: str) -> frozenset[str]:
        """The instruments in which it has an order of this process that is not over, or may have sent one."""
        hosted = self.hosted.get(name)
        if hosted is None:
            return frozenset()
        sent = [instrument for decision in self.unconfirmed[name].values() for instrument in _of(decision)]
        return frozenset([*(order.instrument for order in hosted.open_orders), *sent])

    def order_id(self, strategy: str, client_order_id: str) -> str:
        """How the order service calls an order of a strategy; empty while it has not said so."""
        hosted = self.hosted.get(strategy)
        order = hosted.ctx.order(client_order_id) if hosted is not None else None
        return order.order_id if order is not None else ""

    def refuse(self, refused: ev.DecisionRefused) -> list[ev.AnyEvent]:
        """The order service would not take a decision; return what must be recorded."""
        before = self.flush()
        self._refuse(refused)
        return [*before, refused, *self._collect()]

    def acknowledged(self, strategy: str, number: int) -> None:
        """The order service has taken a decision: it need not be sent again."""
        self.unconfirmed.get(strategy, {}).pop(number, None)

    def to_send(self) -> list[Decision]:
        """Every decision of which the order log has said nothing yet, in the order in which they were made."""
        return [decision for pending in self.unconfirmed.values() for _, decision in sorted(pending.items())]

    # ── replay ──────────────────────────────────────────────────────────────────────────────

    def replay(self, event: ev.AnyEvent, found: Replayed | None = None) -> None:
        """Fold the next record of the log, as it was when it was written.

        Args:
            found: For `Delivered` and `StrategyWarmed`: what could be read again.
        """
        if isinstance(event, _DECISIONS):
            self._check(event.strategy, event)
            return
        if isinstance(event, ev.StrategyFailed):
            self._check(event.strategy, event)
            self.hosted[event.strategy].fail(event.reason)
            self._failed.add(event.strategy)
            return
        self.settle()
        if isinstance(event, ev.Delivered):
            assert found is not None
            self._redeliver(found)
        elif isinstance(event, ev.StrategyWarmed):
            assert found is not None
            if event.strategy in self.hosted and found.whole:
                self._warm(event.strategy, found.deliveries)
        elif isinstance(event, ev.StrategyStarted):
            self._start(event)
        elif isinstance(event, ev.StrategyStopped):
            self._stop(event)
        elif isinstance(event, ev.DecisionRefused):
            self._refuse(event)
        self._expect()

    def settle(self) -> None:
        """All that a replayed record has led to must have been in the log by now."""
        for name, expected in self._expected.items():
            if expected:
                self._diverge(name, f"decided {_told(expected[0])}, which it had not decided before")
        self._expected.clear()

    def _redeliver(self, found: Replayed) -> None:
        if not found.whole:
            for name, hosted in self.hosted.items():
                if hosted.status == "running" and not hosted.muted:
                    self._diverge(name, f"can't be given again what it was given: {found.trouble}")
        for one in found.deliveries:
            if one.topic == CLOCK:
                for hosted in self.hosted.values():
                    hosted.pass_time(one.seq)
            else:
                assert one.envelope is not None
                self.cursors[partition_name(one.topic, one.partition)] = one.seq + 1
                for name, hosted in self.hosted.items():
                    hosted.deliver(one.envelope)
                    if one.topic == ORDERS and self.unconfirmed[name]:
                        self._confirm(name, one.envelope.data)
            self._expect()
        for topic, cursor in found.cursors.items():
            self.cursors[topic] = cursor

    def _expect(self) -> None:
        for name, hosted in self.hosted.items():
            made: list[ev.AnyEvent] = [*hosted.take()]
            if hosted.muted:
                continue
            if hosted.status != "failed":
                self._failed.discard(name)
            elif name not in self._failed:
                self._failed.add(name)
                made.append(ev.StrategyFailed(strategy=name, reason=hosted.reason))
            if made:
                self._expected.setdefault(name, []).extend(made)

    def _check(self, name: str, event: ev.AnyEvent) -> None:
        """A recorded decision: the replay has made the same, or it stands and the strategy is not believed."""
        hosted = self.hosted[name]
        expected = self._expected.get(name, [])
        if not hosted.muted:
            if expected and expected[0] == event:
                expected.pop(0)
            else:
                other = _told(expected[0]) if expected else "nothing"
                self._diverge(name, f"decided {other}, and before {_told(event)}")
        if isinstance(event, _DECISIONS):
            if hosted.muted:
                hosted.adopt(event)
            self.unconfirmed[name][event.number] = event

    def _diverge(self, name: str, what: str) -> None:
        hosted = self.hosted[name]
        for event in self._expected.pop(name, []):
            if isinstance(event, _DECISIONS):
                hosted.forget(event)
                hosted.decided -= 1
        hosted.take()
        hosted.fail(f"in a replay it {what}. Time, randomness and everything else must come from ctx")
        hosted.muted = True

    # ── folds ───────────────────────────────────────────────────────────────────────────────

    def _warm(self, name: str, history: list[Delivery]) -> None:
        for delivery in history:
            assert delivery.envelope is not None
            self.hosted[name].warm(delivery.envelope)

    def _start(self, event: ev.StrategyStarted) -> None:
        name, one = event.strategy, self.loaded.get(event.strategy)
        hosted = self.hosted.get(name)
        if hosted is None:
            definition = Definition(name=name, account=event.account, instruments=event.instruments, shard=self.shard)
            hosted = self._add(Loaded(definition, Parked, event.code))
        self.codes[name] = event.code
        hosted.muted = one is None or one.code != event.code or one.make is Parked
        hosted.start(event.ts)

    def _stop(self, event: ev.StrategyStopped) -> None:
        hosted = self.hosted[event.strategy]
        hosted.stop(event.ts, event.reason)
        for order in hosted.open_orders:
            if order.instrument in event.leaves:
                hosted.ctx.cancel(order)

    def _refuse(self, event: ev.DecisionRefused) -> None:
        self.unconfirmed[event.strategy].pop(event.number, None)
        self.hosted[event.strategy].answered(event)

    def _collect(self) -> list[ev.AnyEvent]:
        found: list[ev.AnyEvent] = []
        for name, hosted in self.hosted.items():
            for decision in hosted.take():
                self.unconfirmed[name][decision.number] = decision
                found.append(decision)
            if hosted.status != "failed":
                self._failed.discard(name)
            elif name not in self._failed:
                self._failed.add(name)
                found.append(ev.StrategyFailed(strategy=name, reason=hosted.reason))
        if not found and len(self._runs.runs) < RUNS_MAX:
            return []
        return [*self.flush(), *found]

    def _confirm(self, name: str, event: ev.AnyEvent) -> None:
        """Drop decisions that the order log shows to have arrived."""
        pending, orders = self.unconfirmed[name], self.hosted[name].ctx
        rejected = isinstance(event, ev.CancelRejected | ev.ReplaceRejected)
        for number, decision in list(pending.items()):
            if isinstance(decision, ev.OrderDecided):
                order = orders.order(decision.spec.client_order_id)
                arrived = order is None or bool(order.order_id)
            elif isinstance(decision, ev.OrderListDecided):
                order = orders.order(decision.specs[0].client_order_id)
                arrived = order is None or bool(order.order_id)
            else:
                order = orders.order(decision.client_order_id)
                waits = "PendingCancel" if isinstance(decision, ev.CancelDecided) else "PendingReplace"
                arrived = order is None or not order.is_open or order.status == waits
                arrived = arrived or (rejected and order is not None and event.order_id == order.order_id)  # type: ignore[union-attr]
            if arrived:
                del pending[number]

    # ── save and restore ────────────────────────────────────────────────────────────────────

    def save(self) -> bytes:
        """Everything; call it only when `flush` has nothing to return.

        Raises:
            NotSaveable: a strategy remembers what can't be written down.
        """
        assert not self._runs.runs, "what was delivered is recorded first"
        strategies = {
            name: SavedStrategy(
                definition=hosted.definition,
                code=self.codes.get(name, ""),
                state=msgspec.Raw(hosted.save()),
                unconfirmed=list(self.unconfirmed[name].values()),
            )
            for name, hosted in self.hosted.items()
            if hosted.status != "new"
        }
        return msgspec.json.encode(SavedMachine(self.cursors, strategies))

    def restore(self, state: bytes) -> None:
        """Take back what `save` returned, into a machine that is new.

        Raises:
            msgspec.MsgspecError: the state is of another shape.
        """
        saved = msgspec.json.decode(state, type=SavedMachine)
        self.cursors = saved.cursors
        for name, one in saved.strategies.items():
            hosted = self.hosted.get(name) or self._add(Loaded(one.definition, Parked, one.code))
            self.codes[name] = one.code
            self.unconfirmed[name] = {decision.number: decision for decision in one.unconfirmed}
            try:
                hosted.restore(bytes(one.state))
            except Exception as error:
                hosted.fail(f"what it had saved can't be restored: {type(error).__name__}: {error}")
                hosted.muted = True
                self.codes[name] = self.loaded[name].code if name in self.loaded else one.code
                continue
            if name not in self.loaded or self.loaded[name].code != one.code:
                hosted.muted = True
            if hosted.status == "failed":
                self._failed.add(name)


def _of(decision: Decision) -> list[str]:
    """The instruments of orders that a decision makes."""
    if isinstance(decision, ev.OrderDecided):
        return [decision.spec.instrument]
    return [spec.instrument for spec in decision.specs] if isinstance(decision, ev.OrderListDecided) else []


def _told(event: ev.AnyEvent) -> str:
    return msgspec.json.encode(event).decode()[:300]
