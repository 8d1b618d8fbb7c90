"""Which revision comes next, and whose the newest one is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026_operator.helm.records import Record, Status, from_secret, to_secret
from trade2026_operator.helm.revisions import (
    KEPT_MAX,
    Standing,
    Wanted,
    begun,
    failed,
    finished,
    in_words,
    is_as_wanted,
    standing,
)

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
D, S, F = Status.DEPLOYED, Status.SUPERSEDED, Status.FAILED


def wanted(**changes: Any) -> Wanted:
    made = Wanted("desk", "trading", {"metadata": {"name": "chart"}}, {"a": 1}, "kind: Service", "generation 1")
    return replace(made, **changes)


def record(revision: int, status: Status, *, ours: bool = True, back_to: int = 0) -> Record:
    at = NOON + timedelta(minutes=revision)
    return Record(
        "desk", "trading", revision, status, {"metadata": {"name": "chart"}}, {"a": 1}, "kind: Service", NOON, at,
        rollback_revision=back_to, by_operator=ours,
    )  # fmt: skip


def after(records: list[Record], what: Wanted, *, fails: bool = False) -> list[Record]:
    """The records when a revision has been made."""
    pending = begun(records, what, NOON)
    writes = failed(records, pending, "quota") if fails else finished(records, pending, NOON)
    kept = {each.revision: each for each in [*records, *writes.written]}
    return [each for _, each in sorted(kept.items()) if each.secret_name not in writes.deleted]


@pytest.mark.parametrize(
    ("records", "made", "expected"),
    [
        ([], False, Standing.ABSENT),
        ([], True, Standing.UNINSTALLED),
        ([record(1, D)], True, Standing.OURS),
        ([record(1, Status.PENDING_INSTALL)], False, Standing.UNFINISHED),
        ([record(1, D), record(2, Status.PENDING_UPGRADE)], True, Standing.UNFINISHED),
        ([record(1, D), record(2, F)], True, Standing.FAILED),
        ([record(1, S), record(2, D, ours=False)], True, Standing.UPGRADED),
        ([record(1, D), record(2, F, ours=False)], True, Standing.UPGRADED),
        ([record(1, S), record(2, S), record(3, D, ours=False, back_to=1)], True, Standing.ROLLED_BACK),
        ([record(1, D), record(2, Status.PENDING_ROLLBACK, ours=False)], True, Standing.BUSY),
        ([record(1, D), record(2, Status.PENDING_UPGRADE, ours=False)], True, Standing.BUSY),
        ([record(1, Status.UNINSTALLED)], True, Standing.UNINSTALLED),
        ([record(1, Status.UNINSTALLING)], True, Standing.UNINSTALLED),
        ([record(1, D, ours=False)], False, Standing.UPGRADED),
    ],
)
def test_records_tell_who_was_there_last(records: list[Record], made: bool, expected: Standing) -> None:
    assert standing(records, made=made) is expected
    words = in_words(expected, records)
    assert ("by hand" in words or "a person's" in words) == expected.is_a_persons


def test_the_first_revision_is_an_installation() -> None:
    pending = begun([], wanted(), NOON)
    assert (pending.revision, pending.status, pending.first_deployed) == (1, Status.PENDING_INSTALL, NOON)
    assert [each.status for each in finished([], pending, NOON).written] == [D]


def test_a_later_one_is_an_upgrade_that_takes_the_place_of_the_one_before() -> None:
    before = [record(1, S), record(2, D)]
    pending = begun(before, wanted(), NOON)
    assert (pending.revision, pending.status) == (3, Status.PENDING_UPGRADE)
    assert [(each.revision, each.status) for each in finished(before, pending, NOON).written] == [(3, D), (2, S)]


def test_what_was_interrupted_is_begun_again_under_its_number() -> None:
    before = [record(1, D), record(2, Status.PENDING_UPGRADE)]
    pending = begun(before, wanted(values={"a": 2}), NOON)
    assert (pending.revision, pending.values) == (2, {"a": 2})
    assert [(each.revision, each.status) for each in finished(before, pending, NOON).written] == [(2, D), (1, S)]


def test_a_persons_interrupted_command_keeps_its_number() -> None:
    assert begun([record(1, D), record(2, Status.PENDING_UPGRADE, ours=False)], wanted(), NOON).revision == 3


def test_one_that_fails_leaves_the_one_before_deployed() -> None:
    before = [record(1, D)]
    writes = failed(before, begun(before, wanted(), NOON), "exceeded quota: pods " * 40)
    assert [(each.revision, each.status) for each in writes.written] == [(2, F)]
    assert writes.written[0].description.startswith("exceeded quota") and len(writes.written[0].description) == 256


def test_the_release_remembers_when_it_was_first_there() -> None:
    assert begun([record(4, D)], wanted(), NOON + timedelta(days=9)).first_deployed == NOON


@pytest.mark.parametrize("change", [{"values": {"a": 2}}, {"manifest": "kind: Pod"}, {"chart": {}}])
def test_a_second_apply_of_the_same_is_no_revision_and_a_change_is(change: dict[str, Any]) -> None:
    assert is_as_wanted(record(1, D), wanted())
    assert is_as_wanted(from_secret(to_secret(record(1, D), NOON)), wanted())
    assert not is_as_wanted(record(1, F), wanted())
    assert not is_as_wanted(record(1, D), wanted(**change))


@given(st.lists(st.booleans(), max_size=20))
def test_whatever_fails_one_that_was_deployed_and_the_newest_are_kept(outcomes: list[bool]) -> None:
    records: list[Record] = []
    for fails in outcomes:
        records = after(records, wanted(), fails=fails)
        assert sum(each.status is D for each in records) <= 1
        assert len(records) <= KEPT_MAX + 1
    if False in outcomes:
        assert sum(each.status is D for each in records) == 1
    if outcomes:
        assert records[-1].revision == len(outcomes)
