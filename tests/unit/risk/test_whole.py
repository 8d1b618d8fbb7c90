"""What counts over all partitions counts on when risk is started again."""

import itertools
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from trade2026.controls.limits import LimitBook, LimitSet, Rate
from trade2026.controls.machine import Controls
from trade2026.domain import events as ev
from trade2026.domain.numbers import SCALE
from trade2026.risk.whole import Past, WholeStops, longest_window

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
BOOK = LimitBook(
    stack=LimitSet(max_daily_loss=100 * SCALE, max_executions=Rate(count=5, per_ns=10 * SECOND)),
    strategies={"mm": LimitSet(max_executions=Rate(count=3, per_ns=4 * SECOND))},
)


def fill(number: int = 0, **terms: Any) -> ev.OrderFilled:
    values: dict[str, Any] = {
        "order_id": f"o0-{number}",
        "account": "main",
        "instrument": "BTC.SIM",
        "side": "BUY",
        "exec_id": f"e{number}",
        "last_qty": SCALE,
        "last_px": 100 * SCALE,
        "strategy": "mm",
        "cum_qty": SCALE,
        "leaves_qty": 0,
        "cum_cost": 0,
    }
    return ev.OrderFilled(**(values | terms))


def left(stops: WholeStops, now: int) -> int:
    """How many executions the stack may have at a moment."""
    stops.due.clear()
    for count in range(10):
        stops.filled(BOOK, fill(strategy=""), now)
        if "stack" in stops.due:
            return count
    raise AssertionError("it has no limit")


def counted(past: Past, now: int, *later: int) -> WholeStops:
    """Stops that have been told of what came `later` before they had counted the past."""
    stops = WholeStops()
    for ts in later:
        stops.filled(BOOK, fill(), ts)
    assert stops.recount(BOOK, past, now)
    return stops


@example([1, 0, 0, 0, 2 * SECOND - 1], 2, 1, 1)
@example([0, 0, 0, 0, 1], 6, 0, 2 * SECOND - 1)
@given(
    st.lists(st.integers(0, 4 * SECOND), max_size=30),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(0, 12 * SECOND),
)
def test_after_a_restart_no_more_may_be_executed_than_without(
    gaps: list[int], restarted_at: int, kept: int, wait: int
) -> None:
    times = list(itertools.accumulate(gaps, initial=START))
    live = counted(Past(START, True, []), START, *times)
    before, after = times[:restarted_at], times[restarted_at:]
    now = times[-1] + wait
    whole = counted(Past(0, True, [(ts, fill()) for ts in reversed(before)]), now, *after)
    begin = max(0, len(before) - kept)
    since = before[begin] if before[begin:] else now
    partly = counted(Past(since, False, [(ts, fill()) for ts in before[begin:]]), now, *after)
    if "stack" not in partly.due and (before[begin:] or not begin):  # else it is halted, and nothing may be executed
        assert left(partly, now) <= left(counted(Past(START, True, []), START, *times), now)
    is_halted = "stack" in live.due
    assert left(whole, now) <= left(live, now)
    assert is_halted or left(whole, now) == left(live, now)


def test_what_is_read_back_is_enough_when_what_was_before_has_no_say() -> None:
    assert longest_window(BOOK) == 10 * SECOND
    now = START + 20 * SECOND
    few = Past(START, False, [(START + number * 2 * SECOND, fill()) for number in range(4)])
    assert WholeStops().recount(BOOK, few, now, is_final=False)
    many = Past(START, False, [(START + number * 2 * SECOND, fill()) for number in range(10)])
    assert not WholeStops().recount(BOOK, many, now, is_final=False)
    assert WholeStops().recount(BOOK, many, now)


def test_what_a_person_has_released_counts_from_there_after_a_restart_as_well() -> None:
    now = START + SECOND
    release = (START + SECOND // 2, ev.Resumed(scope="stack", reason="seen", by="ann"))
    executed = [(START + number, fill()) for number in range(5)]
    assert left(counted(Past(START, False, executed), now), now) == 0
    assert left(counted(Past(START, False, [*executed, release]), now), now) == 5
    assert left(counted(Past(START, False, [*executed, release]), now, now, now), now) == 3


def test_the_losses_of_a_day_are_those_of_the_logs_after_a_restart() -> None:
    seen: list[Controls] = []
    for _ in range(2):
        controls = Controls(BOOK, {})
        controls.filled(fill(), START)
        controls.filled(fill(side="SELL", last_px=49 * SCALE), START + 1)
        restored = Controls(LimitBook(), {})
        restored.restore(controls.snapshot())
        seen.append(restored)
    stops = WholeStops()
    stops.look_at_losses(BOOK, seen, START + SECOND)
    assert stops.due["stack"].reason == "lost 102 today, the most is 100"
