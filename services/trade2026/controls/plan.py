"""A plan: the rules that one combination of account, strategy, instrument, trader, desk and client must pass.

Compiled from the limits once, and again when they change. What `rules` measures needs the order only; the
rules made here read the running sums of the ledger. The order of the rules is the order of the refusals.
"""

from collections.abc import Callable

from trade2026.controls import rules as r
from trade2026.controls.exposure import Leaf
from trade2026.controls.ledger import HOLDER_KINDS, LeafKey, Ledger, content_of
from trade2026.controls.limits import LimitBook, LimitSet
from trade2026.controls.rules import NOBODY, NOTHING, Measure, Meter, Question, Rule
from trade2026.controls.scopes import scopes_of
from trade2026.domain.numbers import SCALE, to_text
from trade2026.domain.orders import OrderSpec
from trade2026.domain.rejects import RejectCode

Step = tuple[Measure, int, Rule]
"""A rule with what the hot path reads of it."""
Limits = list[tuple[str, LimitSet]]
"""Scopes with their limits, the widest first."""


_NOT_OF_WHAT_WAITS = frozenset(
    {
        *("reduce_only", "max_daily_loss", "max_position", "max_net_exposure", "max_gross_exposure"),
        *("duplicate_window_ns", "passive_collar_bps", "price_window_bps"),
    }
)
"""What a child of a list can't be asked before its parent has filled: by then positions and the market are others."""
_NOT_OF_A_RELEASE = frozenset(
    {
        *("order_rate", "duplicate_window_ns", "max_open_orders"),
        *("reference_price", "price_collar_bps", "passive_collar_bps", "price_window_bps"),
    }
)
"""What was asked when the list was submitted, and is not asked again when a child is released."""


class Plan:
    """The compiled rules of one combination."""

    __slots__ = (
        "allowed_age",
        "duplicate_window_ns",
        "executions",
        "leaf_key",
        "leaves",
        "losses",
        "meters",
        "multiplier",
        "release_steps",
        "rules",
        "scopes",
        "steps",
        "waiting_steps",
    )

    def __init__(self, spec: OrderSpec, book: LimitBook, ledger: Ledger) -> None:
        limits = limits_of(book, spec)
        self.multiplier = ledger.multiplier(spec.instrument)
        self.scopes = frozenset(scopes_of(spec))
        self.leaf_key: LeafKey = ("", spec.account, spec.instrument)
        self.leaves: list[Leaf] = []
        """Where its orders count; filled when the first one does."""
        self.allowed_age = book.reference_age_ns_max
        self.duplicate_window_ns = max((each.duplicate_window_ns or 0 for _, each in limits), default=0)
        self.meters = [
            Meter(scope, each.order_rate, ledger.message_times) for scope, each in limits if each.order_rate is not None
        ]
        self.executions = [
            Meter(scope, each.max_executions, ledger.execution_times)
            for scope, each in limits
            if each.max_executions is not None
        ]
        self.losses = [
            (scope, each.max_daily_loss * SCALE) for scope, each in limits if each.max_daily_loss is not None
        ]
        self.rules: list[Rule] = [
            *stop_rules(self, ledger),
            *r.permission_rules(spec, limits),
            *r.size_rules(limits),
            *flow_rules(self, ledger, limits),
            *r.price_rules(limits),
            *exposure_rules(self, ledger, spec, limits),
        ]
        self.steps: list[Step] = [(rule.measure, rule.limit, rule) for rule in self.rules]
        """The rules in the form that the hot path walks through."""
        self.waiting_steps = [step for step in self.steps if step[2].name not in _NOT_OF_WHAT_WAITS]
        self.release_steps = [step for step in self.steps if step[2].name not in _NOT_OF_A_RELEASE]


def limits_of(book: LimitBook, spec: OrderSpec) -> Limits:
    """Return the scopes that limit an order, with their limits."""
    named = [
        ("account", spec.account),
        ("strategy", spec.strategy),
        ("instrument", spec.instrument),
        ("trader", spec.trader),
        ("desk", spec.desk),
    ]
    return [("stack", book.stack), *((f"{kind}:{name}", book.of(kind, name)) for kind, name in named if name)]


def stop_rules(plan: Plan, ledger: Ledger) -> list[Rule]:
    """Rows 1, 7 and 12: kills, halts, reduce-only, the day's loss."""
    kills, halts, tripped, scopes = ledger.kills, ledger.halts, ledger.tripped, plan.scopes

    def killed(q: Question) -> int:
        return int(bool(kills) and not scopes.isdisjoint(kills))

    def halted(q: Question) -> int:
        if not halts and not tripped:
            return 0
        stopped = not (scopes.isdisjoint(halts) and scopes.isdisjoint(tripped))
        return int(stopped and not ((q.spec.reduce_only or q.released) and q.reduces))

    def opens_position(q: Question) -> int:
        return int(q.spec.reduce_only and not q.reduces)

    def word(value: int) -> str:
        return "yes" if value else "no"

    rules = [
        Rule("kill", RejectCode.KILLED, "stack", 0, killed, word),
        Rule("halt", RejectCode.HALTED, "stack", 0, halted, word),
        Rule("reduce_only", RejectCode.REDUCE_ONLY, f"account:{plan.leaf_key[1]}", 0, opens_position, word),
    ]
    for scope, limit in plan.losses:
        measure = _loss_of(ledger, scope)
        rules.append(Rule("max_daily_loss", RejectCode.MAX_DAILY_LOSS, scope, limit, measure, r.money))
    return rules


