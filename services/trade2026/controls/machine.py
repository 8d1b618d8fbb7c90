"""The controls: one pure machine that folds what happened and checks what is about to.

`check` may refuse, the folds may not. Everything is an integer, time comes with the event, and each
change moves running sums (`ledger`), so a check costs the same with one order as with a million. Which
rules apply is compiled once for each who and what (`plan`).
"""

import msgspec

from trade2026.controls import rules as r
from trade2026.controls.exposure import DAY_NS, Exposure, Group
from trade2026.controls.ledger import Ledger
from trade2026.controls.limits import LimitBook
from trade2026.controls.plan import Plan, Step
from trade2026.controls.rules import NOBODY, NOTHING, Check, Meter, Question
from trade2026.controls.scopes import in_scope, is_scope
from trade2026.controls.slices import Shortage, slice_in
from trade2026.controls.verdicts import verdict
from trade2026.domain.events import Killed, OrderFilled, Resumed
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Reference
from trade2026.domain.numbers import SCALE
from trade2026.domain.orders import OrderSpec, OrderType
from trade2026.domain.positions import Position
from trade2026.domain.rejects import RejectCode

__all__ = ["Check", "Controls", "in_scope", "is_scope"]

BUY_BUFFER_PERCENT = 5
"""How much dearer than its reference a buy without a price may become."""

REMARK_BPS = 1
"""Positions are revalued when the market has moved by this much."""

_PLANS_MAX = 10_000

