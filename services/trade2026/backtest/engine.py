"""The stack on virtual time: order service, venue, strategies and P&L as machines, and one queue of what is due.

Everything that moves between two of them takes `latency_ns`; what is due at the same moment goes by the order
(time, kind, number): orders before the market, as (ts_init, topic rank, seq) says. No clock, no randomness and
no I/O beyond the journal, so that a run is a function of its recording, its settings and its strategies.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from trade2026 import __version__
from trade2026.backtest.market import Market, Told
from trade2026.backtest.partition import Partition, Sink
from trade2026.controls.limits import LimitBook
from trade2026.controls.machine import Controls
from trade2026.domain import commands as cmd
from trade2026.domain import events as ev
from trade2026.domain.events import Envelope
from trade2026.domain.instruments import Instrument, Instruments
from trade2026.domain.market import Trade
from trade2026.gateway import commands as venue_cmd
from trade2026.gateway.machine import PaperVenue
from trade2026.gateway.outbox import asked_of_venue
from trade2026.kit.body import parse
from trade2026.kit.bus.port import Record
from trade2026.kit.problem import Problem
from trade2026.kit.reference import ReferenceCache
from trade2026.normalizer.fold import BOOKS, TICKS
from trade2026.normalizer.machine import Rules
from trade2026.oms.machine import OrderMachine
from trade2026.oms.order_input import OrderInput, OrderReader
from trade2026.oms.refusals import OrderError
from trade2026.pnl.machine import PnlMachine
from trade2026.ptrc.machine import PositionMachine
from trade2026.strategies.machine import Decision, Loaded, StrategiesMachine
from trade2026.strategies.order_entry import order_input

ORDERS, REPORTS, STRATEGIES, POSITIONS, PNL = "orders.events", "venue.reports", "strategies.events", "positions", "pnl"
WRITTEN = (ORDERS, REPORTS, STRATEGIES, POSITIONS, PNL)
_ORDER_RANK, _MARKET_RANK, _TIMER_RANK = 0, 1, 2
_RULES = Rules()


class Engine:
    """One run.

    Args:
        tenant: Name of the stack.
        instruments: Of the stack.
        limits: Ceilings, as the planner makes them.
        loaded: The strategies.
        sinks: By topic of `WRITTEN`.
        latency_ns: From a strategy to the order service, from there to the venue, and back.
        rules: How what the venue says becomes ticks and bars.
    """

    def __init__(
        self,
        *,
        tenant: str,
        instruments: list[Instrument],
        limits: LimitBook,
        loaded: Mapping[str, Loaded],
        sinks: Mapping[str, Sink],
        base_currency: str,
        default_account: str,
        latency_ns: int = 1_000_000,
        seed: int = 7,
        rules: Rules = _RULES,
    ) -> None:
        self.now = 0
        self.latency_ns = latency_ns
        self.trades = 0
        self._instruments = Instruments(instruments)
        by_id = self._instruments.by_id
        self._limits = limits
        self.oms = OrderMachine(Controls(LimitBook(), by_id))
        self.venue = PaperVenue(by_id)
        self.pnl = PnlMachine(base_currency, by_id)
        self.ptrc = PositionMachine()
        self.strategies = StrategiesMachine(loaded, by_id)
        self._reader = OrderReader(self._instruments, default_account)
        self._references = ReferenceCache()
        self._market = Market(tenant, instruments, rules, seed)
        self._logs = {topic: Partition(topic, tenant, sinks.get(topic)) for topic in WRITTEN}
        self._queue: list[tuple[int, int, int, Callable[[], None]]] = []
        self._scheduled = 0

    # ── time ────────────────────────────────────────────────────────────────────────────────

    def run(self, trades: Iterable[tuple[int, Trade]], *, every: Callable[[], None] | None = None) -> None:
        """Live through recorded trades, each with its time (ns, never falling), and what follows from the last.

        Args:
            every: Called after each trade.
        """
        begun = False
        for ts, trade in trades:
            if not begun:
                self._begin(ts)
                begun = True
            self._pass_until(ts)
            self.now = max(self.now, ts)
            self._on_trade(trade)
            self.trades += 1
            if every is not None:
                every()
        for name, hosted in self.strategies.hosted.items():
            if hosted.status == "running":
                self._record(self.strategies.end(name, self.now, "the recording has ended"))
        self._settle()
        self._record(self.strategies.flush())

    def _begin(self, ts: int) -> None:
        self.now = ts
        started = cmd.StartOwner(ts=ts, owner="backtest", epoch=1, code_version=__version__, config_hash="")
        self._ask_oms(started)
        limits = msgspec.Raw(msgspec.json.encode(self._limits))
        self._ask_oms(cmd.AdoptLimits(ts=ts, version=self._limits.version, limits=limits))
        for name in self.strategies.to_begin:
            self._record(self.strategies.begin(name, ts, []))

    def _pass_until(self, ts: int) -> None:
        """Do what is due before `ts`: answers on their way, timers, what expires."""
        while True:
            due, kind = self._next_due()
            if not due or due > ts:
                return
            self.now = max(self.now, due)
            if kind == _ORDER_RANK:
                heapq.heappop(self._queue)[3]()
            elif kind == _MARKET_RANK:
                self._tell(self._market.pass_time(self.now))
            elif self.strategies.next_due and self.strategies.next_due <= self.now:
                self._record(self.strategies.pass_time(self.now), "clock")
            else:
                self._expire()

    def _next_due(self) -> tuple[int, int]:
        dues = [(self._queue[0][0], _ORDER_RANK)] if self._queue else []
        if bar := self._market.next_due:
            dues.append((max(bar, self.now), _MARKET_RANK))
        if timer := self.strategies.next_due:
            dues.append((max(timer, self.now), _TIMER_RANK))
        if self.oms.fold.expiries:
            dues.append((max(self.oms.fold.expiries[0][0], self.now), _TIMER_RANK))
        return min(dues, default=(0, 0))

    def _settle(self) -> None:
        """Let what is on its way arrive; no timer is called any more."""
        while self._queue:
            ts, _, _, action = heapq.heappop(self._queue)
            self.now = max(self.now, ts)
            action()

    def _later(self, action: Callable[[], None]) -> None:
        self._scheduled += 1
        heapq.heappush(self._queue, (self.now + self.latency_ns, _ORDER_RANK, self._scheduled, action))

    def _expire(self) -> None:
        self._ask_venue(venue_cmd.ExpireOrders(ts=self.now, principal="clock"))
        self._ask_oms(cmd.PassTime(ts=self.now, principal="clock"))

    # ── the market ──────────────────────────────────────────────────────────────────────────

    def _on_trade(self, trade: Trade) -> None:
        source, book, told = self._market.trade(self.now, trade)
        self._hear(told)
        self._ask_venue(
            venue_cmd.ObservePrint(ts=self.now, principal="market", causation_id=source, trade=trade, book=book)
        )
        self._deliver_all(told)
        self._tell(self._market.book(self.now, trade.instrument))

    def _tell(self, told: Told) -> None:
        self._hear(told)
        self._deliver_all(told)

    def _hear(self, told: Told) -> None:
        """What the order service and P&L make of the market."""
        for topic, envelope in told:
            if topic == BOOKS:
                self._references.on_book(envelope)
            elif topic == TICKS:
                self._hear_tick(envelope)

    def _hear_tick(self, envelope: Envelope) -> None:
        trade = envelope.data
        assert isinstance(trade, Trade)
        self._references.on_trade(envelope, Record(TICKS, 0, envelope.seq, b""))
        if self.oms.fold.held.get(trade.instrument):
            reference = self._references.get(trade.instrument)
            assert reference is not None
            self._ask_oms(
                cmd.ObserveMarket(
                    ts=self.now,
                    principal="market",
                    causation_id=f"{TICKS}/0/{envelope.seq}",
                    instrument=trade.instrument,
                    reference=reference,
                )
            )
        self.pnl.mark(trade.instrument, trade.price)

    def _deliver_all(self, told: Told) -> None:
        for topic, envelope in told:
            self._deliver(topic, envelope)

    # ── the services ────────────────────────────────────────────────────────────────────────

    def _ask_oms(self, command: cmd.Command) -> Any:
        """Have a command decided; what it writes is on its way to the venue, the strategies and the folds."""

        def emit(event: ev.AnyEvent) -> None:
            order_id = getattr(event, "order_id", "")
            envelope = self._logs[ORDERS].append(
                event, self.now, principal=command.principal, order_id=order_id, cause=command.causation_id
            )
            self.oms.apply(envelope)
            self._fold(envelope)
            self._later(lambda: self._follow(envelope))

        return self.oms.decide(command, emit)

    def _follow(self, envelope: Envelope) -> None:
        asked = asked_of_venue(envelope.data)
        if asked is not None:
            asked.ts, asked.principal = self.now, "venue"
            asked.causation_id = f"{ORDERS}/0/{envelope.seq}"
            self._ask_venue(asked)
        self._deliver(ORDERS, envelope)

    def _fold(self, envelope: Envelope) -> None:
        for topic, machine in ((POSITIONS, self.ptrc), (PNL, self.pnl)):
            for _, told in machine.apply(envelope):
                self._logs[topic].append(
                    told,
                    self.now,
                    principal=topic,
                    order_id=envelope.correlation_id,
                    cause=f"{ORDERS}/0/{envelope.seq}",
                )

    def _ask_venue(self, command: cmd.Command) -> None:
        def emit(event: ev.AnyEvent) -> None:
            order_id = getattr(event, "order_id", "")
            envelope = self._logs[REPORTS].append(
                event, self.now, principal="venue", order_id=order_id, cause=command.causation_id
            )
            self.venue.apply(envelope)
            self._later(lambda: self._report(envelope))

        self.venue.decide(command, emit)

    def _report(self, envelope: Envelope) -> None:
        self._ask_oms(
            cmd.ApplyReport(
                ts=self.now,
                principal="venue",
                causation_id=f"{REPORTS}/0/{envelope.seq}",
                report=envelope.data,  # type: ignore[arg-type]
                report_seq=envelope.seq,
            )
        )

    # ── the strategies ──────────────────────────────────────────────────────────────────────

    def _deliver(self, topic: str, envelope: Envelope) -> None:
        self._record(self.strategies.deliver(topic, 0, envelope.seq, b"", envelope), f"{topic}/0/{envelope.seq}")

    def _record(self, events: list[ev.AnyEvent], cause: str = "") -> None:
        for hosted in self.strategies.hosted.values():
            hosted.take_lines()
        for event in events:
            strategy = getattr(event, "strategy", "local")
            self._logs[STRATEGIES].append(event, self.now, principal=strategy, cause=cause)
            if isinstance(event, ev.OrderDecided | ev.OrderListDecided | ev.CancelDecided | ev.AmendDecided):
                self._later(lambda decision=event: self._send(decision))
            elif isinstance(event, ev.StrategyFailed):
                kill = cmd.Kill(ts=self.now, principal="strategies", scope=f"strategy:{strategy}", reason=event.reason)
                self._later(lambda kill=kill: self._ask_oms(kill))

    def _send(self, decision: Decision) -> None:
        """What the order service does with a decision when it arrives."""
        try:
            command = self._command(decision)
            if command is not None:
                self._ask_oms(command)
        except (OrderError, Problem) as error:
            if isinstance(decision, ev.OrderDecided | ev.OrderListDecided):
                refused = ev.DecisionRefused(
                    strategy=decision.strategy,
                    number=decision.number,
                    code=error.code,
                    reason=str(error),
                    ts=self.now,
                )
                self._later(lambda: self._record(self.strategies.refuse(refused)))
            else:
                self.strategies.acknowledged(decision.strategy, decision.number)

    def _command(self, decision: Decision) -> cmd.Command | None:
        who: dict[str, Any] = {"ts": self.now, "principal": decision.strategy}
        if isinstance(decision, ev.OrderDecided):
            reference = self._references.get(decision.spec.instrument)
            return cmd.SubmitOrder(**who, spec=self._read(decision.spec), reference=reference)
        if isinstance(decision, ev.OrderListDecided):
            specs = [self._read(spec) for spec in decision.specs]
            reference = self._references.get(specs[0].instrument)
            kind: Any = decision.kind
            return cmd.SubmitList(**who, kind=kind, specs=specs, reference=reference)
        order = self.strategies.hosted[decision.strategy].ctx.order(decision.client_order_id)
        account = self.strategies.hosted[decision.strategy].definition.account
        order_id = self.oms.fold.by_client_id.get((account, decision.client_order_id), "")
        if order is None or not order_id:
            return None
        if isinstance(decision, ev.CancelDecided):
            return cmd.CancelOrder(**who, order_id=order_id, reason=f"asked by {decision.strategy}")
        return cmd.AmendOrder(
            **who,
            order_id=order_id,
            quantity=decision.quantity,
            price=decision.price,
            stop_price=decision.stop_price,
            reference=self._references.get(order.instrument),
        )

    def _read(self, spec: Any) -> Any:
        """As the order service's edge reads it, so that what is refused there is refused here."""
        given = parse(msgspec.json.encode(order_input(spec)), OrderInput)
        return self._reader.read(given, spec.client_order_id, self.now)
