"""Limits that span partitions: whatever is granted, adopted, lost and read late, the parts are never more than the whole."""

import os
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from trade2026.controls.exposure import Group
from trade2026.controls.limits import LimitBook, LimitSet, Rate, Slice, Slices
from trade2026.controls.slices import Shortage, equal_share, granted_of, redivide, slice_in, sliced, too_small
from trade2026.domain.numbers import SCALE
from trade2026.risk import slicing
from trade2026.risk.machine import Grants
from trade2026.risk.slicing import Slicing

P = 3
SCOPES = ("stack", "strategy:mm", "strategy:x")
"""The second has limits of its own, the third those of the default."""
FIELD = "max_open_orders"
SECOND = 1_000_000_000


def book_of(limit: int, named: str = "mm") -> LimitBook:
    one = LimitSet(max_open_orders=limit)
    return LimitBook(version=limit, stack=one, strategy_default=one, strategies=dict.fromkeys(named.split(), one))


class Cell:
    """A partition: its log, and what its owner of this moment has in memory."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.log: list[tuple[LimitBook | None, dict[str, int]]] = []
        """After each event: the limits, if it is an adoption, and how many orders are open."""
        self.open = dict.fromkeys(SCOPES, 0)
        self.book, self.limit = LimitBook(), 0
        self.read_to = self.committed = 0
        self.granted: Slices = {}
        self.grant = -1

    def read(self, events: list[tuple[int, Slices] | LimitBook], whole: LimitBook) -> LimitBook:
        for seq, event in enumerate(events[self.read_to :], self.read_to):
            if isinstance(event, LimitBook):
                whole = event
            elif event[0] == self.number:
                for scope, slices in event[1].items():
                    self.granted.setdefault(scope, {}).update(slices)
                self.grant = seq
        self.read_to = len(events)
        return whole

    def adopt(self, whole: LimitBook) -> None:
        self.limit = whole.version
        self.granted = granted_of(whole, self.granted)
        book = sliced(whole, self.number, P, self.book, self.granted, max(self.grant, self.book.grant))
        self.granted = {scope: slices for scope, slices in self.granted.items() if scope in book.slices}
        if book != self.book:
            self.book = book
            self.log.append((book, dict(self.open)))
        self.committed = self.read_to

    def crash(self) -> None:
        self.read_to, self.granted, self.grant = self.committed, {}, -1

    def part(self, scope: str) -> int:
        found = slice_in(self.book.slices, scope, FIELD)
        assert found is not None
        return found.value


class Seen:
    """What risk has read of a partition's log."""

    def __init__(self) -> None:
        self.book, self.open, self.to = LimitBook(), dict.fromkeys(SCOPES, 0), 0

    def group(self, kind: str, name: str = "") -> Group:
        group = Group("")
        group.open_orders = self.open.get(f"{kind}:{name}" if name else kind, 0)
        return group

    def scopes_known(self) -> list[str]:
        return [scope for scope in SCOPES if self.open[scope]]

    def last_message(self, scope: str) -> int:
        return 0

    def read(self, log: list[tuple[LimitBook | None, dict[str, int]]], count: int) -> None:
        for book, open_orders in log[self.to : self.to + count]:
            self.book = book or self.book
            self.open = open_orders
            self.to += 1


