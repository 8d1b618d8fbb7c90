"""The pre-trade rules: each measures one number of an order and compares it with a limit.

The same rules decide (`Controls.check`) and explain. Which apply to an order says its `plan`.
"""

from collections.abc import Callable

import msgspec

from trade2026.controls.exposure import Group, Leaf
from trade2026.controls.limits import BPS, LimitSet, Rate
from trade2026.controls.scopes import venue_of
from trade2026.domain.market import Reference
from trade2026.domain.numbers import SCALE, to_text
from trade2026.domain.orders import OrderSpec
from trade2026.domain.rejects import RejectCode


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One rule's verdict. `limit` and `actual` are decimal text in the unit that `message` names."""

    rule: str
    code: str
    scope: str
    limit: str
    actual: str
    passed: bool
    message: str
    """What to do about it; for a passed rule, what was compared."""
    used_bps: int = 0
    """How much of the limit is used, in basis points; 0 for a rule that only says yes or no."""


class Question:
    """An order about to be decided, with what its rules read: amounts at `COST_SCALE`, quantities in nanos."""

    __slots__ = (
        "buy",
        "cost",
        "leaf",
        "market",
        "now",
        "opens",
        "priced",
        "quantity",
        "reduces",
        "reference",
        "released",
        "reserved",
        "spec",
        "value",
    )

    spec: OrderSpec
    reference: Reference | None
    now: int
    leaf: Leaf
    """Of the account in the instrument."""
    buy: bool
    reserved: int
    """The price at which the order would count."""
    value: int
    """Of the whole order, with the multiplier."""
    quantity: int
    """What it adds to the open quantity; for an amendment the difference."""
    cost: int
    """What it adds to the open value, without the multiplier."""
    opens: int
    """1 if the order is new, 0 for an amendment."""
    reduces: bool
    """It can only bring the account's position nearer to zero."""
    released: bool
    """It is a child of a list whose parent has executed: an exit that reduces passes as if it were reduce-only."""
    market: int
    """The reference price for a collar; 0 if none is fresh enough."""
    priced: bool
    """A venue would see its limit price at once."""


Measure = Callable[[Question], int]
NOTHING: Leaf = Leaf((), SCALE, 0)
NOBODY: Group = Group("")


class Rule:
    """A rule of a plan: refused when `measure` is above `limit`, unless the order reduces and `spares_reducing`."""

    __slots__ = ("code", "limit", "measure", "name", "scope", "show", "spares_reducing")

    def __init__(
        self,
        name: str,
        code: str,
        scope: str,
        limit: int,
        measure: Measure,
        show: Callable[[int], str] = str,
        *,
        spares_reducing: bool = False,
    ) -> None:
        self.name, self.code, self.scope, self.limit = name, code, scope, limit
        self.measure, self.show, self.spares_reducing = measure, show, spares_reducing


