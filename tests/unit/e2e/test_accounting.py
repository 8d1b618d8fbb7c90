"""A prober that can't fail is none: each way in which a story can be wrong is found, and a right one is not."""

from collections.abc import Callable
from typing import Any

import pytest
from e2e.accounting import Answer, Ledger, Lost, Told
from hypothesis import given
from hypothesis import strategies as st

OK, NO_ANSWER, LATER = 200, Answer(0), Answer(503)
Listed = list[dict[str, Any]]


def told(*answers: Answer) -> Ledger:
    """A ledger in which each order was answered so, at once, one a second."""
    ledger = Ledger("p-", 0.0)
    for second, answer in enumerate(answers):
        ledger.answered(ledger.begun(float(second)), answer, second + 0.5)
    return ledger


def acknowledged(count: int) -> Ledger:
    return told(*(Answer(OK, f"o0-{number}") for number in range(count)))


def story(*numbers: int, status: str = "Filled") -> tuple[Listed, Listed]:
    """What the service lists and what its log holds, of orders that are there once."""
    listed = [{"client_order_id": f"p-{n}", "order_id": f"o0-{n}", "status": status} for n in numbers]
    data = [{"order_id": f"o0-{n}", "spec": {"client_order_id": f"p-{n}"}} for n in numbers]
    return listed, [{"seq": 7 + at, "type": "OrderAccepted", "data": each} for at, each in enumerate(data)]


def test_a_right_story_is_accounted_for() -> None:
    report = acknowledged(3).account(*story(0, 1, 2))
    assert (report.sent, report.acknowledged, report.resolved) == (3, 3, 0)
    assert report.outage_seconds_max == 1.0
    assert report.wait_seconds_max == 0.5


def _lost(listed: Listed, events: Listed) -> None:
    del listed[1]


def _lost_in_the_log(listed: Listed, events: Listed) -> None:
    del events[2]


def _doubled(listed: Listed, events: Listed) -> None:
    listed.append({**listed[0], "order_id": "o0-99"})


def _doubled_in_the_log(listed: Listed, events: Listed) -> None:
    again = {"order_id": "o0-99", "spec": {"client_order_id": "p-0"}}
    events.append({"seq": events[-1]["seq"] + 1, "type": "OrderAccepted", "data": again})


def _another(listed: Listed, events: Listed) -> None:
    listed[0]["order_id"] = "o0-99"


def _invented(listed: Listed, events: Listed) -> None:
    listed.append({"client_order_id": "p-77", "order_id": "o0-99", "status": "New"})


def _gap(listed: Listed, events: Listed) -> None:
    events[2]["seq"] += 1


def _filled_twice(listed: Listed, events: Listed) -> None:
    fill = {"type": "OrderFilled", "data": {"exec_id": "x1", "order_id": "o0-0"}}
    events += [{"seq": events[-1]["seq"] + 1, **fill}, {"seq": events[-1]["seq"] + 2, **fill}]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_lost, "p-1 was acknowledged, and is not in the order service"),
        (_lost_in_the_log, "p-2 was acknowledged, and is not in the log"),
        (_doubled, "p-0 is in the order service 2 times: o0-0, o0-99"),
        (_doubled_in_the_log, "p-0 is in the log 2 times: o0-0, o0-99"),
        (_another, "p-0 was told to be o0-0, and is o0-99 in the order service"),
        (_invented, "p-77 is in the order service, and nobody has sent it"),
        (_gap, "the log has a gap or goes back: 10 follows 8"),
        (_filled_twice, "fill x1 is in the log 2 times"),
    ],
)
def test_each_harm_is_found(harm: Callable[[Listed, Listed], None], said: str) -> None:
    listed, events = story(0, 1, 2)
    harm(listed, events)
    with pytest.raises(Lost) as found:
        acknowledged(3).account(listed, events)
    assert said in str(found.value)


def test_what_is_unknown_at_the_end_is_a_fault_though_it_may_be_there() -> None:
    for numbers in ((), (0,)):
        with pytest.raises(Lost, match="p-0 has no answer: 1 attempts"):
            told(NO_ANSWER).account(*story(*numbers))


def test_an_attempt_without_an_answer_is_resolved_by_asking_again() -> None:
    ledger = told(NO_ANSWER)
    ledger.answered(0, LATER, 1.0)
    ledger.answered(0, Answer(OK, "o0-0"), 4.0)
    report = ledger.account(*story(0))
    assert (report.resolved, report.deferred, report.acknowledged) == (1, 1, 1)
    assert (report.outage_seconds_max, report.wait_seconds_max) == (4.0, 4.0)


def test_two_answers_that_name_two_orders_are_a_fault() -> None:
    ledger = told(Answer(OK, "o0-0"))
    ledger.answered(0, Answer(OK, "o0-5"), 2.0)
    with pytest.raises(Lost, match="p-0 was told to be o0-0 and o0-5"):
        ledger.account(*story(0))


def test_an_order_that_was_refused_is_nowhere_and_a_rejected_one_is_there_as_that() -> None:
    refused = told(Answer(403))
    assert refused.account(*story()).refused == 1
    with pytest.raises(Lost, match="p-0 was refused, and is in the order service as o0-0"):
        refused.account(*story(0))
    rejected = told(Answer(422, "o0-0", "NO_REFERENCE_PRICE"))
    report = rejected.account(*story(0, status="Rejected"))
    assert (report.rejected, report.reject_codes) == (1, {"NO_REFERENCE_PRICE": 1})
    assert "1 rejected (NO_REFERENCE_PRICE 1)" in str(report)
    with pytest.raises(Lost, match="was told that it is rejected, and is Filled"):
        rejected.account(*story(0))
    with pytest.raises(Lost, match="p-0 was rejected, and is not in the log"):
        rejected.account(*story())


def test_orders_of_others_are_not_looked_at() -> None:
    listed, events = story(0)
    listed.append({"client_order_id": "q-0", "order_id": "o0-8", "status": "New"})
    listed.append({"client_order_id": "p-0x", "order_id": "o0-9", "status": "New"})
    assert acknowledged(1).account(listed, events).sent == 1


@given(st.lists(st.lists(st.sampled_from([0, 429, 503, 500]), max_size=3), min_size=1, max_size=8), st.data())
def test_whatever_was_tried_before_one_missing_order_is_found(tries: list[list[int]], data: st.DataObject) -> None:
    ledger = Ledger("p-", 0.0)
    for number, statuses in enumerate(tries):
        assert ledger.begun(0.0) == number
        for status in statuses:
            ledger.answered(number, Answer(status), 1.0)
            assert ledger.sent[number].told is Told.UNKNOWN
        ledger.answered(number, Answer(OK, f"o0-{number}"), 2.0)
    everything = range(len(tries))
    ledger.account(*story(*everything))
    missing = data.draw(st.sampled_from(everything))
    with pytest.raises(Lost, match=f"p-{missing} was acknowledged"):
        ledger.account(*story(*(number for number in everything if number != missing)))
