"""Pre-trade controls: which orders may be sent, given everything that was sent before.

A sent order counts at once, before any venue answers. Exposure is kept incrementally: each leaf, an
account in an instrument, is valued at its worst case (all buys or all sells execute), and its change is
added to every total that it belongs to. Pure: the same events give the same state.
"""

from collections import deque
from typing import NamedTuple

import msgspec

from trade2026.controls.limits import LimitBook, LimitSet, Rate
from trade2026.domain.events import Killed, OrderFilled, Resumed
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Reference
from trade2026.domain.numbers import BPS, SCALE, cost_to_nanos, to_text
from trade2026.domain.orders import OrderSpec
from trade2026.domain.positions import Position
from trade2026.domain.rejects import RejectCode

MARKET_BUFFER_BPS = 500
"""A market buy counts this much above the reference, since it may execute there."""

SCOPE_KINDS = ("account", "strategy", "instrument", "venue", "desk", "trader", "client")
_DAY = 86_400 * SCALE
_EXECUTIONS_KEPT_MAX = 100_000


class Check(NamedTuple):
    """One rule's verdict, with the numbers in it."""

    rule: str
    code: str
    passed: bool
    scope: str
    limit: str
    actual: str
    message: str


class Leaf:
    """One account in one instrument: its position and what is open, in nanos and at `COST_SCALE`."""

    __slots__ = ("buy_cost", "buy_qty", "mark", "position", "sell_cost", "sell_qty", "value")

    def __init__(self) -> None:
        self.position = Position()
        self.buy_qty = self.buy_cost = self.sell_qty = self.sell_cost = 0
        self.mark = 0
        self.value = 0

    def worst(self, buy_qty: int, buy_cost: int, sell_qty: int, sell_cost: int) -> int:
        """Worst-case value at `COST_SCALE` with these quantities open."""
        held = self.position.quantity * self.mark
        return max(abs(held), abs(held + buy_cost), abs(held - sell_cost))


class Total:
    """Sums over the leaves of one scope."""

    __slots__ = ("gross", "net", "open_orders")

    def __init__(self) -> None:
        self.gross = self.net = self.open_orders = 0


class Meter:
    """A generic cell rate: at most `count` per `per_ns`, with a burst of `count`."""

    __slots__ = ("arrival",)

    def __init__(self) -> None:
        self.arrival = 0

    def allows(self, rate: Rate, now: int) -> bool:
        step = rate.per_ns // max(1, rate.count)
        return self.arrival - now <= rate.per_ns - step

    def hit(self, rate: Rate, now: int) -> None:
        self.arrival = max(self.arrival, now) + rate.per_ns // max(1, rate.count)


class _Rules(NamedTuple):
    scope: str
    limits: LimitSet


