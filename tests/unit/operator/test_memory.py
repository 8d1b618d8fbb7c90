"""What an operator keeps of its stacks is small, and all that its decisions need."""

import pickle
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.operator.operated import KEY, SERVICE, STACK, WORKLOAD, Desk

from trade2026_operator.helm.records import Record, Status, from_secret, to_secret
from trade2026_operator.reconcile.objects import Ref
from trade2026_operator.slim import slim_child, slim_stack
from trade2026_operator.wants import Wants

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
RECORD = Record("desk", "trading", 1, Status.DEPLOYED, {"metadata": {}}, {"a": 1}, "kind: Service", NOON, NOON)


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    await made.run()
    return made


def size_of(value: Any) -> int:
    """Bytes of a value and of all in it."""
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
        inner = list(value)
    return sys.getsizeof(value) + sum(map(size_of, inner))


def test_of_a_service_is_kept_which_one_it_is() -> None:
    metadata = {"name": "a", "namespace": "b", "uid": "c", "labels": {"x": "y"}, "managedFields": [{}]}
    metadata |= {"ownerReferences": [{"kind": "X"}], "deletionTimestamp": "now", "annotations": {"long": "x" * 1000}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [1] * 100}}
    found = slim_child(service, is_whole=False)
    assert found["metadata"].keys() == {"name", "namespace", "uid", "ownerReferences", "deletionTimestamp"}
    assert "spec" not in found and size_of(found) < 1_500
    whole = slim_child(service, is_whole=True)
    assert whole == {**service, "metadata": {n: v for n, v in metadata.items() if n != "managedFields"}}


def test_of_a_workload_is_kept_how_many_there_are_and_how_they_do() -> None:
    spec = {"replicas": 2, "template": {"spec": "long"}}
    metadata = {"name": "a", "labels": {"app.kubernetes.io/instance": "desk"}}
    workload = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec, "status": {"x": 1}}
    found = slim_child(workload, is_whole=False)
    assert (found["spec"], found["status"], found["metadata"]) == ({"replicas": 2}, {"x": 1}, metadata)


def test_a_stack_is_kept_without_who_wrote_it() -> None:
    last = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    stack = {"metadata": {"name": "a", "managedFields": [], "annotations": {"mine": "1", **last}}, "spec": {"x": 1}}
    assert slim_stack(stack) == {"metadata": {"name": "a", "annotations": {"mine": "1"}}, "spec": {"x": 1}}
    assert last.keys() <= stack["metadata"]["annotations"].keys(), "what a watch has told is not changed"


def test_a_summary_is_compared_by_its_digest_and_written_only_when_completed() -> None:
    summary = RECORD.summary()
    assert (summary.chart, summary.values, summary.manifest) == ({}, {}, "")
    assert summary.content == RECORD.content == summary.summary().content
    with pytest.raises(AssertionError, match="a summary can't be written"):
        to_secret(summary, NOON)
    read = from_secret(to_secret(RECORD, NOON))
    assert read.content == RECORD.content, "what was read is what was written"


async def test_what_is_wanted_comes_out_of_its_pack_as_it_went_in(desk: Desk) -> None:
    chart = desk.worker.builder.chart.copy()
    desired = desk.worker.builder.desired(desk.cache.stacks[KEY])
    wants = Wants(chart)
    wants.put(KEY, "digest", desired)
    found = wants.get(KEY, "digest")
    assert found == desired
    assert found is not None and found.releases[0].record.chart is chart
    assert wants.get(KEY, "another") is None
    assert len(wants._packed[KEY][1]) < len(pickle.dumps(desired)) / 2
    wants.forget(KEY)
    assert wants.get(KEY, "digest") is None


async def test_the_older_revision_is_marked_although_only_a_summary_of_it_is_kept(desk: Desk) -> None:
    before = from_secret(desk.kube.objects[Ref("v1", "Secret", KEY.namespace, RECORD.secret_name)])
    await desk.apply(driftPolicy="Warn", accountDefaults=None, risk={"limits": {"maxOpenOrders": 7}})
    await desk.settle()
    desk.become_ready()
    await desk.settle()
    after = from_secret(desk.kube.objects[Ref("v1", "Secret", KEY.namespace, RECORD.secret_name)])
    assert (after.status, after.content) == (Status.SUPERSEDED, before.content)
    assert all(record.summary_of for record in desk.cache._records[KEY].values())


async def test_what_others_may_change_is_asked_for_once_when_the_rule_comes(desk: Desk) -> None:
    assert not desk.cache._children[KEY][SERVICE].is_whole
    desk.kube.objects[SERVICE]["spec"]["selector"]["a"] = "theirs"
    reads = desk.kube.reads
    await desk.apply(driftIgnore=[{"kind": "Service", "paths": ["/spec/selector/a"]}])
    await desk.settle()
    assert desk.kube.objects[SERVICE]["spec"]["selector"]["a"] == "theirs"
    assert desk.cache._children[KEY][SERVICE].is_whole and not desk.cache._children[KEY][WORKLOAD].is_whole
    assert desk.kube.reads - reads <= 2, "the object, and the record of the new revision"
    assert STACK in desk.kube.objects