class Meter:
    """A message or execution rate of one scope, as a GCRA with integer nanoseconds.

    `times` maps a scope to its theoretical arrival time. What exceeds the rate does not advance it, so
    who keeps knocking still gets the rate that was granted.
    """

    __slots__ = ("count", "interval", "key", "scope", "slack", "times")

    def __init__(self, scope: str, rate: Rate, times: dict[str, int]) -> None:
        self.scope, self.times, self.count = scope, times, rate.count
        self.interval = max(1, rate.per_ns // rate.count) if rate.count else rate.per_ns
        self.slack = (rate.count - 1) * self.interval

    @property
    def most(self) -> int:
        """How far its theoretical arrival time is ahead when all of the burst is used, ns."""
        return self.slack + self.interval

    def used(self, now: int) -> int:
        """How much of the burst is used if one more comes now."""
        ahead = self.times.get(self.scope, 0) - now
        if not self.count or ahead <= 0:
            return 1
        return -(-ahead // self.interval) + 1

    def wait(self, now: int) -> int:
        """Nanoseconds until one more conforms."""
        return max(0, self.times.get(self.scope, 0) - now - self.slack)

    def take(self, now: int) -> bool:
        """Count one; False if it was too many."""
        expected = self.times.get(self.scope, 0)
        if expected < now:
            expected = now
        if not self.count or expected - now > self.slack:
            return False
        self.times[self.scope] = expected + self.interval
        return True


def seconds(ns: int) -> str:
    """A duration for a person: `0.5 s`."""
    return f"{to_text(ns)} s"


def money(cost: int) -> str:
    """Money at `COST_SCALE` as decimal text, away from zero, so that 10.000000001 is not shown as 10."""
    return to_text(-(-cost // SCALE))


def tightest_of(limits: list[tuple[str, LimitSet]], field: str) -> tuple[str, int] | None:
    """Return the scope with the smallest limit of that name, None if nobody has one."""
    found = [(scope, value) for scope, each in limits if (value := getattr(each, field)) is not None]
    return min(found, key=lambda pair: pair[1]) if found else None


def names(instrument: str, listed: list[str]) -> bool:
    """Whether a list holds an instrument, by `SYMBOL.VENUE` or by `SYMBOL`."""
    return instrument in listed or instrument.rpartition(".")[0] in listed


def permission_rules(spec: OrderSpec, limits: list[tuple[str, LimitSet]]) -> list[Rule]:
    """Rows 8 and 13: restricted lists, instruments, venues. They depend on nothing that changes."""

    def fixed(name: str, code: str, scope: str, wrong: bool) -> Rule:
        return Rule(name, code, scope, 0, lambda _: int(wrong), lambda value: "no" if value else "yes")

    rules: list[Rule] = []
    for scope, each in limits:
        if each.restricted:
            wrong = names(spec.instrument, each.restricted)
            rules.append(fixed("restricted", RejectCode.RESTRICTED, scope, wrong))
        if each.allowed_instruments is not None:
            wrong = not names(spec.instrument, each.allowed_instruments)
            rules.append(fixed("allowed_instruments", RejectCode.NOT_PERMITTED, scope, wrong))
        if each.allowed_venues is not None:
            wrong = venue_of(spec.instrument) not in each.allowed_venues
            rules.append(fixed("allowed_venues", RejectCode.NOT_PERMITTED, scope, wrong))
    return rules


def aggressive_bps(q: Question) -> int:
    """How far a buy is above, a sell below the reference; 0 for an order without a price or a reference."""
    price, market = q.spec.price, q.market
    if not price or not market:
        return 0
    away = price - market if q.buy else market - price
    return -(-away * BPS // market) if away > 0 else 0


def passive_bps(q: Question) -> int:
    """How far a buy is below, a sell above the reference."""
    price, market = q.spec.price, q.market
    if not price or not market:
        return 0
    away = market - price if q.buy else price - market
    return -(-away * BPS // market) if away > 0 else 0


def window_bps(q: Question) -> int:
    """How far the price is outside the extremes of the reference's window."""
    reference, price = q.reference, q.spec.price
    if reference is None or not q.priced:
        return 0
    if price > reference.high:
        return -(-(price - reference.high) * BPS // reference.high) if reference.high else 0
    if price < reference.low:
        return -(-(reference.low - price) * BPS // reference.low)
    return 0


def price_rules(limits: list[tuple[str, LimitSet]]) -> list[Rule]:
    """Row 2: a fresh reference, the collar of either side, the window."""
    rules: list[Rule] = []
    for field, code, measure in (
        ("price_collar_bps", RejectCode.PRICE_COLLAR, aggressive_bps),
        ("passive_collar_bps", RejectCode.PRICE_COLLAR, passive_bps),
        ("price_window_bps", RejectCode.PRICE_WINDOW, window_bps),
    ):
        found = tightest_of(limits, field)
        if found is not None:
            rules.append(Rule(field, code, found[0], found[1], measure))
    if rules:
        fresh = Rule(
            "reference_price",
            RejectCode.NO_REFERENCE_PRICE,
            rules[0].scope,
            0,
            lambda q: int(not q.market),
            lambda value: "missing" if value else "fresh",
        )
        rules.insert(0, fresh)
    return rules


def size_rules(limits: list[tuple[str, LimitSet]]) -> list[Rule]:
    """Row 3: quantity and value of one order."""
    rules: list[Rule] = []
    quantity = tightest_of(limits, "max_order_quantity")
    if quantity is not None:
        scope, limit = quantity
        rules.append(
            Rule("max_order_quantity", RejectCode.MAX_ORDER_QUANTITY, scope, limit, lambda q: q.spec.quantity, to_text)
        )
    value = tightest_of(limits, "max_order_value")
    if value is not None:
        scope, limit = value
        rules.append(
            Rule("max_order_value", RejectCode.MAX_ORDER_VALUE, scope, limit * SCALE, lambda q: q.value, money)
        )
    return rules
