"""Exposure: what positions and open orders can come to at worst, kept as running sums.

A `Leaf` is one holder's position and open orders in one instrument of one account; a `Group` is the sum
of leaves over a scope. Each change of a leaf moves its groups by the difference, so a check never sums.
Money is at `COST_SCALE`, quantities and prices are nanos.
"""

from collections.abc import Sequence

import msgspec

from trade2026.domain.numbers import SCALE
from trade2026.domain.positions import Position

DAY_NS = 86_400 * 1_000_000_000


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """A scope's exposure. Money is nanos, rounded down."""

    gross: int
    """Sum over leaves of the worst absolute value that fills of one side can reach."""
    net: int
    """Signed value of the positions alone."""
    net_worst: int
    """The largest absolute net value that fills of one side can reach."""
    reserved: int
    """Value of the open orders of both sides."""
    open_orders: int
    daily_pnl: int
    """Realised on `day` after fees."""
    day: int
    """The UTC day of the last fill, in days since the epoch."""


class Group:
    """The sum of the leaves of one scope."""

    __slots__ = ("day", "forgiven", "gross", "held", "long", "open_orders", "pnl", "scope", "short", "waiting")

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.gross = self.held = 0
        self.long = 0
        """Value if every open buy fills."""
        self.short = 0
        """Value if every open sell fills."""
        self.open_orders = 0
        self.waiting = 0
        """Children of lists whose parent has not filled; not in a snapshot, which has the orders themselves."""
        self.day = 0
        self.pnl = 0
        """Realised on `day`, after fees."""
        self.forgiven = 0
        """P&L of the day at which a person last resumed this scope: losses count from there."""

    def realize(self, day: int, pnl: int) -> None:
        """Add to the day's P&L; a later day begins at zero, a late report counts on the current one."""
        if day > self.day:
            self.day, self.pnl, self.forgiven = day, 0, 0
        self.pnl += pnl

    def loss(self, now: int) -> int:
        """Loss of the UTC day of `now` since it was last forgiven; negative for a profit."""
        return self.forgiven - self.pnl if now // DAY_NS == self.day else 0

    def forgive(self) -> None:
        """Count losses from here on."""
        self.forgiven = self.pnl

    def exposure(self) -> Exposure:
        """What the sums say, for a report."""
        return sum_of([self])


class Leaf:
    """One holder's position and open orders in one instrument of one account."""

    __slots__ = (
        "buy_quantity",
        "buys",
        "gross",
        "groups",
        "held",
        "long",
        "mark",
        "multiplier",
        "position",
        "sell_quantity",
        "sells",
        "short",
    )

    def __init__(self, groups: tuple[Group, ...], multiplier: int, mark: int) -> None:
        self.groups, self.multiplier, self.mark = groups, multiplier, mark
        self.position = Position()
        self.buy_quantity = self.sell_quantity = 0
        self.buys = self.sells = 0
        """Sum of quantity times reserved price of the open orders of a side."""
        self.held = self.long = self.short = self.gross = 0

    def revalue(self) -> None:
        """Move the groups by what has changed here."""
        position, buys, sells = self.position, self.buys, self.sells
        held = position.quantity * self.mark
        if position.multiplier != SCALE:
            held = held * position.multiplier // SCALE
        if self.multiplier != SCALE:
            buys, sells = buys * self.multiplier // SCALE, sells * self.multiplier // SCALE
        long, short = held + buys, held - sells
        gross = abs(long)
        if gross < abs(short):
            gross = abs(short)
        gross_change, held_change = gross - self.gross, held - self.held
        long_change, short_change = long - self.long, short - self.short
        self.gross, self.held, self.long, self.short = gross, held, long, short
        for group in self.groups:
            group.gross += gross_change
            group.held += held_change
            group.long += long_change
            group.short += short_change

    def reserve(self, buy: bool, quantity: int, cost: int, orders: int) -> None:
        """Change what open orders of a side come to."""
        if buy:
            self.buy_quantity += quantity
            self.buys += cost
        else:
            self.sell_quantity += quantity
            self.sells += cost
        if orders:
            for group in self.groups:
                group.open_orders += orders
        self.revalue()

    @property
    def is_empty(self) -> bool:
        """Nothing ever happened here that a snapshot must keep."""
        return not (self.position.fills or self.buys or self.sells or self.buy_quantity or self.sell_quantity)


def sum_of(groups: Sequence[Group]) -> Exposure:
    """What groups say together that have no account in common."""
    long, short = sum(group.long for group in groups), sum(group.short for group in groups)
    day = max(group.day for group in groups)
    return Exposure(
        gross=sum(group.gross for group in groups) // SCALE,
        net=sum(group.held for group in groups) // SCALE,
        net_worst=max(abs(long), abs(short)) // SCALE,
        reserved=(long - short) // SCALE,
        open_orders=sum(group.open_orders for group in groups),
        daily_pnl=sum(group.pnl for group in groups if group.day == day) // SCALE,
        day=day,
    )
