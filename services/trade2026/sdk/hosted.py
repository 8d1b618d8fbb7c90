"""One strategy as a pure machine: events in, decisions out, everything in between saved and restored.

Live, on paper and in a backtest this is the code that runs a strategy. `deliver` folds what the framework must
know (orders, positions, bars, time) and calls the strategy's methods; what a method raises fails the strategy:
its decisions of that call are taken back, and it waits for a named person.
"""

import traceback
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import msgspec

from trade2026.domain import events as ev
from trade2026.domain import instruments as domain
from trade2026.domain import market
from trade2026.domain.numbers import cost_to_nanos
from trade2026.marketdata.bars import Bars, BarSpec, BarsState
from trade2026.sdk.context import HISTORY_MAX, Context, TimerState
from trade2026.sdk.orders import Change, OrdersState
from trade2026.sdk.saving import from_plain, to_plain
from trade2026.sdk.strategy import Strategy
from trade2026.sdk.types import Bar, Book, Fill, Order, OrderState, Timer, Trade, decimal

BAR_GRACE_NS = 250_000_000
"""So long after its end a time bar that is made here waits for its last trades, if no later trade has come."""
SESSION_NS = 86_400 * 10**9
"""Bars of trades, quantity and value begin anew with each day, as those of the normalizer do by default."""
FIRED_MAX = 1_000
"""Calls of one timer at once: one that is behind further than this goes on from now."""
_TRACEBACK_MAX = 1_500