class Shared(RuleBasedStateMachine):
    """Three partitions, one risk service, any order of events."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.changes, self.now = book_of(10), 0, 1
        self.events: list[tuple[int, Slices] | LimitBook] = []
        self.cells = [Cell(number) for number in range(P)]
        for cell in self.cells:
            cell.adopt(self.whole)
        self.start_risk()
        self.risk_reads_all()

    def start_risk(self) -> None:
        self.slicing, self.seen = Slicing(), [Seen() for _ in range(P)]
        self.grants: dict[int, Grants] = {}
        for seq, event in enumerate(self.events):
            if not isinstance(event, LimitBook):
                self.grants.setdefault(event[0], Grants()).add(seq, event[1])

    @rule(number=st.integers(0, P - 1))
    def a_partition_reads(self, number: int) -> None:
        cell = self.cells[number]
        last = next((one for one in reversed(self.events[: cell.read_to]) if isinstance(one, LimitBook)), book_of(10))
        cell.adopt(cell.read(self.events, last))

    @rule(number=st.integers(0, P - 1))
    def an_owner_is_killed(self, number: int) -> None:
        self.cells[number].crash()

    @rule(number=st.integers(0, P - 1), scope=st.sampled_from(SCOPES[1:]), count=st.integers(1, 5))
    def orders_are_opened(self, number: int, scope: str, count: int) -> None:
        for _ in range(count):
            self.an_order_is_opened(number, scope)

    def an_order_is_opened(self, number: int, scope: str) -> None:
        cell = self.cells[number]
        if all(cell.open[each] < cell.part(each) for each in ("stack", scope)):
            for each in ("stack", scope):
                cell.open[each] += 1
            cell.log.append((None, dict(cell.open)))

    @rule(number=st.integers(0, P - 1), scope=st.sampled_from(SCOPES[1:]))
    def an_order_is_closed(self, number: int, scope: str) -> None:
        cell = self.cells[number]
        if cell.open[scope]:
            for each in ("stack", scope):
                cell.open[each] -= 1
            cell.log.append((None, dict(cell.open)))

    @rule(number=st.integers(0, P - 1), count=st.integers(1, 5))
    def risk_reads(self, number: int, count: int) -> None:
        self.seen[number].read(self.cells[number].log, count)

    @rule()
    def risk_reads_all(self) -> None:
        for seen, cell in zip(self.seen, self.cells, strict=True):
            seen.read(cell.log, len(cell.log))

    @rule(number=st.integers(0, P - 1), scope=st.sampled_from(SCOPES), needed=st.integers(1, 10))
    def risk_is_asked(self, number: int, scope: str, needed: int) -> None:
        self.slicing.want(self.views(scope), Shortage(scope, FIELD, needed), number, self.now)

    @rule()
    def risk_shares_out(self) -> None:
        self.now += SECOND // 2
        for number, slices in self.slicing.proposals(self.views(), self.now).items():
            self.grants.setdefault(number, Grants()).add(len(self.events), slices)
            self.events.append((number, slices))

    @rule()
    def nobody_trades_for_some_time(self) -> None:
        self.views()
        self.now += 61 * SECOND

    @rule()
    def risk_is_killed(self) -> None:
        self.start_risk()

    @precondition(lambda self: self.changes < 2)
    @rule(limit=st.sampled_from((0, 4, 9, 10, 20)), named=st.sampled_from(("mm", "mm", "mm x")))
    def a_person_changes_the_limit(self, limit: int, named: str = "mm") -> None:
        self.whole, self.changes = book_of(limit, named), self.changes + 1
        self.events.append(self.whole)

    def views(self, asked: str = "") -> list:  # type: ignore[type-arg]
        for number, seen in enumerate(self.seen):
            if number in self.grants:
                self.grants[number].recorded(seen.book.grant)
        return self.slicing.views(self.whole, self.seen, self.grants, self.now, asked)

    @invariant()
    def the_parts_are_never_more_than_the_whole(self) -> None:
        for scope in SCOPES:
            parts = sum(cell.part(scope) for cell in self.cells)
            assert parts <= max(cell.limit for cell in self.cells), scope
            if not self.changes:
                assert sum(cell.open[scope] for cell in self.cells) <= 10


def test_any_order_of_events_keeps_the_whole_limit() -> None:
    examples = int(os.environ.get("SLICE_EXAMPLES", "200"))
    chosen = settings(max_examples=examples, stateful_step_count=60, deadline=None)
    run_state_machine_as_test(Shared, settings=chosen)  # type: ignore[no-untyped-call]


def settle(machine: Shared, rounds: int = 12) -> None:
    for _ in range(rounds):
        for number in range(P):
            machine.seen[number].read(machine.cells[number].log, 1_000)
        machine.risk_shares_out()
        for number in range(P):
            machine.a_partition_reads(number)


def test_one_partition_gets_nearly_all_of_it_while_the_others_are_idle_and_they_get_it_back() -> None:
    machine = Shared()
    for _ in range(9):
        machine.an_order_is_opened(0, "strategy:x")
        settle(machine)
    assert machine.cells[0].open["stack"] >= 8
    for count in range(1, 10):
        machine.an_order_is_closed(0, "strategy:x")
        settle(machine)
        for scope in ("stack", "strategy:mm"):
            machine.slicing.want(machine.views(scope), Shortage(scope, FIELD, count), 1, machine.now)
        settle(machine, 2)
        machine.an_order_is_opened(1, "strategy:mm")
    assert machine.cells[1].open["stack"] >= 8


def test_what_is_asked_for_is_had_to_the_last_unit_and_more_than_there_is_is_refused() -> None:
    machine = Shared()
    settle(machine)
    for count in range(1, 11):
        for scope in ("stack", "strategy:x"):
            if machine.cells[0].part(scope) < count:
                assert machine.slicing.want(machine.views(scope), Shortage(scope, FIELD, count), 0, machine.now)
        settle(machine, 4)
        machine.an_order_is_opened(0, "strategy:x")
        assert machine.cells[0].open["stack"] == count
    assert machine.cells[0].open["stack"] == 10
    settle(machine)
    assert not machine.slicing.want(machine.views(), Shortage("stack", FIELD, 1), 1, machine.now)


def test_a_strategy_without_limits_of_its_own_leaves_every_book_when_nobody_trades_under_it_any_more() -> None:
    machine = Shared()
    for number in (0, 1):
        machine.slicing.want(machine.views("strategy:x"), Shortage("strategy:x", FIELD, 5), number, machine.now)
        machine.an_order_is_opened(number, "strategy:x")
        settle(machine, 4)
    assert all("strategy:x" in cell.book.slices for cell in machine.cells)
    machine.nobody_trades_for_some_time()
    settle(machine)
    assert all("strategy:x" in cell.book.slices for cell in machine.cells), "its orders are open"
    for number in (0, 1):
        machine.an_order_is_closed(number, "strategy:x")
    settle(machine)
    assert all("strategy:x" in cell.book.slices for cell in machine.cells), "it may come back in a moment"
    machine.nobody_trades_for_some_time()
    settle(machine)
    assert [cell.part("strategy:x") for cell in machine.cells] == [4, 3, 3]
    assert [sorted(cell.book.slices) for cell in machine.cells] == [["stack", "strategy:", "strategy:mm"]] * P
    assert [(sorted(cell.book.strategies), cell.granted) for cell in machine.cells] == [(["mm"], {})] * P
    settle(machine)
    machine.an_order_is_opened(2, "strategy:x")
    machine.slicing.want(machine.views("strategy:x"), Shortage("strategy:x", FIELD, 9), 2, machine.now)
    settle(machine, 4)
    assert machine.cells[2].part("strategy:x") >= 9, "it comes back as any other"


def test_a_strategy_that_only_sends_messages_keeps_its_part_of_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Shared()
    machine.slicing.want(machine.views("strategy:x"), Shortage("strategy:x", FIELD, 9), 1, machine.now)
    settle(machine, 4)
    monkeypatch.setattr(Seen, "last_message", lambda self, scope: machine.now)
    for _ in range(3):
        machine.nobody_trades_for_some_time()
        settle(machine)
        assert machine.cells[1].part("strategy:x") >= 9


def test_only_so_many_strategies_without_limits_of_their_own_have_other_slices_than_equal_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slicing, "STRATEGIES_MAX", 1)
    machine = Shared()
    machine.slicing.want(machine.views("strategy:x"), Shortage("strategy:x", FIELD, 9), 1, machine.now)
    settle(machine, 4)
    assert machine.cells[1].part("strategy:x") >= 9
    more = Shortage("strategy:y", FIELD, 9)
    assert not machine.slicing.want(machine.views("strategy:y"), more, 1, machine.now)
    machine.nobody_trades_for_some_time()
    settle(machine)
    assert machine.slicing.want(machine.views("strategy:y"), more, 1, machine.now)


def test_a_strategy_that_had_left_a_book_has_no_more_when_its_own_limits_come_and_go() -> None:
    both = LimitSet(max_open_orders=10, max_net_exposure=1_000)
    whole = LimitBook(strategy_default=both)
    lower = msgspec.structs.replace(whole, strategy_default=msgspec.structs.replace(both, max_net_exposure=300))
    named = msgspec.structs.replace(whole, strategies={"x": LimitSet(max_open_orders=5)})
    parts: list[int] = []
    for number in range(P):  # the first has left the book, the others have had all the rest
        granted: Slices = {"strategy:x": {"max_net_exposure": Slice(1_000, 450)}} if number else {}
        book = LimitBook()
        for limits in (whole, lower, whole):
            book = sliced(limits, number, P, book, {}, -1)
        book = sliced(whole, number, P, book, granted, 1)
        for limits in (named, whole):
            book = sliced(limits, number, P, book, {}, 1)
        part = slice_in(book.slices, "strategy:x", "max_net_exposure")
        assert part is not None
        parts.append(part.value)
    assert parts == [100, 450, 450]


def test_a_part_of_a_rate_is_given_on_only_when_nobody_can_have_used_it_within_its_time() -> None:
    rate = LimitSet(order_rate=Rate(count=9, per_ns=SECOND))
    whole, slicing, grants = LimitBook(stack=rate), Slicing(), {number: Grants() for number in range(P)}
    cells, seen, seq = [Cell(number) for number in range(P)], [Seen() for _ in range(P)], 0

    def rates(now: int, wanted: int = 0) -> list[int]:
        """Ask for the first, share out, and let everybody adopt at once."""
        nonlocal seq
        for cell, one in zip(cells, seen, strict=True):
            cell.book = sliced(whole, cell.number, P, cell.book, cell.granted, max(cell.grant, cell.book.grant))
            one.book = cell.book
            grants[cell.number].recorded(one.book.grant)
        views = slicing.views(whole, seen, grants, now)
        if wanted:
            assert slicing.want(views, Shortage("stack", "order_rate", wanted), 0, now)
        for number, slices in slicing.proposals(views, now).items():
            grants[number].add(seq, slices)
            cells[number].granted, cells[number].grant = slices, seq
            seq += 1
        found = [cell.book.stack.order_rate for cell in cells]
        return [each.count for each in found if each is not None]

    assert rates(0) == [3, 3, 3]
    assert rates(SECOND // 2, 7) == [3, 3, 3]
    taken = rates(SECOND - 1, 7)
    assert taken[0] == 3, "what was before risk began is not known"
    assert max(taken[1:]) < 3
    at = SECOND + 1
    assert rates(at, 7)[0] == 3, "they have sent as many a moment ago"
    assert rates(at + SECOND // 2, 7)[0] == 3
    rates(at + 2 * SECOND, 7)
    assert rates(at + 2 * SECOND + 1)[0] >= 7


def test_equal_shares_are_the_whole_and_a_growth_waits_for_what_others_hold() -> None:
    for limit in range(20):
        assert sum(equal_share(limit, number, P) for number in range(P)) == limit
    assert redivide(9, [3, 3, 3], [3, 3, 3], [3, 0, 0], [9, 0, 0]) == [3, 0, 0]
    assert redivide(9, [3, 0, 0], [3, 3, 0], [3, 0, 0], [9, 0, 0]) == [6, 0, 0]
    assert redivide(9, [3, 3, 3], [3, 5, 3], [3, 5, 0], [4, 5, 0])[0] == 3, (
        "one uses more than its part: prices have moved"
    )
    assert redivide(9, [2, 7, 0], [2, 7, 0], [1, 7, 0], [2, 7, 1]) == [2, 7, 0], "the last one is asked for twice"


@pytest.mark.parametrize(
    ("limits", "scope", "warned"),
    [
        ({"max_open_orders": 2}, "", ["max_open_orders of stack is 2 over 3 partitions, not one for each"]),
        ({"max_open_orders": 3, "order_rate": Rate(count=3)}, "", []),
        ({"order_rate": Rate(count=1)}, "stack", ["order_rate of stack is 1 over 3 partitions"]),
        ({"max_open_orders": 2}, "desk:a", []),
        ({"max_open_orders": 0}, "", []),
        ({"max_net_exposure": 29 * SCALE}, "", ["is 29 over 3 partitions, less than the smallest order of ETH.SIM"]),
        ({"max_gross_exposure": 30 * SCALE}, "", []),
    ],
)
def test_a_limit_that_is_cut_finer_than_an_order_is_warned_of(
    limits: dict[str, Any], scope: str, warned: list[str]
) -> None:
    book = LimitBook(stack=LimitSet(**limits), instruments={"BTC.SIM": LimitSet(max_gross_exposure=15 * SCALE)})
    orders = {"BTC.SIM": 5 * SCALE, "ETH.SIM": 10 * SCALE}
    found = too_small(book, P, orders, scope)
    assert len(found) == len(warned)
    assert all(part in text for text, part in zip(found, warned, strict=True)), found
    assert too_small(book, 1, orders) == []


def test_with_one_partition_nothing_is_cut() -> None:
    whole = book_of(7)
    assert sliced(whole, 0, 1, LimitBook(), {}, -1) is whole
    assert msgspec.json.decode(msgspec.json.encode(whole), type=LimitBook) == whole


def test_a_limit_that_goes_and_comes_back_gives_nobody_more_than_it_had() -> None:
    none = LimitBook(version=2, strategies={"mm": LimitSet(max_order_quantity=1)})
    parts: list[int] = []
    for number, granted in enumerate((7, 2, 1)):
        slices: Slices = {scope: {FIELD: Slice(10, granted)} for scope in ("stack", "strategy:mm")}
        book = sliced(book_of(10), number, P, LimitBook(), slices, 5)
        if number:  # the first does not hear of it
            book = sliced(none, number, P, book, {}, 5)
            assert (book.stack.max_open_orders, book.strategies["mm"].max_open_orders) == (None, None)
        book = sliced(book_of(10), number, P, book, {}, 5)
        parts += [value for value in (book.stack.max_open_orders, book.strategies["mm"].max_open_orders) if value]
    assert parts == [7, 7, 2, 2, 1, 1]
