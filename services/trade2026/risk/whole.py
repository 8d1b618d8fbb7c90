"""Stops that count over all partitions: a day's loss and executions of a scope that has accounts in several.

Each partition stops a scope that has lost or executed too much there alone. Here the partitions are added up. What was
lost is in the fold of each; how often was executed over all of them is in none, so after a start it is counted again
from the logs, as far back as it can matter.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from trade2026.controls.exposure import DAY_NS
from trade2026.controls.limits import LimitBook, Rate
from trade2026.controls.rules import Meter, money, seconds
from trade2026.controls.slices import DEFAULT, SPANNING, spanning
from trade2026.domain import events as ev
from trade2026.domain.numbers import SCALE
from trade2026.risk.slicing import Seen


def is_spanning(scope: str) -> bool:
    """Whether a scope may have accounts in every partition."""
    return scope.partition(":")[0] in SPANNING


class Past(NamedTuple):
    """Executions and releases before this process looked, of all partitions."""

    since: int
    """From when on (ns) all of them are here."""
    is_all: bool
    """Whether there was nothing before."""
    events: list[tuple[int, ev.OrderFilled | ev.Resumed]]
    """Each with its time (ns)."""


def longest_window(book: LimitBook) -> int:
    """The longest time (ns) over which executions of all partitions together are limited; 0 if they are not."""
    rates = [limits.max_executions for _, limits in spanning(book)]
    return max((rate.per_ns for rate in rates if rate is not None), default=0)


class WholeStops:
    """Finds the scopes that are to be halted everywhere."""

    def __init__(self) -> None:
        self.due: dict[str, ev.Killed] = {}
        """By scope: not asked for yet."""
        self._executions: dict[str, int] = {}
        """By scope, for its meter."""
        self._waiting: list[tuple[LimitBook, ev.OrderFilled, int]] | None = []
        """Executions until those before them are counted."""
        self._released: dict[str, int] = {}
        """When (ns) a person last released a scope, in any partition: what happened before counts no more."""

    def filled(self, book: LimitBook, fill: ev.OrderFilled, ts: int) -> None:
        """One execution, in whichever partition (`ts` in ns)."""
        if self._waiting is not None:
            self._waiting.append((book, fill, ts))
            return
        for scope, rate in _rates_of(book, fill):
            if ts <= self._released.get(scope, -1):
                continue
            if not (meter := Meter(scope, rate, self._executions)).take(ts):
                within = seconds(meter.most)
                self._halt(scope, f"executed more than {meter.count} times within {within}", "repeated_execution")

    def recount(self, book: LimitBook, past: Past, now: int, *, is_final: bool = True) -> bool:
        """Count what was executed before this process looked, then what it has been told of since (`now` in ns).

        It halts nothing by itself: the next execution does, where there were too many.

        Args:
            past: Has no event that `filled` was told of.
            is_final: Where what was before `past` still matters, suppose that there was as much as possible.

        Returns:
            Whether it was counted.
        """
        for ts, event in past.events:
            if isinstance(event, ev.Resumed):
                self._released[event.scope] = max(ts, self._released.get(event.scope, -1))
        least: dict[str, int] = {}
        """As if nothing had been before."""
        most: dict[str, int] = {}
        """As if as much as possible had been."""
        for ts, event in sorted(past.events, key=lambda each: each[0]):
            for scope, rate in _rates_of(book, event) if isinstance(event, ev.OrderFilled) else ():
                released = self._released.get(scope, -1)
                if ts <= released:
                    continue
                meter, is_known = Meter(scope, rate, most), past.is_all or released >= past.since
                most.setdefault(scope, 0 if is_known else past.since + meter.most)
                Meter(scope, rate, least).take(ts)
                if not meter.take(ts) and not is_known:  # it may have been taken, with less before it
                    most[scope] = ts + meter.most
        if not is_final and any(most[scope] > max(now, least[scope]) for scope in most):
            return False
        self._executions.update(most)
        waiting, self._waiting = self._waiting or [], None
        for execution in waiting:
            self.filled(*execution)
        return True

    def tripped(self, stop: ev.Killed, ts: int) -> None:
        """One partition has halted a scope by itself, at `ts` (ns): the others are to do the same."""
        if is_spanning(stop.scope) and ts > self._released.get(stop.scope, -1):
            self._halt(stop.scope, stop.reason, stop.cause)

    def look_at_losses(self, book: LimitBook, seen: Sequence[Seen], now: int) -> None:
        """Add up what every scope has lost today (`now` in ns)."""
        known = {scope for each in seen for scope in each.scopes_known() if scope.startswith(DEFAULT)}
        for scope, limits in spanning(book, sorted(known)):
            if limits.max_daily_loss is None or scope == DEFAULT:
                continue
            if any(scope in each.halts or scope in each.kills for each in seen):
                continue  # stopped, or being released: a loss that a person has seen is not told again
            kind, _, name = scope.partition(":")
            groups = [each.group(kind, name) for each in seen]
            lost = sum(group.loss(now) for group in groups if group.day == now // DAY_NS)
            if lost > limits.max_daily_loss * SCALE:
                most = money(limits.max_daily_loss * SCALE)
                self._halt(scope, f"lost {money(lost)} today, the most is {most}", "breach")

    def released(self, scope: str, ts: int) -> None:
        """A person has released it, at `ts` (ns): what counts begins here."""
        self._released[scope] = max(ts, self._released.get(scope, -1))
        self._executions.pop(scope, None)
        self.due.pop(scope, None)

    def _halt(self, scope: str, reason: str, cause: str) -> None:
        stop = ev.Killed(scope=scope, reason=reason, by="controls", halt=True, cause=cause)
        self.due.setdefault(scope, stop)


def _rates_of(book: LimitBook, fill: ev.OrderFilled) -> Iterator[tuple[str, Rate]]:
    """What limits how often is executed, of every scope that spans partitions and that an execution is in."""
    named = (("strategy", fill.strategy), ("trader", fill.trader), ("desk", fill.desk))
    for scope in ("stack", f"instrument:{fill.instrument}", *(f"{kind}:{name}" for kind, name in named if name)):
        kind, _, name = scope.partition(":")
        rate = book.of(kind, name).max_executions
        if rate is not None:
            yield scope, rate