Status = Literal["new", "running", "failed", "stopped"]


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy as a manifest defines it. `parameters` is as written there.

    `bars` are the intervals of `market.bars`: those are given to it, others are made here from the trades. `shard` is its
    number among the processes that share its symbols, of which `instruments` are this one's.
    """

    name: str
    account: str
    instruments: list[str]
    parameters: dict[str, Any] = {}
    seed: int = 0
    bars: list[str] = []
    shard: int = 0


class Saved(msgspec.Struct, kw_only=True):
    """Everything about one strategy at one moment."""

    status: Status
    reason: str = ""
    now: int
    number: int
    decided: int = 0
    halted: dict[str, str]
    orders: OrdersState
    timers: dict[str, TimerState]
    bars: dict[str, BarsState]
    trades: dict[str, Any]
    """The last one of each instrument."""
    books: dict[str, tuple[int, market.Book]]
    history: list[market.Bar]
    random: list[Any]
    own: Any
    """What `Strategy.save` returned, as JSON; None before it has started."""


class TakesTooLong(BaseException):
    """A method did not return in time. Not an `Exception`: a strategy that catches those is ended all the same."""


class Hosted:
    """A strategy, its context, and what it has decided.

    Args:
        make: The strategy's class.
        instruments: Those that the definition names.

    Raises:
        msgspec.ValidationError: a parameter is not known or has the wrong type; the message names it.
        ValueError: an interval of its bars can't be read.
    """

    def __init__(self, make: type[Strategy[Any]], definition: Definition, instruments: list[domain.Instrument]) -> None:
        self.definition = definition
        self.status: Status = "new"
        self.reason = ""
        """Why it failed or stopped."""
        self.decided = 0
        """How many decisions it has made."""
        self.decided_at = 0
        """When it has made the last one of this process's life (ns); 0 if none."""
        self.calls = 0
        self.calling = ""
        """The method that is being called; empty between two calls. For whoever watches from another thread."""
        self.muted = False
        """Whether its methods are not called: what it decided then was decided by other code, and is told."""
        self.ctx = Context(definition.name, definition.account, instruments, definition.seed, definition.shard)
        self.strategy = make()
        self._wants_books = make.on_book is not Strategy.on_book
        self._due: int | None = None
        """When it wants to be called next, if that is known."""
        self.strategy.ctx = self.ctx
        self.strategy.p = msgspec.convert(definition.parameters, make.parameters, strict=False)
        told = {BarSpec.parse(interval).name for interval in definition.bars}
        wanted = [BarSpec.parse(interval).name for interval in self.strategy.bars()]
        self.told_bars = told.intersection(wanted)
        """Intervals that it is given; the others are made here."""
        made = [name for name in wanted if name not in told]
        self._bars = {
            i.instrument_id: Bars(i.instrument_id, made, multiplier=i.multiplier, session_ns=SESSION_NS)
            for i in instruments
        }

    # ── what happens to it ──────────────────────────────────────────────────────────────────

    def warm(self, envelope: ev.Envelope) -> None:
        """Show it a trade or a bar of the past."""
        self.ctx.warming = True
        self.ctx.now = max(self.ctx.now, envelope.ts_init)
        self._on_market(envelope)
        self.ctx.warming = False
        self.ctx._decisions.clear()

    def start(self, ts: int) -> None:
        """It begins, or begins again after it was stopped, at `ts` (ns)."""
        self.ctx.now = max(self.ctx.now, ts)
        self.status, self.reason = "running", ""
        self._call(self.strategy.on_start)

    def stop(self, ts: int, reason: str) -> None:
        """It ends in order."""
        self.ctx.now = max(self.ctx.now, ts)
        if self.status == "running":
            self._call(self.strategy.on_stop)
        if self.status != "failed":
            self.status, self.reason = "stopped", reason

    def fail(self, reason: str) -> None:
        """It can't be trusted any more: it is not called until a named person releases it."""
        if self.status != "failed":
            self.status, self.reason = "failed", reason

    def deliver(self, envelope: ev.Envelope) -> None:
        """Give it the next event of the market or of the order log; what does not concern it changes nothing."""
        self.pass_time(envelope.ts_init)
        if isinstance(envelope.data, market.Trade | market.Book | market.Bar):
            self._on_market(envelope)
        elif isinstance(envelope.data, ev.Killed | ev.Resumed):
            self._on_control(envelope.data)
        else:
            change = self.ctx._orders.apply(envelope.data)
            if change is not None:
                self._on_change(change, envelope.ts_event)

    def pass_time(self, ts: int) -> None:
        """It is `ts` (ns): call what was due until then, in the order in which it was due."""
        ctx = self.ctx
        while (due := self.next_due) and due <= ts:
            ctx.now = max(ctx.now, due)
            self._due = None
            for bars in self._bars.values():
                for bar in bars.advance(ctx.now - BAR_GRACE_NS):
                    self._on_bar(bar)
            for name, timer in sorted(ctx._timers.items(), key=lambda item: (item[1].due, item[0])):
                if timer.due <= ctx.now:
                    self._fire(name, timer, ts)
        ctx.now = max(ctx.now, ts)

    @property
    def open_orders(self) -> list[Order]:
        """Those of this process that are not over."""
        return self.ctx._orders.ours

    def answered(self, refused: ev.DecisionRefused) -> None:
        """The order service would not take a decision."""
        self.ctx.now = max(self.ctx.now, refused.ts)
        prefix = f"{self.ctx.ids}-{refused.number}"
        for name in list(self.ctx._orders.open):
            if name == prefix or name.startswith(f"{prefix}."):
                order = self.ctx._orders.refuse(name, refused.code, refused.reason)
                if order is not None:
                    self._call(self.strategy.on_order, order)

    def adopt(self, decision: ev.Decision) -> None:
        """Take a decision from the log: other code has made it, but the orders are ours."""
        self.decided += 1
        self.ctx._number = max(self.ctx._number, decision.number + 1)
        for spec in _specs(decision):
            if self.ctx._orders.find(spec.client_order_id) is None:
                self.ctx._orders.add(spec)

    def forget(self, decision: ev.Decision) -> None:
        """Take back a decision that was not recorded."""
        for spec in _specs(decision):
            self.ctx._orders.drop(spec.client_order_id)

    def take(self) -> list[ev.Decision]:
        """What it has decided since the last time."""
        decisions, self.ctx._decisions = self.ctx._decisions, []
        self.decided += len(decisions)
        if decisions:
            self.decided_at = self.ctx.now
        return decisions

    def take_lines(self) -> list[str]:
        """What it has said since the last time."""
        lines, self.ctx._lines = self.ctx._lines, []
        return lines

    @property
    def next_due(self) -> int:
        """When it wants to be called next for a timer or the end of a bar (ns); 0 if never."""
        if self._due is None:
            self._due = self._find_due()
        return self._due

    def _find_due(self) -> int:
        dues = [timer.due for timer in self.ctx._timers.values()]
        dues += [end + BAR_GRACE_NS for bars in self._bars.values() if (end := bars.next_end)]
        return min(dues, default=0)

    @property
    def halted(self) -> str:
        """Why it may not trade now; empty while it may."""
        return next(iter(self.ctx.halted.values()), "")

    # ── calls ───────────────────────────────────────────────────────────────────────────────

    def _call(self, method: Callable[..., None], *args: Any) -> None:
        self._due = None
        if self.muted or (self.status != "running" and not self.ctx.warming):
            return
        before = len(self.ctx._decisions)
        self.calls += 1
        self.calling = method.__name__
        try:
            try:
                method(*args)
            finally:
                self.calling = ""
        except TakesTooLong as error:  # where it was then is another place each time: a replay must say the same
            self.calling = ""
            self._take_back(before)
            self.fail(str(error))
        except Exception as error:
            self._take_back(before)
            place = "".join(traceback.format_tb(error.__traceback__)[1:])
            self.fail(f"{type(error).__name__}: {error}\n{place}"[:_TRACEBACK_MAX].rstrip())

    def _take_back(self, before: int) -> None:
        """Forget what a call has decided that failed."""
        for decision in self.ctx._decisions[before:]:
            self.forget(decision)
        del self.ctx._decisions[before:]

    def _on_market(self, envelope: ev.Envelope) -> None:
        event, ctx, strategy = envelope.data, self.ctx, self.strategy
        assert isinstance(event, market.Trade | market.Book | market.Bar)
        if event.instrument not in ctx.instruments:
            return
        if isinstance(event, market.Bar):
            if event.interval in self.told_bars:
                self._on_bar(event)
            return
        if isinstance(event, market.Trade):
            self._due = None
            trade = ctx._trades[event.instrument] = Trade.of(event, envelope.ts_event)
            for bar in self._bars[event.instrument].on_trade(envelope.ts_event, event):
                self._on_bar(bar)
            self._call(strategy.on_trade, trade)
            return
        before = ctx._books.get(event.instrument)
        ctx._books[event.instrument] = (envelope.ts_event, event)
        top = (event.bids[:1], event.asks[:1])
        if all(top) and (before is None or top != (before[1].bids[:1], before[1].asks[:1])):
            quote = ctx.quote(event.instrument)
            assert quote is not None
            self._call(strategy.on_quote, quote)
        if self._wants_books:
            self._call(strategy.on_book, Book.of(event, envelope.ts_event))

    def _on_bar(self, closed: market.Bar) -> None:
        history = self.ctx._history.setdefault((closed.instrument, closed.interval), deque(maxlen=HISTORY_MAX))
        history.append(closed)
        self._call(self.strategy.on_bar, Bar.of(closed))

    def _on_change(self, change: Change, ts: int) -> None:
        fill = change.fill
        instrument = fill.instrument if fill is not None else change.order.instrument if change.order else ""
        if instrument not in self.ctx.instruments:
            return  # another process of this strategy trades it
        if change.order is not None:
            self._call(self.strategy.on_order, change.order)
        if fill is not None:
            shown = Fill(
                fill.instrument,
                fill.side,
                decimal(fill.last_qty),
                decimal(fill.last_px),
                decimal(cost_to_nanos(fill.fee)),
                fill.liquidity,
                change.order,
                ts,
            )
            self._call(self.strategy.on_fill, shown)

    def _on_control(self, event: ev.Killed | ev.Resumed) -> None:
        name, account = self.definition.name, self.definition.account
        if event.scope not in ("stack", f"strategy:{name}", f"account:{account}"):
            return
        if isinstance(event, ev.Killed):
            self.ctx.halted[event.scope] = event.reason
            return
        self.ctx.halted.pop(event.scope, None)
        if self.status == "failed" and event.scope == f"strategy:{name}":
            self.status, self.reason = "running", ""

    def _fire(self, name: str, timer: TimerState, ts: int) -> None:
        due = timer.due
        if not timer.every:
            del self.ctx._timers[name]
        else:
            timer.due += timer.every
            if ts - timer.due > timer.every * FIRED_MAX:
                timer.due = ts + timer.every
        self._call(self.strategy.on_timer, Timer(name, due))

    # ── save and restore ────────────────────────────────────────────────────────────────────

    def save(self) -> bytes:
        """Everything, as JSON; from it and the events after it follows the same as from all events.

        Raises:
            NotSaveable: the strategy remembers what can't be written down.
        """
        ctx = self.ctx
        version, internal, gauss = ctx.random.getstate()
        saved = Saved(
            status=self.status,
            reason=self.reason,
            now=ctx.now,
            number=ctx._number,
            decided=self.decided,
            halted=ctx.halted,
            orders=ctx._orders.save(),
            timers=ctx._timers,
            bars={name: bars.save() for name, bars in self._bars.items()},
            trades=to_plain(ctx._trades),
            books=ctx._books,
            history=[bar for bars in ctx._history.values() for bar in bars],
            random=[version, list(internal), gauss],
            own=None if self.status == "new" else to_plain(self.strategy.save(), self.definition.name),
        )
        return msgspec.json.encode(saved)

    def restore(self, state: bytes) -> None:
        """Take back what `save` returned, into an instance that is new.

        Raises:
            msgspec.MsgspecError, KeyError: the state is of another shape.
        """
        assert self.status == "new", "restore goes first"
        saved = msgspec.json.decode(state, type=Saved)
        ctx = self.ctx
        self.status, self.reason = saved.status, saved.reason
        self.decided = saved.decided
        ctx.now, ctx._number, ctx.halted, ctx._timers = saved.now, saved.number, saved.halted, saved.timers
        ctx._orders.restore(saved.orders)
        for name, bars in self._bars.items():
            if (kept := saved.bars.get(name)) is not None:
                self._bars[name] = Bars(
                    name,
                    [builder.spec.name for builder in bars.builders.values()],
                    multiplier=_nanos(ctx.instruments[name].multiplier),
                    session_ns=SESSION_NS,
                    state=kept,
                )
        ctx._trades, ctx._books = from_plain(saved.trades), saved.books
        self._due = None
        for bar in saved.history:
            ctx._history.setdefault((bar.instrument, bar.interval), deque(maxlen=HISTORY_MAX)).append(bar)
        version, internal, gauss = saved.random
        ctx.random.setstate((version, tuple(internal), gauss))
        if saved.own is not None:
            self.strategy.restore(from_plain(saved.own, self._living))

    def _living(self, state: OrderState) -> Order:
        return self.ctx._orders.find(state.spec.client_order_id) or Order(state)


def _nanos(value: Decimal) -> int:
    return int(value.scaleb(9))


def _specs(decision: ev.Decision) -> list[Any]:
    if isinstance(decision, ev.OrderDecided):
        return [decision.spec]
    return decision.specs if isinstance(decision, ev.OrderListDecided) else []