class Controls:
    """The limits in force, and all that counts towards them.

    Args:
        book: The limits to begin with.
        instruments: By id.
    """

    def __init__(self, book: LimitBook, instruments: dict[str, Instrument]) -> None:
        self.book = book
        self.instruments = instruments
        self.leaves: dict[tuple[str, str], Leaf] = {}
        self.totals: dict[str, Total] = {"stack": Total()}
        self.killed_scopes: dict[str, Killed] = {}
        self.loss_today: dict[str, int] = {}
        self._loss_day = 0
        self._meters: dict[str, Meter] = {}
        self._recent: dict[tuple[object, ...], int] = {}
        self._executions: dict[str, deque[int]] = {}
        self._tripped: dict[str, Killed] = {}
        self._rules_cache: dict[tuple[str, str, str, str, str], tuple[_Rules, ...]] = {}

    # ── decisions ───────────────────────────────────────────────────────────────────────────

    def check(self, spec: OrderSpec, reference: Reference | None, now: int) -> Check | None:
        """Return the first rule that refuses the order, or None."""
        for verdict in self._verdicts(spec, reference, now):
            if not verdict.passed:
                return verdict
        return None

    def explain(self, spec: OrderSpec, reference: Reference | None, now: int) -> list[Check]:
        """Return the verdict of every rule that applies."""
        return list(self._verdicts(spec, reference, now, explain=True))

    def reserved_price(self, spec: OrderSpec, reference: Reference | None) -> int:
        """The price at which the order counts in the limits, in nanos."""
        if spec.price:
            return spec.price
        base = spec.stop_price or (reference.last if reference is not None else 0)
        return base * (BPS + MARKET_BUFFER_BPS) // BPS if spec.side == "BUY" else base

    def in_scope(self, scope: str, spec: OrderSpec) -> bool:
        """Whether an order belongs to a scope."""
        if scope == "stack":
            return True
        kind, _, name = scope.partition(":")
        if kind == "venue":
            return spec.instrument.rpartition(".")[2] == name
        return kind in SCOPE_KINDS and getattr(spec, kind) == name

    @staticmethod
    def is_scope(scope: str) -> bool:
        """Whether a text names a scope."""
        kind, _, name = scope.partition(":")
        return scope == "stack" or (kind in SCOPE_KINDS and bool(name))

    def _rules(self, spec: OrderSpec) -> tuple[_Rules, ...]:
        key = (spec.account, spec.strategy, spec.instrument, spec.trader, spec.desk)
        found = self._rules_cache.get(key)
        if found is None:
            book = self.book
            rules = [
                _Rules("stack", book.stack),
                _Rules(f"account:{spec.account}", book.accounts.get(spec.account, book.account_default)),
            ]
            if spec.strategy:
                rules.append(
                    _Rules(f"strategy:{spec.strategy}", book.strategies.get(spec.strategy, book.strategy_default))
                )
            for kind, name, table in (
                ("instrument", spec.instrument, book.instruments),
                ("trader", spec.trader, book.traders),
                ("desk", spec.desk, book.desks),
            ):
                if name in table:
                    rules.append(_Rules(f"{kind}:{name}", table[name]))
            if len(self._rules_cache) > 10_000:
                self._rules_cache.clear()
            found = self._rules_cache[key] = tuple(rules)
        return found

    def _verdicts(self, spec: OrderSpec, reference: Reference | None, now: int, explain: bool = False):  # type: ignore[no-untyped-def]
        if self.killed_scopes or explain:
            yield self._stopped(spec)
        price = self.reserved_price(spec, reference)
        cost = price * spec.quantity
        reduces = self._reduces(spec)
        leaf = self.leaves.get((spec.account, spec.instrument))
        added_gross, net = self._added(leaf, spec, cost)
        for scope, limits in self._rules(spec):
            yield from self._permissions(spec, scope, limits, explain)
            yield from self._size(spec, scope, limits, cost, explain)
            yield from self._prices(spec, scope, limits, reference, now, explain)
            yield from self._rate(spec, scope, limits, now, explain)
            if not reduces:
                yield from self._exposure(spec, scope, limits, leaf, added_gross, net, now, explain)

    def _stopped(self, spec: OrderSpec) -> Check:
        for scope, killed in self.killed_scopes.items():
            if self.in_scope(scope, spec) and not (killed.halt and spec.reduce_only):
                code = RejectCode.KILLED
                if killed.halt:
                    code = RejectCode.REPEATED_EXECUTION if killed.cause == "repeated_execution" else RejectCode.HALTED
                return Check(
                    "stopped",
                    code,
                    False,
                    scope,
                    "",
                    "",
                    f"{scope} is stopped by {killed.by}: {killed.reason}; a named person must resume it",
                )
        return Check("stopped", RejectCode.KILLED, True, "stack", "", "", "nothing in its scope is stopped")

    def _permissions(self, spec: OrderSpec, scope: str, limits: LimitSet, explain: bool):  # type: ignore[no-untyped-def]
        symbol, _, venue = spec.instrument.rpartition(".")
        if limits.restricted is not None:
            ok = spec.instrument not in limits.restricted and symbol not in limits.restricted
            if explain or not ok:
                yield Check(
                    "restricted_list",
                    RejectCode.RESTRICTED,
                    ok,
                    scope,
                    ",".join(limits.restricted),
                    spec.instrument,
                    f"{spec.instrument} is on the restricted list of {scope}",
                )
        if limits.allowed_instruments is not None:
            ok = spec.instrument in limits.allowed_instruments or symbol in limits.allowed_instruments
            if explain or not ok:
                yield Check(
                    "allowed_instruments",
                    RejectCode.NOT_PERMITTED,
                    ok,
                    scope,
                    ",".join(limits.allowed_instruments),
                    spec.instrument,
                    f"{scope} may not trade {spec.instrument}",
                )
        if limits.allowed_venues is not None:
            ok = venue in limits.allowed_venues
            if explain or not ok:
                yield Check(
                    "allowed_venues",
                    RejectCode.NOT_PERMITTED,
                    ok,
                    scope,
                    ",".join(limits.allowed_venues),
                    venue,
                    f"{scope} may not trade at {venue}",
                )

    def _size(self, spec: OrderSpec, scope: str, limits: LimitSet, cost: int, explain: bool):  # type: ignore[no-untyped-def]
        most = limits.max_order_quantity
        if most is not None and (explain or spec.quantity > most):
            yield _amount("max_order_quantity", RejectCode.MAX_ORDER_QUANTITY, scope, most, spec.quantity)
        most = limits.max_order_value
        if most is not None and (explain or cost > most * SCALE):
            yield _amount("max_order_value", RejectCode.MAX_ORDER_VALUE, scope, most, cost_to_nanos(cost))

    def _prices(
        self, spec: OrderSpec, scope: str, limits: LimitSet, reference: Reference | None, now: int, explain: bool
    ):  # type: ignore[no-untyped-def]
        aggressive, passive, window = limits.price_collar_bps, limits.passive_collar_bps, limits.price_window_bps
        if aggressive is None and passive is None and window is None:
            return
        if reference is None or now - reference.ts > self.book.reference_age_ns_max:
            yield Check(
                "price_collar",
                RejectCode.NO_REFERENCE_PRICE,
                False,
                scope,
                "",
                "",
                f"{spec.instrument} has no fresh price to compare with; wait for market data",
            )
            return
        if not spec.price:
            return
        away = (spec.price - reference.last) * (1 if spec.side == "BUY" else -1)
        bps = away * BPS // reference.last
        most = aggressive if away > 0 else passive
        if most is not None:
            ok = abs(away) * BPS <= most * reference.last
            if explain or not ok:
                yield Check(
                    "price_collar",
                    RejectCode.PRICE_COLLAR,
                    ok,
                    scope,
                    f"{most} bps",
                    f"{bps} bps",
                    f"{to_text(spec.price)} is {abs(bps)} bps from the last price {to_text(reference.last)}; {scope} allows {most}",
                )
        if window is not None:
            ok = reference.low * (BPS - window) <= spec.price * BPS <= reference.high * (BPS + window)
            if explain or not ok:
                yield Check(
                    "price_window",
                    RejectCode.PRICE_WINDOW,
                    ok,
                    scope,
                    f"{window} bps",
                    to_text(spec.price),
                    f"{to_text(spec.price)} is outside the prices of the last window, {to_text(reference.low)} to {to_text(reference.high)}, by more than {window} bps",
                )

    def _rate(self, spec: OrderSpec, scope: str, limits: LimitSet, now: int, explain: bool):  # type: ignore[no-untyped-def]
        rate = limits.order_rate
        if rate is not None:
            meter = self._meters.get(scope)
            ok = meter is None or meter.allows(rate, now)
            if explain or not ok:
                yield Check(
                    "order_rate",
                    RejectCode.ORDER_RATE,
                    ok,
                    scope,
                    f"{rate.count} in {rate.per_ns / SCALE:g} s",
                    "",
                    f"{scope} may send {rate.count} messages in {rate.per_ns / SCALE:g} s; slow down",
                )
        window = limits.duplicate_window_ns
        if window:
            sent = self._recent.get(_content(spec))
            ok = sent is None or now - sent >= window
            if explain or not ok:
                yield Check(
                    "duplicate_order",
                    RejectCode.DUPLICATE_ORDER,
                    ok,
                    scope,
                    f"{window / SCALE:g} s",
                    "",
                    f"the same order was sent less than {window / SCALE:g} s ago; change it or wait",
                )

    def _exposure(
        self,
        spec: OrderSpec,
        scope: str,
        limits: LimitSet,
        leaf: Leaf | None,
        added: int,
        net: int,
        now: int,
        explain: bool,
    ):  # type: ignore[no-untyped-def]
        total = self.totals.get(scope) or Total()
        most = limits.max_open_orders
        if most is not None and (explain or total.open_orders + 1 > most):
            ok = total.open_orders + 1 <= most
            yield Check(
                "max_open_orders",
                RejectCode.MAX_OPEN_ORDERS,
                ok,
                scope,
                str(most),
                str(total.open_orders + 1),
                f"{scope} has {total.open_orders} open orders, the most is {most}",
            )
        most = limits.max_gross_exposure
        if most is not None and (explain or total.gross + added > most * SCALE):
            yield _amount(
                "max_gross_exposure", RejectCode.CREDIT_THRESHOLD, scope, most, cost_to_nanos(total.gross + added)
            )
        most = limits.max_net_exposure
        if most is not None and (explain or abs(total.net + net) > most * SCALE):
            yield _amount(
                "max_net_exposure", RejectCode.MAX_NET_EXPOSURE, scope, most, cost_to_nanos(abs(total.net + net))
            )
        most = limits.max_position
        if most is not None:
            held = leaf.position.quantity if leaf is not None else 0
            open_qty = 0 if leaf is None else leaf.buy_qty if spec.side == "BUY" else leaf.sell_qty
            after = abs(held + open_qty + spec.quantity) if spec.side == "BUY" else abs(held - open_qty - spec.quantity)
            if explain or after > most:
                yield _amount("max_position", RejectCode.MAX_POSITION, scope, most, after)
        most = limits.max_daily_loss
        if most is not None:
            lost = self.loss_today.get(scope, 0) if now // _DAY == self._loss_day else 0
            if explain or lost >= most * SCALE:
                ok = lost < most * SCALE
                yield Check(
                    "max_daily_loss",
                    RejectCode.MAX_DAILY_LOSS,
                    ok,
                    scope,
                    to_text(most),
                    to_text(cost_to_nanos(lost)),
                    f"{scope} has lost {to_text(cost_to_nanos(lost))} today, the most is {to_text(most)}",
                )

    def _reduces(self, spec: OrderSpec) -> bool:
        leaf = self.leaves.get((spec.account, spec.instrument))
        if leaf is None:
            return False
        held = leaf.position.quantity
        if spec.side == "SELL":
            return held > 0 and leaf.sell_qty + spec.quantity <= held
        return held < 0 and leaf.buy_qty + spec.quantity <= -held

    @staticmethod
    def _added(leaf: Leaf | None, spec: OrderSpec, cost: int) -> tuple[int, int]:
        net = cost if spec.side == "BUY" else -cost
        if leaf is None:
            return cost, net
        if spec.side == "BUY":
            after = leaf.worst(leaf.buy_qty + spec.quantity, leaf.buy_cost + cost, leaf.sell_qty, leaf.sell_cost)
        else:
            after = leaf.worst(leaf.buy_qty, leaf.buy_cost, leaf.sell_qty + spec.quantity, leaf.sell_cost + cost)
        return after - leaf.value, net

    # ── folds ───────────────────────────────────────────────────────────────────────────────

    def order_sent(self, spec: OrderSpec, ts: int) -> None:
        """A submission was decided: it counts in the rates, and its content is remembered."""
        self._count_messages(self._rules(spec), ts)
        window = max((rules.limits.duplicate_window_ns or 0 for rules in self._rules(spec)), default=0)
        if window:
            recent = self._recent
            recent.pop(_content(spec), None)
            recent[_content(spec)] = ts
            while recent and ts - next(iter(recent.values())) > window:
                del recent[next(iter(recent))]

    def message_sent(self, account: str, strategy: str, ts: int) -> None:
        """A cancel or amendment counts in the rates; it is never refused for them."""
        scopes = [
            ("stack", self.book.stack),
            (f"account:{account}", self.book.accounts.get(account, self.book.account_default)),
        ]
        self._count_messages(tuple(_Rules(scope, limits) for scope, limits in scopes), ts)

    def _count_messages(self, rules: tuple[_Rules, ...], ts: int) -> None:
        for scope, limits in rules:
            if limits.order_rate is not None:
                self._meters.setdefault(scope, Meter()).hit(limits.order_rate, ts)

    def order_changed(
        self, spec: OrderSpec, qty_before: int, price_before: int, qty_after: int, price_after: int
    ) -> None:
        """The quantity of an order that counts has changed, or its price has."""
        leaf = self._leaf(spec.account, spec.instrument)
        quantity = qty_after - qty_before
        cost = qty_after * price_after - qty_before * price_before
        if spec.side == "BUY":
            leaf.buy_qty += quantity
            leaf.buy_cost += cost
        else:
            leaf.sell_qty += quantity
            leaf.sell_cost += cost
        opened = (qty_after > 0) - (qty_before > 0)
        net = cost if spec.side == "BUY" else -cost
        self._spread(leaf, self._scopes(spec), opened, net)

    def filled(self, event: OrderFilled, ts: int) -> None:
        """A fill moves the position, the day's loss and the strategy's count of executions."""
        leaf = self._leaf(event.account, event.instrument)
        signed = event.last_qty if event.side == "BUY" else -event.last_qty
        held = leaf.position.quantity * leaf.mark
        realized = leaf.position.apply_fill(signed, event.last_px, event.fee)
        leaf.mark = event.last_px
        net = leaf.position.quantity * leaf.mark - held
        scopes = ["stack", f"account:{event.account}", f"instrument:{event.instrument}"]
        scopes += [
            f"{kind}:{getattr(event, kind)}"
            for kind in ("strategy", "trader", "desk", "client")
            if getattr(event, kind)
        ]
        self._spread(leaf, scopes, 0, net)
        day = ts // _DAY
        if day != self._loss_day:
            self._loss_day, self.loss_today = day, {}
        for scope in scopes:
            self.loss_today[scope] = self.loss_today.get(scope, 0) - realized + event.fee
        self._watch(event, ts, scopes)

    def _watch(self, event: OrderFilled, ts: int, scopes: list[str]) -> None:
        if event.strategy:
            limits = self.book.strategies.get(event.strategy, self.book.strategy_default)
            rate = limits.max_executions
            if rate is not None:
                executions = self._executions.setdefault(event.strategy, deque(maxlen=_EXECUTIONS_KEPT_MAX))
                executions.append(ts)
                while executions and ts - executions[0] >= rate.per_ns:
                    executions.popleft()
                scope = f"strategy:{event.strategy}"
                if len(executions) > rate.count and scope not in self.killed_scopes:
                    reason = f"{len(executions)} executions in {rate.per_ns / SCALE:g} s, the most is {rate.count}"
                    self._tripped[scope] = Killed(
                        scope=scope, reason=reason, by="controls", halt=True, cause="repeated_execution"
                    )
        account = f"account:{event.account}"
        most = self.book.accounts.get(event.account, self.book.account_default).max_daily_loss
        if most is not None and self.loss_today[account] >= most * SCALE and account not in self.killed_scopes:
            reason = f"lost {to_text(cost_to_nanos(self.loss_today[account]))} today, the most is {to_text(most)}"
            self._tripped[account] = Killed(scope=account, reason=reason, by="controls", halt=True, cause="breach")

    def to_halt(self, ts: int) -> list[Killed]:
        """Return the halts that the last fills call for and that no event has recorded yet."""
        return list(self._tripped.values()) if self._tripped else []

    def marked(self, instrument: str, price: int) -> None:
        """A price was sequenced; positions are revalued when their account trades next."""

    def killed(self, event: Killed) -> None:
        """A scope is stopped."""
        present = self.killed_scopes.get(event.scope)
        if present is None or present.halt:
            self.killed_scopes[event.scope] = event
        self._tripped.pop(event.scope, None)

    def resumed(self, event: Resumed) -> None:
        """A named person released a scope; its count of executions begins anew."""
        self.killed_scopes.pop(event.scope, None)
        self._executions.pop(event.scope.removeprefix("strategy:"), None)

    def limits_adopted(self, limits: msgspec.Raw) -> None:
        """Other limits are in force from here on."""
        self.book = msgspec.json.decode(limits, type=LimitBook)
        self._rules_cache.clear()

    def position(self, account: str, instrument: str) -> Position:
        """The position; an empty one where there is none."""
        leaf = self.leaves.get((account, instrument))
        return leaf.position if leaf is not None else Position()

    def exposure(self, scope: str) -> dict[str, str | int]:
        """Exposure on demand of a scope: gross and net value and the number of open orders."""
        total = self.totals.get(scope) or Total()
        return {
            "scope": scope,
            "gross": to_text(cost_to_nanos(total.gross)),
            "net": to_text(cost_to_nanos(total.net)),
            "open_orders": total.open_orders,
        }

    def _leaf(self, account: str, instrument: str) -> Leaf:
        leaf = self.leaves.get((account, instrument))
        if leaf is None:
            leaf = self.leaves[account, instrument] = Leaf()
        return leaf

    @staticmethod
    def _scopes(spec: OrderSpec) -> list[str]:
        scopes = ["stack", f"account:{spec.account}", f"instrument:{spec.instrument}"]
        if spec.strategy:
            scopes.append(f"strategy:{spec.strategy}")
        if spec.trader:
            scopes.append(f"trader:{spec.trader}")
        if spec.desk:
            scopes.append(f"desk:{spec.desk}")
        if spec.client:
            scopes.append(f"client:{spec.client}")
        return scopes

    def _spread(self, leaf: Leaf, scopes: list[str], opened: int, net: int) -> None:
        value = leaf.worst(leaf.buy_qty, leaf.buy_cost, leaf.sell_qty, leaf.sell_cost)
        gross = value - leaf.value
        leaf.value = value
        totals = self.totals
        for scope in scopes:
            total = totals.get(scope)
            if total is None:
                total = totals[scope] = Total()
            total.gross += gross
            total.net += net
            total.open_orders += opened


def _content(spec: OrderSpec) -> tuple[object, ...]:
    return (spec.account, spec.instrument, spec.side, spec.order_type, spec.quantity, spec.price, spec.stop_price)


def _amount(rule: str, code: str, scope: str, most: int, actual: int) -> Check:
    return Check(
        rule,
        code,
        actual <= most,
        scope,
        to_text(most),
        to_text(actual),
        f"{rule} of {scope} is {to_text(most)}, this would make {to_text(actual)}",
    )