def _loss_of(ledger: Ledger, scope: str) -> Measure:
    groups = ledger.groups

    def loss(q: Question) -> int:
        if (q.spec.reduce_only or q.released) and q.reduces:
            return 0
        lost = groups.get(scope, NOBODY).loss(q.now)
        return lost if lost > 0 else 0

    return loss


def flow_rules(plan: Plan, ledger: Ledger, limits: Limits) -> list[Rule]:
    """Rows 4, 5 and 6: how many messages, the same order again, how many open orders."""
    rules = [
        Rule("order_rate", RejectCode.ORDER_RATE, meter.scope, meter.count, _rate_of(meter)) for meter in plan.meters
    ]
    window, duplicates = plan.duplicate_window_ns, ledger.duplicates
    if window:
        scope = next(scope for scope, each in limits if each.duplicate_window_ns == window)

        def repeated(q: Question) -> int:
            before = duplicates.get(content_of(q.spec)) if q.opens else None
            return int(before is not None and q.now - before < window)

        rules.append(Rule("duplicate_window_ns", RejectCode.DUPLICATE_ORDER, scope, 0, repeated))
    for scope, each in limits:
        if each.max_open_orders is not None:
            measure = _open_orders_of(ledger, scope)
            rules.append(Rule("max_open_orders", RejectCode.MAX_OPEN_ORDERS, scope, each.max_open_orders, measure))
    return rules


def _rate_of(meter: Meter) -> Measure:
    return lambda q: meter.used(q.now)


def _open_orders_of(ledger: Ledger, scope: str) -> Measure:
    groups = ledger.groups

    # An amendment opens no order: it must not be refused because others have.
    def count(q: Question) -> int:
        group = groups.get(scope, NOBODY)
        return group.open_orders + group.waiting + 1 if q.opens else 0

    return count


def exposure_rules(plan: Plan, ledger: Ledger, spec: OrderSpec, limits: Limits) -> list[Rule]:
    """Row 1: position, net and gross exposure at worst; an order that reduces passes them."""
    rules: list[Rule] = []

    def add(name: str, code: str, scope: str, limit: int, measure: Measure, show: Callable[[int], str]) -> None:
        rules.append(Rule(name, code, scope, limit, measure, show, spares_reducing=True))

    if any(_values(each) for _, each in limits):
        # What cannot be valued cannot be limited.
        rules.append(Rule("known_price", RejectCode.NO_REFERENCE_PRICE, "stack", 0, lambda q: int(not q.reserved)))
    for scope, each in limits:
        holder = scope if scope.partition(":")[0] in HOLDER_KINDS else ""
        key = (holder, spec.account, spec.instrument)
        if each.max_position is not None:
            measure = _position_of(ledger, key)
            add("max_position", RejectCode.MAX_POSITION, scope, each.max_position, measure, to_text)
        if each.max_net_exposure is not None:
            measure = _net_of(ledger, scope, plan.multiplier)
            limit = each.max_net_exposure * SCALE
            add("max_net_exposure", RejectCode.MAX_NET_EXPOSURE, scope, limit, measure, r.money)
        if each.max_gross_exposure is not None:
            measure = _gross_of(ledger, scope, key, plan.multiplier)
            limit = each.max_gross_exposure * SCALE
            add("max_gross_exposure", RejectCode.CREDIT_THRESHOLD, scope, limit, measure, r.money)
    return rules


def _values(limits: LimitSet) -> bool:
    needs = (limits.max_order_value, limits.max_gross_exposure, limits.max_net_exposure)
    return any(limit is not None for limit in needs)


def _position_of(ledger: Ledger, key: LeafKey) -> Measure:
    leaves = ledger.leaves

    def position(q: Question) -> int:
        leaf = leaves.get(key, NOTHING)
        if q.buy:
            return max(0, leaf.position.quantity + leaf.buy_quantity + q.quantity)
        return max(0, leaf.sell_quantity + q.quantity - leaf.position.quantity)

    return position


def _net_of(ledger: Ledger, scope: str, multiplier: int) -> Measure:
    groups = ledger.groups

    def net(q: Question) -> int:
        group = groups.get(scope, NOBODY)
        cost = q.cost if multiplier == SCALE else q.cost * multiplier // SCALE
        return max(0, group.long + cost if q.buy else cost - group.short)

    return net


def _gross_of(ledger: Ledger, scope: str, key: LeafKey, multiplier: int) -> Measure:
    groups, leaves = ledger.groups, ledger.leaves

    def gross(q: Question) -> int:
        group, leaf = groups.get(scope, NOBODY), leaves.get(key, NOTHING)
        cost = q.cost if multiplier == SCALE else q.cost * multiplier // SCALE
        if q.buy:
            long, short = abs(leaf.long + cost), abs(leaf.short)
        else:
            long, short = abs(leaf.long), abs(leaf.short - cost)
        return group.gross - leaf.gross + (long if long > short else short)

    return gross
