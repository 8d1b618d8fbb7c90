"""Stops that count over all partitions: a day's loss and executions of a scope that has accounts in several.

Each partition stops a scope that has lost or executed too much there alone. Here the partitions are added up.
"""

from collections.abc import Sequence

from trade2026.controls.exposure import DAY_NS
from trade2026.controls.limits import LimitBook
from trade2026.controls.rules import Meter, money, seconds
from trade2026.controls.slices import DEFAULT, SPANNING, spanning
from trade2026.domain import events as ev
from trade2026.domain.numbers import SCALE
from trade2026.risk.slicing import Seen


def is_spanning(scope: str) -> bool:
    """Whether a scope may have accounts in every partition."""
    return scope.partition(":")[0] in SPANNING


class WholeStops:
    """Finds the scopes that are to be halted everywhere."""

    def __init__(self) -> None:
        self.due: dict[str, ev.Killed] = {}
        """By scope: not asked for yet."""
        self._executions: dict[str, int] = {}
        self._released: dict[str, int] = {}
        """When (ns) a person last released a scope, in any partition: what happened before counts no more."""

    def filled(self, book: LimitBook, fill: ev.OrderFilled, ts: int) -> None:
        """One execution, in whichever partition (`ts` in ns)."""
        named = (("strategy", fill.strategy), ("trader", fill.trader), ("desk", fill.desk))
        scopes = ["stack", f"instrument:{fill.instrument}", *(f"{kind}:{name}" for kind, name in named if name)]
        for scope in scopes:
            kind, _, name = scope.partition(":")
            rate = book.of(kind, name).max_executions
            if rate is not None and not (meter := Meter(scope, rate, self._executions)).take(ts):
                within = seconds(meter.slack + meter.interval)
                self._halt(scope, f"executed more than {meter.count} times within {within}", "repeated_execution")

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
