"""What holds for every history: sums equal their parts, snapshots equal folds, tightening never widens."""

from collections import defaultdict
from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from trade2026.controls.limits import LimitBook, LimitSet, Rate, loosens, tightest
from trade2026.controls.machine import Controls
from trade2026.domain.events import Killed, OrderFilled, Resumed
from trade2026.domain.market import Reference
from trade2026.domain.orders import OrderSpec, OrderType

UNIT = 10**9
SECOND = 10**9
NOW = 1_700_000_000 * SECOND

amounts = st.one_of(st.none(), st.integers(0, 20))
rates = st.one_of(st.none(), st.builds(Rate, count=st.integers(0, 5), per_ns=st.integers(1, 5 * SECOND)))
names = st.one_of(st.none(), st.lists(st.sampled_from(["A.X", "B", "B.X", "X", "Y"]), max_size=3))


def _of(kind: object) -> object:
    text = str(kind)
    return rates if "Rate" in text else names if "list" in text else amounts


limit_sets = st.builds(
    LimitSet,
    **{field.name: _of(field.type) for field in msgspec.structs.fields(LimitSet)},  # type: ignore[arg-type]
)
specs = st.builds(
    OrderSpec,
    client_order_id=st.just("c"),
    account=st.sampled_from(["a", "b"]),
    instrument=st.sampled_from(["A.X", "B.X", "B.Y"]),
    side=st.sampled_from(["BUY", "SELL"]),
    order_type=st.just(OrderType.LIMIT),
    quantity=st.integers(1, 5).map(lambda n: n * UNIT),
    price=st.integers(1, 20).map(lambda n: n * UNIT),
    strategy=st.sampled_from(["", "s", "t"]),
    trader=st.sampled_from(["", "u"]),
    reduce_only=st.booleans(),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["open", "open", "shrink", "close", "fill", "fill", "mark", "message", "kill", "resume"]),
        specs,
        st.integers(1, 20).map(lambda n: n * UNIT),
    ),
    max_size=40,
)
Step = tuple[str, OrderSpec, int]


