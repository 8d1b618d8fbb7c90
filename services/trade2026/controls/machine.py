"""The controls: one pure machine that folds what happened and checks what is about to.

`check` may refuse, the folds may not. Everything is an integer, time comes with the event, and each
change moves running sums, so a check costs the same with one order as with a million.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from trade2026.controls import rules as r
from trade2026.controls.exposure import DAY_NS, Exposure, Group, Leaf
from trade2026.controls.limits import LimitBook, LimitSet
from trade2026.controls.rules import NOBODY, NOTHING, Check, Meter, Plan, Question, Rule
from trade2026.controls.scopes import in_scope, is_scope
from trade2026.domain.events import Killed, OrderFilled, Resumed
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Reference
from trade2026.domain.numbers import SCALE, to_text
from trade2026.domain.orders import OrderSpec, OrderType
from trade2026.domain.positions import Position
from trade2026.domain.rejects import RejectCode

__all__ = ["Check", "Controls", "in_scope", "is_scope"]

BUY_BUFFER_PERCENT = 5
"""How much dearer than its reference a buy without a price may become."""

REMARK_BPS = 1
"""Positions are revalued when the market has moved by this much."""

_PLANS_MAX = 10_000
_HOLDER_KINDS = ("strategy", "trader", "desk", "client")

_Key = tuple[str, str, str, str, str, str]
_LeafKey = tuple[str, str, str]


class _LeafState(msgspec.Struct):
    holder: str
    account: str
    instrument: str
    position: Position
    buy_quantity: int
    sell_quantity: int
    buys: int
    sells: int
    mark: int


class _GroupState(msgspec.Struct):
    scope: str
    open_orders: int
    day: int
    pnl: int
    forgiven: int


class _State(msgspec.Struct):
    book: LimitBook
    marks: dict[str, int]
    leaves: list[_LeafState]
    groups: list[_GroupState]
    message_times: dict[str, int]
    execution_times: dict[str, int]
    duplicates: list[tuple[list[Any], int]]
    kills: dict[str, Killed]
    halts: dict[str, Killed]
    tripped: dict[str, Killed]


def _key(spec: OrderSpec) -> _Key:
    return (spec.account, spec.strategy, spec.instrument, spec.trader, spec.desk, spec.client)


def _content(spec: OrderSpec) -> tuple[str, str, str, str, str, int, int, int]:
    return (
        spec.account,
        spec.strategy,
        spec.instrument,
        spec.side,
        spec.order_type,
        spec.quantity,
        spec.price,
        spec.stop_price,
    )


class Controls:
    """Limits, what counts against them, and what is stopped.

    Args:
        book: The limits to begin with; `limits_adopted` replaces them.
        instruments: By instrument id; one that is missing here counts with a multiplier of one.
    """

    in_scope = staticmethod(in_scope)
    is_scope = staticmethod(is_scope)

    def __init__(self, book: LimitBook, instruments: dict[str, Instrument]) -> None:
        self.book = book
        self.instruments = instruments
        self.kills: dict[str, Killed] = {}
        self.halts: dict[str, Killed] = {}
        self._tripped: dict[str, Killed] = {}
        self._marks: dict[str, int] = {}
        self._leaves: dict[_LeafKey, Leaf] = {}
        self._groups: dict[str, Group] = {}
        self._holders: dict[str, list[Leaf]] = {}
        """Leaves by instrument, to be revalued when its mark moves."""
        self._message_times: dict[str, int] = {}
        self._execution_times: dict[str, int] = {}
        self._duplicates: dict[tuple[Any, ...], int] = {}
        """When an order with this content was last accepted, oldest first."""
        self._last_sent: tuple[OrderSpec, int] | None = None
        self._plans: dict[_Key, Plan] = {}
        self._leaves_of: dict[_Key, list[Leaf]] = {}
        self._meters_of: dict[tuple[str, str], list[Meter]] = {}
        self._duplicate_window_ns = 0
        self._use(book)

    # ── questions ───────────────────────────────────────────────────────────────────────────

    def check(self, spec: OrderSpec, reference: Reference | None, now: int) -> Check | None:
        """Return the first rule that an order breaks, None if it may be sent. `now` is ns."""
        return self._first_broken(self._ask(spec, reference, now, spec.quantity, 0, 0, 1))

    def check_amendment(
        self, wanted: OrderSpec, open_quantity: int, counted: tuple[int, int], reference: Reference | None, now: int
    ) -> Check | None:
        """Return the first rule that new terms break: sizes on the whole order, exposure on the difference.

        Args:
            wanted: The order with its new terms.
            open_quantity: What would be open of it, nanos.
            counted: Quantity and price at which the order counts now.
        """
        return self._first_broken(self._ask(wanted, reference, now, open_quantity, *counted, 0))

    def explain(self, spec: OrderSpec, reference: Reference | None, now: int) -> list[Check]:
        """Return every rule that applies, with its limit and what was measured."""
        question = self._ask(spec, reference, now, spec.quantity, 0, 0, 1)
        return [self._verdict(rule, question) for rule in self._plan(spec).rules]

    def reserved_price(self, spec: OrderSpec, reference: Reference | None) -> int:
        """Return the price at which an order counts in the limits, nanos; 0 if nothing is known.

        A limit price bounds what a buy costs. A sell may execute above its limit, so it counts at the
        market if that is higher. Without a limit, a buy counts with a buffer above the market or stop.
        """
        market = reference.last if reference is not None else self._marks.get(spec.instrument, 0)
        price = spec.price
        if price:
            return price if spec.side == "BUY" or spec.is_held else max(price, market)
        base = spec.stop_price or market
        return base + base * BUY_BUFFER_PERCENT // 100 if spec.side == "BUY" else base

    def position(self, account: str, instrument: str) -> Position:
        """Return an account's position; an empty one if it never had any."""
        leaf = self._leaves.get(("", account, instrument))
        return leaf.position if leaf is not None else Position()

    def positions(self, account: str) -> dict[str, Position]:
        """Every position that the account ever had, by instrument."""
        return {
            instrument: leaf.position
            for (holder, owner, instrument), leaf in sorted(self._leaves.items())
            if not holder and owner == account and leaf.position.fills
        }

    def exposure(self, kind: str, name: str = "") -> Exposure:
        """Return the exposure of `firm` (or `stack`), or of a named account, strategy, instrument, trader, desk, client."""
        scope = "stack" if kind in ("firm", "stack") else f"{kind}:{name}"
        return self._groups.get(scope, NOBODY).exposure()

    def scopes_known(self) -> list[str]:
        """Every scope that has ever had an order or a position."""
        return sorted(self._groups)

    def to_halt(self, ts: int) -> list[Killed]:
        """Return the halts that are due: fold them as `Killed` and they are due no longer."""
        return list(self._tripped.values())

    # ── folds ───────────────────────────────────────────────────────────────────────────────

    def order_sent(self, spec: OrderSpec, ts: int) -> None:
        """An order was decided on, accepted or refused: it counts as a message."""
        for meter in self._plan(spec).meters:
            meter.take(ts)
        self._last_sent = (spec, ts)

    def message_sent(self, account: str, strategy: str, ts: int) -> None:
        """An amendment or cancellation was asked for."""
        for meter in self._message_meters(account, strategy):
            meter.take(ts)

    def order_changed(
        self, spec: OrderSpec, qty_before: int, price_before: int, qty_after: int, price_after: int
    ) -> None:
        """What an order counts for in the limits has changed."""
        quantity, cost = qty_after - qty_before, qty_after * price_after - qty_before * price_before
        orders = (qty_after > 0) - (qty_before > 0)
        buy = spec.side == "BUY"
        for leaf in self._leaves_for(spec):
            leaf.reserve(buy, quantity, cost, orders)
        if orders > 0 and self._last_sent is not None and self._last_sent[0] is spec:
            self._remember(spec, self._last_sent[1])

    def filled(self, event: OrderFilled, ts: int) -> None:
        """One execution: positions, day P&L, and how often a strategy has executed."""
        spec = OrderSpec(
            client_order_id="",
            account=event.account,
            instrument=event.instrument,
            side=event.side,
            order_type=OrderType.LIMIT,
            quantity=event.last_qty,
            strategy=event.strategy,
            trader=event.trader,
            desk=event.desk,
            client=event.client,
        )
        self.marked(event.instrument, event.last_px)
        signed, day = spec.signed_quantity, ts // DAY_NS
        for leaf in self._leaves_for(spec):
            realized = leaf.position.apply_fill(signed, event.last_px, event.fee, event.multiplier)
            for group in leaf.groups:
                group.realize(day, realized - event.fee)
            leaf.revalue()
        plan = self._plan(spec)
        for scope, limit in plan.losses:
            if self._groups[scope].loss(ts) > limit:
                loss = f"lost {r.money(self._groups[scope].loss(ts))} today, the most is {r.money(limit)}"
                self._trip(scope, loss, "breach")
        for meter in plan.executions:
            if not meter.take(ts):
                count = f"executed more than {meter.count} times within {r.seconds(meter.slack + meter.interval)}"
                self._trip(meter.scope, count, "repeated_execution")

    def marked(self, instrument: str, price: int) -> None:
        """The market's price of an instrument; positions follow in steps of `REMARK_BPS`."""
        before = self._marks.get(instrument, 0)
        if before and abs(price - before) * r.BPS < before * REMARK_BPS:
            return
        self._marks[instrument] = price
        for leaf in self._holders.get(instrument, ()):
            leaf.mark = price
            if leaf.position.quantity:
                leaf.revalue()

    def killed(self, event: Killed) -> None:
        """A scope is stopped. A halt never weakens a kill."""
        self._tripped.pop(event.scope, None)
        (self.halts if event.halt else self.kills)[event.scope] = event

    def resumed(self, event: Resumed) -> None:
        """A person released a scope: executions and the day's loss count from here."""
        for stopped in (self.kills, self.halts, self._tripped):
            stopped.pop(event.scope, None)
        self._execution_times.pop(event.scope, None)
        group = self._groups.get(event.scope)
        if group is not None:
            group.forgive()

    def limits_adopted(self, limits: LimitBook | msgspec.Raw | bytes) -> None:
        """From here on other limits hold."""
        self._use(limits if isinstance(limits, LimitBook) else msgspec.json.decode(bytes(limits), type=LimitBook))

    # ── snapshot ────────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> bytes:
        """The state as JSON; equal states give equal bytes."""
        leaves = [
            _LeafState(*key, leaf.position, leaf.buy_quantity, leaf.sell_quantity, leaf.buys, leaf.sells, leaf.mark)
            for key, leaf in sorted(self._leaves.items())
            if not leaf.is_empty
        ]
        groups = [
            _GroupState(scope, group.open_orders, group.day, group.pnl, group.forgiven)
            for scope, group in sorted(self._groups.items())
            if group.open_orders or group.day
        ]
        return msgspec.json.encode(
            _State(
                self.book,
                self._marks,
                leaves,
                groups,
                self._message_times,
                self._execution_times,
                [(list(content), ts) for content, ts in self._duplicates.items()],
                self.kills,
                self.halts,
                self._tripped,
            ),
            order="sorted",
        )

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot, in place of everything that was folded here.

        Raises:
            msgspec.DecodeError: it is no snapshot of controls.
        """
        state = msgspec.json.decode(snapshot, type=_State)
        self._leaves, self._groups, self._holders = {}, {}, {}
        self._marks = state.marks
        self._message_times, self._execution_times = state.message_times, state.execution_times
        self._duplicates = {tuple(content): ts for content, ts in state.duplicates}
        self.kills, self.halts, self._tripped = state.kills, state.halts, state.tripped
        self._last_sent = None
        for each in state.leaves:
            leaf = self._leaf(each.holder, each.account, each.instrument)
            leaf.position, leaf.mark = each.position, each.mark
            leaf.buy_quantity, leaf.sell_quantity = each.buy_quantity, each.sell_quantity
            leaf.buys, leaf.sells = each.buys, each.sells
            leaf.revalue()
        for each in state.groups:
            group = self._group(each.scope)
            group.open_orders, group.day = each.open_orders, each.day
            group.pnl, group.forgiven = each.pnl, each.forgiven
        self._use(state.book)

    # ── how a check is made ─────────────────────────────────────────────────────────────────

    def _ask(
        self,
        spec: OrderSpec,
        reference: Reference | None,
        now: int,
        open_quantity: int,
        counted_quantity: int,
        counted_price: int,
        opens: int,
    ) -> Question:
        plan = self._plan(spec)
        q = Question()
        q.spec, q.reference, q.now, q.opens = spec, reference, now, opens
        q.buy = spec.side == "BUY"
        q.reserved = reserved = self.reserved_price(spec, reference)
        q.quantity = quantity = open_quantity - counted_quantity
        q.cost = open_quantity * reserved - counted_quantity * counted_price
        value = spec.quantity * reserved
        q.value = value if plan.multiplier == SCALE else value * plan.multiplier // SCALE
        held = spec.is_held
        if held:
            q.market = spec.stop_price
        else:
            fresh = reference is not None and now - reference.ts <= plan.allowed_age
            q.market = reference.last if fresh and reference is not None else 0
        q.priced = bool(spec.price) and not held
        q.leaf = leaf = self._leaves.get(plan.leaf_key, NOTHING)
        position = leaf.position.quantity
        if q.buy:
            q.reduces = position < 0 and leaf.buy_quantity + quantity <= -position
        else:
            q.reduces = position > 0 and leaf.sell_quantity + quantity <= position
        return q

    def _first_broken(self, question: Question) -> Check | None:
        reduces = question.reduces
        for measure, limit, rule in self._plan(question.spec).steps:
            if measure(question) > limit and not (reduces and rule.spares_reducing):
                return self._verdict(rule, question)
        return None

    def _plan(self, spec: OrderSpec) -> Plan:
        key = (spec.account, spec.strategy, spec.instrument, spec.trader, spec.desk, spec.client)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            plan = self._plans[key] = self._compile(spec)
        return plan

    def _compile(self, spec: OrderSpec) -> Plan:
        limits = r.limits_of(self.book, spec)
        plan = Plan(spec, self.book, self.multiplier(spec.instrument))
        plan.duplicate_window_ns = max((each.duplicate_window_ns or 0 for _, each in limits), default=0)
        for scope, each in limits:
            if each.order_rate is not None:
                plan.meters.append(Meter(scope, each.order_rate, self._message_times))
            if each.max_executions is not None:
                plan.executions.append(Meter(scope, each.max_executions, self._execution_times))
            if each.max_daily_loss is not None:
                plan.losses.append((scope, each.max_daily_loss * SCALE))
        plan.rules = [
            *self._stop_rules(plan),
            *r.permission_rules(spec, limits),
            *r.size_rules(limits),
            *self._flow_rules(plan, limits),
            *r.price_rules(limits),
            *self._exposure_rules(plan, spec, limits),
        ]
        plan.steps = [(rule.measure, rule.limit, rule) for rule in plan.rules]
        return plan

    def _stop_rules(self, plan: Plan) -> list[Rule]:
        kills, halts, tripped, scopes = self.kills, self.halts, self._tripped, plan.scopes

        def killed(q: Question) -> int:
            return int(bool(kills) and not scopes.isdisjoint(kills))

        def halted(q: Question) -> int:
            if not halts and not tripped:
                return 0
            stopped = not (scopes.isdisjoint(halts) and scopes.isdisjoint(tripped))
            return int(stopped and not (q.spec.reduce_only and q.reduces))

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
            measure = self._loss_of(scope)
            rules.append(Rule("max_daily_loss", RejectCode.MAX_DAILY_LOSS, scope, limit, measure, r.money))
        return rules

    def _loss_of(self, scope: str) -> Callable[[Question], int]:
        def loss(q: Question) -> int:
            if q.spec.reduce_only and q.reduces:
                return 0
            return max(0, self._groups.get(scope, NOBODY).loss(q.now))

        return loss

    def _flow_rules(self, plan: Plan, limits: list[tuple[str, LimitSet]]) -> list[Rule]:
        rules = [
            Rule("order_rate", RejectCode.ORDER_RATE, meter.scope, meter.count, self._rate_of(meter))
            for meter in plan.meters
        ]
        window = plan.duplicate_window_ns
        if window:
            scope = next(scope for scope, each in limits if each.duplicate_window_ns == window)

            def repeated(q: Question) -> int:
                before = self._duplicates.get(_content(q.spec)) if q.opens else None
                return int(before is not None and q.now - before < window)

            rules.append(Rule("duplicate_window_ns", RejectCode.DUPLICATE_ORDER, scope, 0, repeated))
        for scope, each in limits:
            if each.max_open_orders is not None:
                measure = self._open_orders_of(scope)
                rules.append(Rule("max_open_orders", RejectCode.MAX_OPEN_ORDERS, scope, each.max_open_orders, measure))
        return rules

    @staticmethod
    def _rate_of(meter: Meter) -> Callable[[Question], int]:
        return lambda q: meter.used(q.now)

    def _open_orders_of(self, scope: str) -> Callable[[Question], int]:
        # An amendment opens no order: it must not be refused because others have.
        return lambda q: self._groups.get(scope, NOBODY).open_orders + 1 if q.opens else 0

    def _exposure_rules(self, plan: Plan, spec: OrderSpec, limits: list[tuple[str, LimitSet]]) -> list[Rule]:
        rules: list[Rule] = []
        valued = any(
            value is not None
            for _, each in limits
            for value in (each.max_order_value, each.max_gross_exposure, each.max_net_exposure)
        )
        if valued:
            # What cannot be valued cannot be limited.
            def unvalued(q: Question) -> int:
                return int(not q.reserved)

            rules.append(Rule("known_price", RejectCode.NO_REFERENCE_PRICE, "stack", 0, unvalued))
        for scope, each in limits:
            kind = scope.partition(":")[0]
            holder = scope if kind in _HOLDER_KINDS else ""
            key = (holder, spec.account, spec.instrument)
            if each.max_position is not None:
                measure = self._position_of(key)
                rules.append(
                    Rule(
                        "max_position",
                        RejectCode.MAX_POSITION,
                        scope,
                        each.max_position,
                        measure,
                        to_text,
                        spares_reducing=True,
                    )
                )
            for name, code, limit, measure in (
                ("max_net_exposure", RejectCode.MAX_NET_EXPOSURE, each.max_net_exposure, self._net_of(scope, plan)),
                (
                    "max_gross_exposure",
                    RejectCode.CREDIT_THRESHOLD,
                    each.max_gross_exposure,
                    self._gross_of(scope, key, plan),
                ),
            ):
                if limit is not None:
                    rules.append(Rule(name, code, scope, limit * SCALE, measure, r.money, spares_reducing=True))
        return rules

    def _position_of(self, key: _LeafKey) -> Callable[[Question], int]:
        leaves = self._leaves

        def position(q: Question) -> int:
            leaf = leaves.get(key, NOTHING)
            if q.buy:
                return max(0, leaf.position.quantity + leaf.buy_quantity + q.quantity)
            return max(0, leaf.sell_quantity + q.quantity - leaf.position.quantity)

        return position

    def _net_of(self, scope: str, plan: Plan) -> Callable[[Question], int]:
        groups, multiplier = self._groups, plan.multiplier

        def net(q: Question) -> int:
            group = groups.get(scope, NOBODY)
            cost = q.cost if multiplier == SCALE else q.cost * multiplier // SCALE
            return max(0, group.long + cost if q.buy else cost - group.short)

        return net

    def _gross_of(self, scope: str, key: _LeafKey, plan: Plan) -> Callable[[Question], int]:
        groups, leaves, multiplier = self._groups, self._leaves, plan.multiplier

        def gross(q: Question) -> int:
            group, leaf = groups.get(scope, NOBODY), leaves.get(key, NOTHING)
            cost = q.cost if multiplier == SCALE else q.cost * multiplier // SCALE
            if q.buy:
                long, short = abs(leaf.long + cost), abs(leaf.short)
            else:
                long, short = abs(leaf.long), abs(leaf.short - cost)
            return group.gross - leaf.gross + (long if long > short else short)

        return gross

    # ── how a verdict is worded ─────────────────────────────────────────────────────────────

    def _verdict(self, rule: Rule, q: Question) -> Check:
        actual = rule.measure(q)
        passed = actual <= rule.limit or (rule.spares_reducing and q.reduces)
        code, scope, message = rule.code, rule.scope, f"{rule.name} of {rule.scope} is kept"
        if not passed:
            if rule.name in ("kill", "halt"):
                code, scope, message = self._stopped(rule, q)
            else:
                message = self._advice(rule, q, actual)
        return Check(
            rule=rule.name,
            code=code,
            scope=scope,
            limit=rule.show(rule.limit),
            actual=rule.show(actual),
            passed=passed,
            message=message,
            used_bps=max(0, actual) * r.BPS // rule.limit if rule.limit > 0 else 0,
        )

    def _stopped(self, rule: Rule, q: Question) -> tuple[str, str, str]:
        stopped = self.kills if rule.name == "kill" else {**self._tripped, **self.halts}
        scopes = self._plan(q.spec).scopes
        event = next(event for scope, event in sorted(stopped.items()) if scope in scopes)
        code = rule.code
        if rule.name == "halt":
            code = {"repeated_execution": RejectCode.REPEATED_EXECUTION, "breach": RejectCode.MAX_DAILY_LOSS}.get(
                event.cause, rule.code
            )
        word = "killed" if rule.name == "kill" else "halted"
        hint = "" if rule.name == "kill" else "; meanwhile only reduce_only orders pass"
        return (
            code,
            event.scope,
            f"{event.scope} was {word} by {event.by}: {event.reason}; a named person must resume it{hint}",
        )

    def _advice(self, rule: Rule, q: Question, actual: int) -> str:
        spec, scope, limit = q.spec, rule.scope, rule.show(rule.limit)
        shown = rule.show(actual)
        match rule.name:
            case "reduce_only":
                held = to_text(q.leaf.position.quantity)
                return f"a reduce-only order must be smaller than the position it reduces, which is {held}; send less"
            case "restricted":
                return f"{spec.instrument} is on the restricted list of {scope}; trade another instrument"
            case "allowed_instruments":
                return f"{scope} may not trade {spec.instrument}; ask for the permission"
            case "allowed_venues":
                return f"{scope} may not trade at {r.venue_of(spec.instrument)}; ask for the permission"
            case "max_order_quantity":
                return f"quantity {shown} is above {limit}, the most per order of {scope}; send less"
            case "max_order_value":
                return f"value {shown} is above {limit}, the most per order of {scope}; send less"
            case "order_rate":
                meter = next(meter for meter in self._plan(spec).meters if meter.scope == scope)
                per = r.seconds(meter.slack + meter.interval)
                wait = r.seconds(meter.wait(q.now))
                return f"{scope} may send {limit} messages per {per}; wait {wait}"
            case "duplicate_window_ns":
                window = r.seconds(self._plan(spec).duplicate_window_ns)
                return f"an order with the same content was accepted within {window}; wait, or change it"
            case "max_open_orders":
                return f"{scope} would have {shown} open orders, the most is {limit}; cancel one first"
            case "reference_price":
                return f"no price of {spec.instrument} is fresh enough for the collar of {scope}; wait for market data"
            case "known_price":
                return f"no price of {spec.instrument} is known to value the order with; wait for market data"
            case "price_collar_bps" | "passive_collar_bps":
                above = q.buy == (rule.name == "price_collar_bps")
                bound = q.market + q.market * rule.limit // r.BPS * (1 if above else -1)
                return (
                    f"price {to_text(spec.price)} is {shown} bps {'above' if above else 'below'} the reference "
                    f"{to_text(q.market)}, the most is {limit}; send at {'most' if above else 'least'} {to_text(bound)}"
                )
            case "price_window_bps":
                assert q.reference is not None
                low, high = to_text(q.reference.low), to_text(q.reference.high)
                return f"price {to_text(spec.price)} is {shown} bps outside {low} to {high}, the most is {limit}; come nearer"
            case "max_position":
                return (
                    f"the position of {scope} in {spec.instrument} could reach {shown}, the most is {limit}; send less"
                )
            case "max_net_exposure" | "max_gross_exposure":
                side = rule.name.removeprefix("max_").replace("_", " ")
                return f"{side} of {scope} could reach {shown}, the most is {limit}; send less, cancel or reduce first"
            case _:
                assert rule.name == "max_daily_loss"
                return f"{scope} lost {shown} today, the most is {limit}; only reduce_only orders pass"

    # ── bookkeeping ─────────────────────────────────────────────────────────────────────────

    def _use(self, book: LimitBook) -> None:
        self.book = book
        self._plans, self._leaves_of, self._meters_of = {}, {}, {}
        every = [
            book.stack,
            book.account_default,
            book.strategy_default,
            *(
                each
                for field in ("accounts", "strategies", "instruments", "traders", "desks")
                for each in getattr(book, field).values()
            ),
        ]
        self._duplicate_window_ns = max(each.duplicate_window_ns or 0 for each in every)

    def multiplier(self, instrument: str) -> int:
        """Return the multiplier of an instrument, nanos."""
        found = self.instruments.get(instrument)
        return found.multiplier if found is not None else SCALE

    def _group(self, scope: str) -> Group:
        group = self._groups.get(scope)
        if group is None:
            group = self._groups[scope] = Group(scope)
        return group

    def _leaf(self, holder: str, account: str, instrument: str) -> Leaf:
        key = (holder, account, instrument)
        leaf = self._leaves.get(key)
        if leaf is None:
            scopes = (holder,) if holder else ("stack", f"account:{account}", f"instrument:{instrument}")
            groups = tuple(self._group(scope) for scope in scopes)
            leaf = Leaf(groups, self.multiplier(instrument), self._marks.get(instrument, 0))
            self._leaves[key] = leaf
            self._holders.setdefault(instrument, []).append(leaf)
        return leaf

    def _leaves_for(self, spec: OrderSpec) -> list[Leaf]:
        key = _key(spec)
        leaves = self._leaves_of.get(key)
        if leaves is None:
            holders = ["", *(f"{kind}:{name}" for kind in _HOLDER_KINDS if (name := getattr(spec, kind)))]
            leaves = [self._leaf(holder, spec.account, spec.instrument) for holder in holders]
            if len(self._leaves_of) >= _PLANS_MAX:
                self._leaves_of.clear()
            self._leaves_of[key] = leaves
        return leaves

    def _message_meters(self, account: str, strategy: str) -> list[Meter]:
        meters = self._meters_of.get((account, strategy))
        if meters is None:
            named = [("stack", self.book.stack), (f"account:{account}", self.book.of("account", account))]
            if strategy:
                named.append((f"strategy:{strategy}", self.book.of("strategy", strategy)))
            meters = [
                Meter(scope, each.order_rate, self._message_times)
                for scope, each in named
                if each.order_rate is not None
            ]
            if len(self._meters_of) >= _PLANS_MAX:
                self._meters_of.clear()
            self._meters_of[account, strategy] = meters
        return meters

    def _remember(self, spec: OrderSpec, ts: int) -> None:
        window = self._duplicate_window_ns
        if not window:
            return
        duplicates, content = self._duplicates, _content(spec)
        duplicates.pop(content, None)
        duplicates[content] = ts
        oldest = next(iter(duplicates))
        while duplicates[oldest] + window <= ts and oldest != content:
            del duplicates[oldest]
            oldest = next(iter(duplicates))

    def _trip(self, scope: str, reason: str, cause: str) -> None:
        if scope not in self.halts and scope not in self.kills and scope not in self._tripped:
            self._tripped[scope] = Killed(scope=scope, reason=reason, by="controls", halt=True, cause=cause)