_Key = tuple[str, str, str, str, str, str]


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
        self._ledger = Ledger(instruments)
        self._last_sent: tuple[OrderSpec, int] | None = None
        self._plans: dict[_Key, Plan] = {}
        self._last_plan: tuple[OrderSpec | None, Plan | None] = (None, None)
        """One order asks for its plan several times in a row."""
        self._meters_of: dict[tuple[str, str], list[Meter]] = {}
        self._duplicate_window_ns = 0
        self._use(book)

    @property
    def kills(self) -> dict[str, Killed]:
        """By scope: nothing is sent until a named person resumes it."""
        return self._ledger.kills

    @property
    def halts(self) -> dict[str, Killed]:
        """By scope: only what reduces is sent until a named person resumes it."""
        return self._ledger.halts

    # ── questions ───────────────────────────────────────────────────────────────────────────

    def check(self, spec: OrderSpec, reference: Reference | None, now: int) -> Check | None:
        """Return the first rule that an order breaks, None if it may be sent. `now` is ns."""
        return self._first_broken(self._ask(spec, reference, now, spec.quantity, 0, 0, 1))

    def shortage(self, spec: OrderSpec, reference: Reference | None, now: int) -> Shortage | None:
        """Return what an order is short of, if all that it breaks first is this partition's part of a limit."""
        return self._short(self._ask(spec, reference, now, spec.quantity, 0, 0, 1), self._plan(spec).steps)

    def check_amendment(
        self, wanted: OrderSpec, open_quantity: int, counted: tuple[int, int], reference: Reference | None, now: int
    ) -> Check | None:
        """Return the first rule that new terms break: sizes on the whole order, exposure on the difference.

        Args:
            wanted: The order with its new terms.
            open_quantity: What would be open of it, nanos.
            counted: Quantity and price at which the order counts now.
        """
        return self._first_broken(self._ask_amended(wanted, open_quantity, counted, reference, now))

    def shortage_of_amendment(
        self, wanted: OrderSpec, open_quantity: int, counted: tuple[int, int], reference: Reference | None, now: int
    ) -> Shortage | None:
        """Return what new terms are short of, as `shortage` does; arguments as of `check_amendment`."""
        question = self._ask_amended(wanted, open_quantity, counted, reference, now)
        return self._short(question, self._plan(wanted).steps)

    def check_waiting(self, spec: OrderSpec, reference: Reference | None, now: int, *, opens: int = 1) -> Check | None:
        """Return the first rule that a child breaks before its parent has filled.

        Args:
            reference: Of the moment when it will be released: its last price is the parent's, if that has one.
            opens: 0 for an amendment.
        """
        question = self._ask(spec, reference, now, spec.quantity, 0, 0, opens)
        return self._first_broken(question, self._plan(spec).waiting_steps)

    def shortage_of_waiting(
        self, spec: OrderSpec, reference: Reference | None, now: int, *, opens: int = 1
    ) -> Shortage | None:
        """Return what a child is short of, as `shortage` does; arguments as of `check_waiting`."""
        question = self._ask(spec, reference, now, spec.quantity, 0, 0, opens)
        return self._short(question, self._plan(spec).waiting_steps)

    def check_release(self, spec: OrderSpec, reserved: int, now: int, open_on_side: int | None = None) -> Check | None:
        """Return the first rule that a child breaks whose parent has executed; one that reduces passes all but a kill.

        Args:
            reserved: The price at which it will count, nanos.
            open_on_side: What else could execute on its side, nanos; None for all open orders.
        """
        question = self._ask(spec, None, now, spec.quantity, 0, 0, 0, reserved)
        question.released = True
        if open_on_side is not None:
            question.reduces = self._reduces(question, open_on_side)
        steps = self._plan(spec).release_steps
        if question.reduces:
            steps = [step for step in steps if step[2].code == RejectCode.KILLED]
        return self._first_broken(question, steps)

    def explain(self, spec: OrderSpec, reference: Reference | None, now: int) -> list[Check]:
        """Return every rule that applies, with its limit and what was measured."""
        question = self._ask(spec, reference, now, spec.quantity, 0, 0, 1)
        plan = self._plan(spec)
        return [self._verdict(rule, question, plan) for rule in plan.rules]

    def reserved_price(self, spec: OrderSpec, reference: Reference | None) -> int:
        """Return the price at which an order counts in the limits, nanos; 0 if nothing is known.

        A limit price bounds what a buy costs. A sell may execute above its limit, so it counts at the
        market if that is higher. Without a limit, a buy counts with a buffer above the market or stop.
        """
        market = reference.last if reference is not None else self._ledger.marks.get(spec.instrument, 0)
        price = spec.price
        if price:
            return price if spec.side == "BUY" or spec.is_held else max(price, market)
        base = spec.stop_price or market
        return base + base * BUY_BUFFER_PERCENT // 100 if spec.side == "BUY" else base

    def position(self, account: str, instrument: str) -> Position:
        """Return an account's position; an empty one if it never had any."""
        leaf = self._ledger.leaves.get(("", account, instrument))
        return leaf.position if leaf is not None else Position()

    def positions(self, account: str) -> dict[str, Position]:
        """Every position that the account ever had, by instrument."""
        return {
            instrument: leaf.position
            for (holder, owner, instrument), leaf in sorted(self._ledger.leaves.items())
            if not holder and owner == account and leaf.position.fills
        }

    def exposure(self, kind: str, name: str = "") -> Exposure:
        """Return the exposure of `firm` (or `stack`), or of a named account, strategy, instrument, trader, desk, client."""
        return self.group(kind, name).exposure()

    def group(self, kind: str, name: str = "") -> Group:
        """Return the sums of a scope, to be added to those of other accounts."""
        scope = "stack" if kind in ("firm", "stack") else f"{kind}:{name}"
        return self._ledger.groups.get(scope, NOBODY)

    def multiplier(self, instrument: str) -> int:
        """Return the multiplier of an instrument, nanos."""
        return self._ledger.multiplier(instrument)

    def scopes_known(self) -> list[str]:
        """Every scope that has ever had an order or a position."""
        return sorted(self._ledger.groups)

    def last_message(self, scope: str) -> int:
        """When (ns) a scope last sent something that counted in its rate, or a little later; 0 if it has none."""
        return self._ledger.message_times.get(scope, 0)

    def to_halt(self, ts: int) -> list[Killed]:
        """Return the halts that are due: fold them as `Killed` and they are due no longer."""
        return list(self._ledger.tripped.values())

    # ── folds ───────────────────────────────────────────────────────────────────────────────

    def order_sent(self, spec: OrderSpec, ts: int) -> None:
        """An order was decided on, accepted or refused: it counts as a message."""
        for meter in self._plan(spec).meters:
            meter.take(ts)
        self._last_sent = (spec, ts)

    def message_sent(self, account: str, strategy: str, ts: int) -> None:
        """An amendment or cancellation was asked for."""
        self._last_sent = None
        for meter in self._message_meters(account, strategy):
            meter.take(ts)

    def order_changed(
        self, spec: OrderSpec, qty_before: int, price_before: int, qty_after: int, price_after: int
    ) -> None:
        """What an order counts for in the limits has changed."""
        quantity, cost = qty_after - qty_before, qty_after * price_after - qty_before * price_before
        orders = (qty_after > 0) - (qty_before > 0)
        buy = spec.side == "BUY"
        for leaf in self._counting(spec).leaves:
            leaf.reserve(buy, quantity, cost, orders)
        # Only what counts as it is sent is an original: a child that is amended or released later is no new order,
        # and whether it was the last one sent is not in a snapshot.
        window, sent, self._last_sent = self._duplicate_window_ns, self._last_sent, None
        if window and orders > 0 and sent is not None and sent[0] is spec:
            self._ledger.remember(spec, sent[1], window)

    def child_waits(self, spec: OrderSpec, change: int) -> None:
        """A child of a list waits for its parent (1), or does so no longer (-1): it counts as an open order only."""
        for leaf in self._counting(spec).leaves:
            for group in leaf.groups:
                group.waiting += change

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
        for leaf in self._counting(spec).leaves:
            realized = leaf.position.apply_fill(signed, event.last_px, event.fee, event.multiplier)
            for group in leaf.groups:
                group.realize(day, realized - event.fee)
            leaf.revalue()
        plan = self._plan(spec)
        for scope, limit in plan.losses:
            if self._ledger.groups[scope].loss(ts) > limit:
                loss = f"lost {r.money(self._ledger.groups[scope].loss(ts))} today, the most is {r.money(limit)}"
                self._ledger.trip(scope, loss, "breach")
        for meter in plan.executions:
            if not meter.take(ts):
                count = f"executed more than {meter.count} times within {r.seconds(meter.slack + meter.interval)}"
                self._ledger.trip(meter.scope, count, "repeated_execution")

    def marked(self, instrument: str, price: int) -> None:
        """The market's price of an instrument; positions follow in steps of `REMARK_BPS`."""
        before = self._ledger.marks.get(instrument, 0)
        if before and abs(price - before) * r.BPS < before * REMARK_BPS:
            return
        self._ledger.marks[instrument] = price
        for leaf in self._ledger.holders(instrument):
            leaf.mark = price
            if leaf.position.quantity:
                leaf.revalue()

    def killed(self, event: Killed) -> None:
        """A scope is stopped. A halt never weakens a kill."""
        self._ledger.tripped.pop(event.scope, None)
        (self.halts if event.halt else self.kills)[event.scope] = event

    def resumed(self, event: Resumed) -> None:
        """A person released a scope: executions and the day's loss count from here."""
        for stopped in (self.kills, self.halts, self._ledger.tripped):
            stopped.pop(event.scope, None)
        self._ledger.execution_times.pop(event.scope, None)
        group = self._ledger.groups.get(event.scope)
        if group is not None:
            group.forgive()

    def limits_adopted(self, limits: LimitBook | msgspec.Raw | bytes) -> None:
        """From here on other limits hold."""
        self._use(limits if isinstance(limits, LimitBook) else msgspec.json.decode(bytes(limits), type=LimitBook))

    # ── snapshot ────────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> bytes:
        """The state as JSON; equal states give equal bytes."""
        return self._ledger.snapshot(self.book)

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot, in place of everything that was folded here.

        Raises:
            msgspec.DecodeError: it is no snapshot of controls.
        """
        self._ledger, book = Ledger.restored(snapshot, self._ledger.instruments)
        self._last_sent = None
        self._use(book)

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
        reserved: int | None = None,
    ) -> Question:
        plan = self._plan(spec)
        q = Question()
        q.spec, q.reference, q.now, q.opens, q.released = spec, reference, now, opens, False
        q.buy = buy = spec.side == "BUY"
        if reserved is None:
            reserved = self.reserved_price(spec, reference)
        q.reserved = reserved
        q.quantity = open_quantity - counted_quantity
        q.cost = open_quantity * reserved - counted_quantity * counted_price
        value = spec.quantity * reserved
        q.value = value if plan.multiplier == SCALE else value * plan.multiplier // SCALE
        if spec.is_held:
            q.market, q.priced = spec.stop_price, False
        else:
            fresh = reference is not None and now - reference.ts <= plan.allowed_age
            q.market = reference.last if fresh and reference is not None else 0
            q.priced = bool(spec.price)
        q.leaf = leaf = self._ledger.leaves.get(plan.leaf_key, NOTHING)
        q.reduces = self._reduces(q, leaf.buy_quantity if buy else leaf.sell_quantity)
        return q

    def _ask_amended(
        self, wanted: OrderSpec, open_quantity: int, counted: tuple[int, int], reference: Reference | None, now: int
    ) -> Question:
        q = self._ask(wanted, reference, now, open_quantity, *counted, 0)
        q.reduces = q.reduces or (q.quantity <= 0 and q.cost <= 0)  # a smaller order never adds exposure
        return q

    @staticmethod
    def _reduces(q: Question, open_on_side: int) -> bool:
        position = q.leaf.position.quantity
        if q.buy:
            return position < 0 and open_on_side + q.quantity <= -position
        return position > 0 and open_on_side + q.quantity <= position

    def _first_broken(self, question: Question, steps: list[Step] | None = None) -> Check | None:
        reduces, plan = question.reduces, self._plan(question.spec)
        for measure, limit, rule in plan.steps if steps is None else steps:
            if measure(question) > limit and not (reduces and rule.spares_reducing):
                return self._verdict(rule, question, plan)
        return None

    def _short(self, question: Question, steps: list[Step]) -> Shortage | None:
        if self.book.partitions == 1:
            return None
        for measure, limit, rule in steps:
            actual = measure(question)
            if actual <= limit or (question.reduces and rule.spares_reducing):
                continue
            part = slice_in(self.book.slices, rule.scope, rule.name)
            if part is None:
                return None
            needed = -(-actual // SCALE) if rule.show is r.money else actual
            return Shortage(rule.scope, rule.name, needed) if needed <= part.of else None
        return None

    def _verdict(self, rule: r.Rule, question: Question, plan: Plan) -> Check:
        found = verdict(rule, question, plan, self._ledger)
        part = slice_in(self.book.slices, rule.scope, rule.name)
        if part is None:
            return found
        whole = rule.show(part.of * SCALE if rule.show is r.money else part.of)
        share = f"{found.limit} of {whole} are for this partition's accounts now"
        if found.passed:
            return msgspec.structs.replace(found, message=f"{found.message}; {share}")
        advice = "others use the rest; free some, or try again (`trade2026 limits slices`)"
        told = f"{rule.name} of {found.scope} would be {found.actual}: {share}, {advice}"
        return msgspec.structs.replace(found, message=told)

    def _plan(self, spec: OrderSpec) -> Plan:
        last, plan = self._last_plan
        if last is spec and plan is not None:
            return plan
        key = (spec.account, spec.strategy, spec.instrument, spec.trader, spec.desk, spec.client)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            plan = self._plans[key] = Plan(spec, self.book, self._ledger)
        self._last_plan = (spec, plan)
        return plan

    def _counting(self, spec: OrderSpec) -> Plan:
        """The plan of an order that counts, with its leaves."""
        plan = self._plan(spec)
        if not plan.leaves:
            plan.leaves = self._ledger.leaves_of(spec)
        return plan

    # ── bookkeeping ─────────────────────────────────────────────────────────────────────────

    def _use(self, book: LimitBook) -> None:
        self.book = book
        self._plans, self._meters_of, self._last_plan = {}, {}, (None, None)
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

    def _message_meters(self, account: str, strategy: str) -> list[Meter]:
        meters = self._meters_of.get((account, strategy))
        if meters is None:
            named = [("stack", self.book.stack), (f"account:{account}", self.book.of("account", account))]
            if strategy:
                named.append((f"strategy:{strategy}", self.book.of("strategy", strategy)))
            meters = [
                Meter(scope, each.order_rate, self._ledger.message_times)
                for scope, each in named
                if each.order_rate is not None
            ]
            if len(self._meters_of) >= _PLANS_MAX:
                self._meters_of.clear()
            self._meters_of[account, strategy] = meters
        return meters
