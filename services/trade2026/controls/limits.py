"""Limits as data: what may not be exceeded, for whom, and which of two sets is the tighter.

Amounts are nanos (10⁻⁹), durations nanoseconds, collars basis points. None is "no limit".
"""

from typing import Any

import msgspec

BPS = 10_000


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """At most `count` in any burst and `count` per `per_ns` after it."""

    count: int
    per_ns: int = 1_000_000_000


class LimitSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The limits of one scope: the stack, an account, a strategy, an instrument, a trader or a desk."""

    max_order_quantity: int | None = None
    """Nanos of the base unit."""
    max_order_value: int | None = None
    """Nanos of money: quantity times reserved price times multiplier."""
    max_open_orders: int | None = None
    max_gross_exposure: int | None = None
    """Sum over instruments of the worst case that positions and open orders can reach; nanos of money."""
    max_net_exposure: int | None = None
    """The worst absolute sum of signed values that fills of one side can reach; nanos of money."""
    max_position: int | None = None
    """Absolute quantity per account and instrument, with open orders of that side; nanos."""
    max_daily_loss: int | None = None
    """Realised loss after fees of a UTC day that stops the account; nanos of money."""
    order_rate: Rate | None = None
    """Messages: submits, amends and cancels count; only submits and amends are refused."""
    price_collar_bps: int | None = None
    """How far a buy may be above, and a sell below, the reference."""
    passive_collar_bps: int | None = None
    """How far a buy may be below, and a sell above, the reference."""
    price_window_bps: int | None = None
    """How far outside the lowest and highest price of the reference's window."""
    duplicate_window_ns: int | None = None
    """An order with the same content within this time is refused; 0 is off."""
    max_executions: Rate | None = None
    """Fills of a strategy; beyond it the strategy is halted until a person resumes it."""
    allowed_instruments: list[str] | None = None
    allowed_venues: list[str] | None = None
    restricted: list[str] | None = None
    """Instruments that nobody in this scope may trade, `SYMBOL.VENUE` or `SYMBOL`."""


