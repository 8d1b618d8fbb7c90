"""What is to be done to each partition, and to each store, from what lies here and there."""

import pytest

from trade2026.kit.bus.kafka_copy import CopyFound
from trade2026.local.migration.moves import (
    ANEW,
    FILES,
    MOVED,
    SAME,
    Extent,
    MigrationRefused,
    Step,
    fate_of_stores,
    require_partitions,
    step_of,
)
from trade2026.stack.stores import Analytics, Cache, Lake, Stores, TimeSeries

HERE = Extent("orders.events", 0, start=100, end=200, epoch=5)
NOTHING = CopyFound(True)
QUESTDB = TimeSeries(type="questdb", url="http://db:9000")


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (NOTHING, Step(HERE, begin=True, from_seq=100)),
        (CopyFound(False, 100, 100, 3), Step(HERE, begin=False, from_seq=100)),
        (CopyFound(False, 100, 150, 3), Step(HERE, begin=False, from_seq=150)),
        (CopyFound(False, 100, 200, 4), Step(HERE, begin=False, from_seq=200)),
        (CopyFound(False, 100, 200, 5), Step(HERE, begin=False, from_seq=200, finished=True)),
        (CopyFound(False, 130, 200, 5), Step(HERE, begin=False, from_seq=200, finished=True)),
    ],
    ids=["nothing", "a mark", "a part", "all but the last owner", "all", "all, and the oldest was dropped again"],
)
def test_a_copy_goes_on_where_it_ended(found: CopyFound, step: Step) -> None:
    assert step_of(HERE, found) == step
    assert step.missing == 200 - step.from_seq


@pytest.mark.parametrize(
    "found",
    [CopyFound(False, 100, 200, 6, owned=True), CopyFound(False, 100, 230, 6), CopyFound(False, 100, 200, 6)],
    ids=["claimed", "gone on", "of a later owner"],
)
def test_what_a_stack_has_run_on_is_left_alone(found: CopyFound) -> None:
    assert step_of(HERE, found) == Step(HERE, begin=False, from_seq=200, finished=True, in_use=True)


def test_two_logs_that_both_went_on_are_refused() -> None:
    with pytest.raises(MigrationRefused, match="this one has gone on to 200, too"):
        step_of(HERE, CopyFound(False, 100, 150, 3, owned=True))


def test_a_gap_is_refused() -> None:
    with pytest.raises(MigrationRefused, match="ends at 40, but this log has dropped what is before 100"):
        step_of(HERE, CopyFound(False, 0, 40, 2))


def test_a_partition_that_nobody_ever_owned_needs_nothing() -> None:
    never = Extent("alt.records", 0, 0, 0, 0)
    assert step_of(never, NOTHING).finished
    assert not step_of(Extent("alt.records", 0, 0, 0, 3), NOTHING).finished, "its next owner must be the fourth"


def test_a_log_is_not_split_anew() -> None:
    require_partitions({"orders.events": 2}, {"orders.events": 2, "audit": 1}, {("orders.events", 1)})
    with pytest.raises(MigrationRefused, match=r"has 2 partition\(s\) and would have 4"):
        require_partitions({"orders.events": 2}, {"orders.events": 4}, {("orders.events", 1)})
    with pytest.raises(MigrationRefused, match=r"has 2 partition\(s\) and would have 1"):
        require_partitions({"orders.events": 2}, {"orders.events": 1}, {("orders.events", 1)})
    processes = {("strategies.events", 0)}
    require_partitions({"strategies.events": 1}, {"strategies.events": 8}, processes, {"strategies.events"})
    with pytest.raises(MigrationRefused, match=r"has 9 partition\(s\) and would have 8"):
        require_partitions({"strategies.events": 9}, {"strategies.events": 8}, processes, {"strategies.events"})
    with pytest.raises(MigrationRefused, match=r"later\.topic/0 holds events"):
        require_partitions({"later.topic": 1}, {"orders.events": 1}, {("later.topic", 0)})


def test_each_store_is_copied_moved_kept_or_made_anew() -> None:
    there = Stores(
        timeseries=QUESTDB,
        cache=Cache(type="valkey", url="redis://c:6379"),
        analytics=Analytics(type="clickhouse", url="clickhouse://c:9000"),
    )
    assert fate_of_stores(Stores(), there) == {"timeseries": MOVED, "cache": ANEW, "lake": FILES, "analytics": ANEW}
    assert fate_of_stores(Stores(), Stores(lake=Lake(type="s3", url="s3://bucket/desk")))["lake"] == MOVED
    assert fate_of_stores(Stores(timeseries=QUESTDB), there)["timeseries"] == SAME


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (Stores(timeseries=QUESTDB), Stores()),
        (Stores(timeseries=QUESTDB), Stores(timeseries=TimeSeries(type="questdb", url="http://other:9000"))),
        (Stores(lake=Lake(type="s3", url="s3://bucket/desk")), Stores()),
    ],
    ids=["back into a file", "from server to server", "a lake out of a bucket"],
)
def test_a_store_that_can_not_be_moved_is_refused_with_its_name(here: Stores, there: Stores) -> None:
    with pytest.raises(MigrationRefused, match=r"spec\.stores\.\w+ can't be moved from .*: leave it in the manifest"):
        fate_of_stores(here, there)