class History:
    """Plays steps into controls and remembers everything in the most obvious way."""

    def __init__(self, machine: Controls) -> None:
        self.machine = machine
        self.open: list[tuple[OrderSpec, int, int]] = []
        self.fills: list[OrderFilled] = []
        self.marks: dict[str, int] = {}
        self.now = NOW

    def play(self, step: Step) -> None:
        kind, spec, price = step
        self.now += SECOND // 10
        machine = self.machine
        if kind == "open":
            machine.order_sent(spec, self.now)
            machine.order_changed(spec, 0, 0, spec.quantity, spec.price)
            self.open.append((spec, spec.quantity, spec.price))
        elif kind in ("shrink", "close") and self.open:
            spec, quantity, before = self.open.pop(0)
            left, after = (quantity // 2, price) if kind == "shrink" else (0, 0)
            machine.order_changed(spec, quantity, before, left, after)
            if left:
                self.open.append((spec, left, after))
        elif kind == "fill":
            fill = OrderFilled(
                order_id="o",
                exec_id="e",
                account=spec.account,
                instrument=spec.instrument,
                side=spec.side,
                last_qty=spec.quantity,
                last_px=price,
                fee=UNIT,
                cum_qty=spec.quantity,
                leaves_qty=0,
                cum_cost=0,
                strategy=spec.strategy,
                trader=spec.trader,
            )
            self.fills.append(fill)
            self.marks[spec.instrument] = price
            machine.filled(fill, self.now)
            for halt in machine.to_halt(self.now):
                machine.killed(halt)
        elif kind == "mark":
            self.marks[spec.instrument] = price
            machine.marked(spec.instrument, price)
        elif kind == "message":
            machine.message_sent(spec.account, spec.strategy, self.now)
        elif kind == "kill":
            machine.killed(Killed(scope=f"account:{spec.account}", reason="r", by="x", halt=spec.reduce_only))
        elif kind == "resume":
            machine.resumed(Resumed(scope=f"account:{spec.account}", reason="r", by="x"))

    def slow_exposure(self, kind: str, name: str) -> tuple[int, int, int, int, int]:
        """Gross, net, worst net, reserved and open orders, recomputed from everything that happened."""

        def mine(item: OrderSpec | OrderFilled) -> bool:
            return kind == "firm" or getattr(item, kind) == name

        held, buys, sells = defaultdict(int), defaultdict(int), defaultdict(int)
        for fill in filter(mine, self.fills):
            sign = 1 if fill.side == "BUY" else -1
            held[fill.account, fill.instrument] += sign * fill.last_qty * self.marks[fill.instrument]
        working = [entry for entry in self.open if mine(entry[0])]
        for spec, quantity, price in working:
            (buys if spec.side == "BUY" else sells)[spec.account, spec.instrument] += quantity * price
        keys = {*held, *buys, *sells}
        gross = sum(max(abs(held[key] + buys[key]), abs(held[key] - sells[key])) for key in keys)
        net, long, short = sum(held.values()), sum(buys.values()), sum(sells.values())
        worst = max(abs(net + long), abs(net - short))
        return (gross // UNIT, net // UNIT, worst // UNIT, (long + short) // UNIT, len(working))


@given(steps)
def test_running_exposure_equals_an_obvious_recomputation(history: list[Step]) -> None:
    player = History(Controls(LimitBook(), {}))
    for step in history:
        player.play(step)
        for kind, name in [("firm", ""), ("account", "a"), ("strategy", "s"), ("trader", "u"), ("instrument", "B.X")]:
            seen = player.machine.exposure(kind, name)
            assert (seen.gross, seen.net, seen.net_worst, seen.reserved, seen.open_orders) == player.slow_exposure(
                kind, name
            ), (kind, name)


BOOK = LimitBook(
    stack=LimitSet(order_rate=Rate(count=5), duplicate_window_ns=SECOND, max_gross_exposure=300 * UNIT),
    account_default=LimitSet(max_daily_loss=5 * UNIT, max_open_orders=4, max_position=20 * UNIT),
    strategy_default=LimitSet(max_executions=Rate(count=3), max_net_exposure=100 * UNIT),
)


@given(steps, steps)
def test_a_snapshot_and_the_tail_equal_the_whole_fold(head: list[Step], tail: list[Step]) -> None:
    whole = History(Controls(BOOK, {}))
    for step in head:
        whole.play(step)
    restored = Controls(LimitBook(), {})
    restored.restore(whole.machine.snapshot())
    assert restored.snapshot() == whole.machine.snapshot()
    other = History(restored)
    other.open, other.now = list(whole.open), whole.now
    for step in tail:
        whole.play(step)
        other.play(step)
        now = whole.now
        assert restored.explain(step[1], None, now) == whole.machine.explain(step[1], None, now)
    assert restored.snapshot() == whole.machine.snapshot()


@given(steps, specs, limit_sets, limit_sets)
def test_check_and_explain_agree(history: list[Step], spec: OrderSpec, stack: LimitSet, account: LimitSet) -> None:
    player = History(Controls(LimitBook(stack=stack, account_default=account), {}))
    for step in history:
        player.play(step)
    reference = Reference(10 * UNIT, 9 * UNIT, 11 * UNIT, ts=player.now)
    broken = [each for each in player.machine.explain(spec, reference, player.now) if not each.passed]
    assert player.machine.check(spec, reference, player.now) == (broken[0] if broken else None)


@given(limit_sets, limit_sets)
def test_the_tightest_of_two_limits_is_never_wider_than_either(a: LimitSet, b: LimitSet) -> None:
    both = tightest(a, b)
    assert loosens(both, a) == []
    assert loosens(both, b) == []
    assert tightest(both, a) == tightest(a, both)


@given(steps, specs, limit_sets, limit_sets)
def test_what_tightened_limits_admit_the_wider_ones_admit(
    history: list[Step], spec: OrderSpec, wide: LimitSet, tight: LimitSet
) -> None:
    # Rates are left out: what was refused under tighter limits has not used up the rate.
    tight = msgspec.structs.replace(tight, order_rate=None, max_executions=None)
    wide = msgspec.structs.replace(wide, order_rate=None, max_executions=None, duplicate_window_ns=None)
    players = [History(Controls(LimitBook(stack=limits), {})) for limits in (wide, tightest(wide, tight))]
    for step in history:
        for player in players:
            player.play(step)
    reference = Reference(10 * UNIT, 9 * UNIT, 11 * UNIT, ts=players[0].now)
    wide_check, tight_check = (player.machine.check(spec, reference, player.now) for player in players)
    assert tight_check is not None or wide_check is None


@given(limit_sets, limit_sets)
def test_limits_that_loosen_nothing_are_the_tightest_already(new: LimitSet, old: LimitSet) -> None:
    merged = tightest(new, old)
    assert loosens(new, old) or loosens(new, merged) == []


@given(st.lists(st.integers(0, SECOND), max_size=60), st.integers(1, 5))
def test_no_window_holds_more_messages_than_a_burst_and_the_rate(gaps: list[int], count: int) -> None:
    machine = Controls(LimitBook(stack=LimitSet(order_rate=Rate(count=count))), {})
    spec = OrderSpec(
        client_order_id="c", account="a", instrument="A.X", side="BUY", order_type=OrderType.LIMIT, quantity=1, price=1
    )
    now, sent = NOW, []
    for gap in gaps:
        now += gap
        if machine.check(spec, None, now) is None:
            sent.append(now)
        machine.order_sent(spec, now)
    for first in range(len(sent)):
        inside = [ts for ts in sent[first:] if ts < sent[first] + SECOND]
        assert len(inside) <= 2 * count
    assert all(before <= after for before, after in pairwise(sent))


def slow_codes(player: History, book: LimitBook, spec: OrderSpec, market: int) -> set[str]:
    """Every code that an order deserves, straight from what happened: no sums kept, no plan compiled."""
    found: set[str] = set()
    mine = {"stack": "", "account": spec.account, "strategy": spec.strategy, "instrument": spec.instrument}
    held = sum((1 if f.side == "BUY" else -1) * f.last_qty for f in player.fills if _same(f, spec))
    opposite = sum(q for s, q, _ in player.open if _same(s, spec) and s.side == spec.side)
    sign = 1 if spec.side == "BUY" else -1
    reduces = held * sign < 0 and opposite + spec.quantity <= abs(held)
    reserved = spec.price if spec.side == "BUY" else max(spec.price, market)
    for kind, name in mine.items():
        if kind != "stack" and not name:
            continue
        limits = book.of(kind, name)
        scope = ("firm", "") if kind == "stack" else (kind, name)
        positions = kind == "strategy"
        if limits.max_order_quantity is not None and spec.quantity > limits.max_order_quantity:
            found.add("MAX_ORDER_QUANTITY")
        if limits.max_order_value is not None and spec.quantity * reserved > limits.max_order_value * UNIT:
            found.add("MAX_ORDER_VALUE")
        gross, _, _, _, orders = player.slow_exposure(*scope)
        if limits.max_open_orders is not None and orders + 1 > limits.max_open_orders:
            found.add("MAX_OPEN_ORDERS")
        after = History(player.machine)
        after.open, after.fills, after.marks = (
            [*player.open, (spec, spec.quantity, reserved)],
            player.fills,
            player.marks,
        )
        gross, net, _, _, _ = after.slow_exposure(*scope)
        if limits.max_gross_exposure is not None and gross > limits.max_gross_exposure and not reduces:
            found.add("CREDIT_THRESHOLD")
        side = sum(
            q * p for s, q, p in after.open if s.side == spec.side and (kind == "stack" or getattr(s, kind) == name)
        )
        if (
            limits.max_net_exposure is not None
            and sign * net * UNIT + side > limits.max_net_exposure * UNIT
            and not reduces
        ):
            found.add("MAX_NET_EXPOSURE")
        own_held = sum(
            (1 if f.side == "BUY" else -1) * f.last_qty
            for f in player.fills
            if _same(f, spec) and (not positions or f.strategy == name)
        )
        own_open = sum(
            q
            for s, q, _ in after.open
            if _same(s, spec) and s.side == spec.side and (not positions or s.strategy == name)
        )
        if limits.max_position is not None and sign * own_held + own_open > limits.max_position and not reduces:
            found.add("MAX_POSITION")
    return found


def _same(item: OrderSpec | OrderFilled, spec: OrderSpec) -> bool:
    return item.account == spec.account and item.instrument == spec.instrument


sizes = st.one_of(st.none(), st.integers(0, 30).map(lambda n: n * UNIT))
worths = st.one_of(st.none(), st.integers(0, 600).map(lambda n: n * UNIT))
exposure_limits = st.builds(
    LimitSet,
    max_order_quantity=sizes,
    max_order_value=worths,
    max_open_orders=st.one_of(st.none(), st.integers(0, 6)),
    max_gross_exposure=worths,
    max_net_exposure=worths,
    max_position=sizes,
)


@given(steps, specs, *[exposure_limits] * 4)
def test_a_check_refuses_exactly_what_the_whole_history_forbids(
    history: list[Step], spec: OrderSpec, stack: LimitSet, account: LimitSet, strategy: LimitSet, instrument: LimitSet
) -> None:
    book = LimitBook(
        stack=stack, account_default=account, strategy_default=strategy, instruments={spec.instrument: instrument}
    )
    spec = msgspec.structs.replace(spec, reduce_only=False)
    player = History(Controls(book, {}))
    for step in history:
        if step[0] not in ("kill", "resume"):
            player.play(step)
    market = 10 * UNIT
    reference = Reference(market, market, market, ts=player.now)
    deserved = slow_codes(player, book, spec, market)
    checks = player.machine.explain(spec, reference, player.now)
    assert {each.code for each in checks if not each.passed} == deserved
    check = player.machine.check(spec, reference, player.now)
    assert (check is None) == (not deserved)