class Tightening(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits that a person made tighter than the manifest's ceilings."""

    scope: str
    limits: LimitSet
    by: str
    reason: str
    until: int = 0
    """When it ends, ns; 0: when the manifest changes the limits that it tightens, or never."""
    ceiling: LimitSet | None = None
    """The manifest's limits that it tightens; None for what only a person ends."""


class Slice(msgspec.Struct, frozen=True):
    """What one partition may use of a limit that spans partitions; of a rate, messages."""

    of: int
    """The whole limit that it was cut from."""
    value: int


Slices = dict[str, dict[str, Slice]]
"""By scope and limit: `slices["strategy:mm"]["max_open_orders"]`."""


class LimitBook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All limits of a stack, as one version. A scope without an entry of its own gets its default."""

    version: int = 1
    stack: LimitSet = LimitSet()
    account_default: LimitSet = LimitSet()
    accounts: dict[str, LimitSet] = {}
    strategy_default: LimitSet = LimitSet()
    strategies: dict[str, LimitSet] = {}
    instruments: dict[str, LimitSet] = {}
    traders: dict[str, LimitSet] = {}
    desks: dict[str, LimitSet] = {}
    reference_age_ns_max: int = 10_000_000_000
    """A collar does not trust a reference price that is older."""
    tightened: list[Tightening] = []
    """What made these limits tighter than the manifest's; already part of the sets above."""
    told: dict[str, LimitSet] = {}
    """By strategy: limits of its own manifest, told while the stack runs; already part of the sets above."""
    partitions: int = 1
    """Among which limits that span them are cut; 1: the sets above are the whole limits."""
    slices: Slices = {}
    """Of one partition: already part of the sets above."""
    grant: int = -1
    """The newest event of risk that is part of the slices."""

    def of(self, kind: str, name: str) -> LimitSet:
        """Return the limits of a scope, e.g. `of("account", "main")`.

        Raises:
            KeyError: limits are not kept for such a kind of scope.
        """
        match kind:
            case "stack":
                return self.stack
            case "account":
                return self.accounts.get(name, self.account_default)
            case "strategy":
                return self.strategies.get(name, self.strategy_default)
            case "instrument":
                return self.instruments.get(name, _NO_LIMITS)
            case "trader":
                return self.traders.get(name, _NO_LIMITS)
            case "desk":
                return self.desks.get(name, _NO_LIMITS)
            case _:
                raise KeyError(f"limits are kept for {', '.join(LIMIT_SCOPES)}, not for {kind!r}")

    def replaced(self, kind: str, name: str, limits: LimitSet) -> "LimitBook":
        """Return a copy in which one scope has other limits."""
        if kind == "stack":
            return msgspec.structs.replace(self, stack=limits)
        self.of(kind, name)
        field = _FIELD_OF_KIND[kind]
        return msgspec.structs.replace(self, **{field: {**getattr(self, field), name: limits}})


LIMIT_SCOPES = ("stack", "account", "strategy", "instrument", "trader", "desk")
_NO_LIMITS = LimitSet()
_FIELD_OF_KIND = {
    "account": "accounts",
    "strategy": "strategies",
    "instrument": "instruments",
    "trader": "traders",
    "desk": "desks",
}

_Value = int | Rate | list[str] | None


def _tighter(field: str, a: _Value, b: _Value) -> _Value:
    if a is None or b is None:
        return b if a is None else a
    if field == "restricted":
        assert isinstance(a, list)
        assert isinstance(b, list)
        return sorted({*a, *b})
    if isinstance(a, list) and isinstance(b, list):
        return sorted({*a} & {*b})
    if isinstance(a, Rate) and isinstance(b, Rate):
        return Rate(
            count=min(a.count, b.count),
            per_ns=-(-min(a.count, b.count) * max(a.per_ns * b.count, b.per_ns * a.count) // (a.count * b.count))
            if a.count and b.count
            else max(a.per_ns, b.per_ns),
        )
    assert isinstance(a, int)
    assert isinstance(b, int)
    if field == "duplicate_window_ns":
        return max(a, b)
    return min(a, b)


def tightest(a: LimitSet, b: LimitSet) -> LimitSet:
    """Return limits that allow only what both allow."""
    both: dict[str, Any] = {
        name: _tighter(name, getattr(a, name), getattr(b, name)) for name in LimitSet.__struct_fields__
    }
    return LimitSet(**both)


def overlaid(under: LimitSet, over: LimitSet) -> LimitSet:
    """Return the limits of `over`, and those of `under` wherever it has none."""
    named = {name: value for name in LimitSet.__struct_fields__ if (value := getattr(over, name)) is not None}
    return msgspec.structs.replace(under, **named)


def with_told(ceilings: LimitBook, told: dict[str, LimitSet]) -> LimitBook:
    """Return the manifest's limits with those of strategies' own manifests over them."""
    named = {name: overlaid(ceilings.of("strategy", name), own) for name, own in told.items()}
    return msgspec.structs.replace(ceilings, strategies={**ceilings.strategies, **named}, told=told)


def _wider(field: str, new: _Value, old: _Value) -> bool:
    if old is None:
        return False
    if new is None:
        return field != "duplicate_window_ns" or bool(old)
    if field == "restricted":
        assert isinstance(new, list)
        assert isinstance(old, list)
        return not {*old} <= {*new}
    if isinstance(new, list) and isinstance(old, list):
        return not {*new} <= {*old}
    if isinstance(new, Rate) and isinstance(old, Rate):
        return new.count > old.count or new.count * old.per_ns > old.count * new.per_ns
    assert isinstance(new, int)
    assert isinstance(old, int)
    return new < old if field == "duplicate_window_ns" else new > old


def loosens(new: LimitSet, old: LimitSet) -> list[str]:
    """Return the names of the limits that `new` would make wider than `old`; a limit that it lacks is one."""
    return [name for name in LimitSet.__struct_fields__ if _wider(name, getattr(new, name), getattr(old, name))]


def ceiling_of(ceilings: LimitBook, scope: str, limits: LimitSet) -> LimitSet:
    """Return the manifest's limits of a scope, of those kinds that `limits` has."""
    kind, _, name = scope.partition(":")
    found = ceilings.of(kind, name)
    both: dict[str, Any] = {
        field: getattr(found, field) for field in LimitSet.__struct_fields__ if getattr(limits, field) is not None
    }
    return LimitSet(**both)


def holds(tightening: Tightening, ceilings: LimitBook, now: int) -> bool:
    """Whether a tightening is still in force."""
    if tightening.until:
        return now < tightening.until
    ceiling = tightening.ceiling
    return ceiling is None or ceiling == ceiling_of(ceilings, tightening.scope, tightening.limits)


def in_force(ceilings: LimitBook, tightenings: list[Tightening], now: int) -> LimitBook:
    """Return the ceilings with every tightening that has not ended; `version` is that of the ceilings."""
    active = [each for each in tightenings if holds(each, ceilings, now)]
    book = ceilings
    for each in active:
        kind, _, name = each.scope.partition(":")
        book = book.replaced(kind, name, tightest(book.of(kind, name), each.limits))
    return msgspec.structs.replace(book, tightened=active)


def same_limits(a: LimitBook, b: LimitBook) -> bool:
    """Whether two versions say the same."""
    return a == msgspec.structs.replace(b, version=a.version)
