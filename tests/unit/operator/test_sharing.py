"""Two stacks of one name in two namespaces never write one log."""

from typing import Any

import pytest
from tests.unit.operator.operated import KEY, Desk

from trade2026_operator.queue import Key
from trade2026_operator.reconcile.sharing import shared_log


def stack(namespace: str, servers: str, day: int, name: str = "desk") -> dict[str, Any]:
    made = {"name": name, "namespace": namespace, "uid": namespace, "creationTimestamp": f"2026-03-0{day}T00:00:00Z"}
    return {"metadata": made, "spec": {"bus": {"type": "kafka", "kafka": {"bootstrapServers": servers}}}}


@pytest.mark.parametrize(
    ("one", "other", "shares"),
    [
        ("a.example:9092", "b.example:9092,a.example:9092", True),
        ("a.example:9092", "a.example:9093", False),
        ("kafka:9092", "kafka:9092", False),  # a Service of its own namespace each
        ("kafka:9092", "kafka.first.svc:9092", True),
        ("kafka.infra:9092", "kafka.infra.svc.cluster.local:9092", True),
    ],
)
def test_of_two_stacks_of_one_name_at_one_broker_the_older_has_the_log(one: str, other: str, shares: bool) -> None:
    first, second = stack("first", one, 1), stack("second", other, 2)
    assert shared_log(first, [first, second]) == ""
    assert bool(shared_log(second, [first, second])) is shares
    assert shared_log(stack("second", other, 2, "research"), [first]) == "", "another name is another log"


@pytest.mark.parametrize("leaves", [True, False])
async def test_the_younger_one_is_stalled_before_it_makes_anything_and_begins_when_the_other_is_out_of_the_way(
    leaves: bool,
) -> None:
    desk = Desk()
    await desk.apply(bus={"type": "kafka", "kafka": {"bootstrapServers": "broker.infra:9092"}})
    other = Key("others", KEY.name)
    desk.cache.stacks[other] = stack("others", "broker.infra:9092", 0)
    desk.kube.objects[next(iter(desk.kube.objects))]["metadata"]["creationTimestamp"] = "2026-03-04T00:00:00Z"
    await desk.settle()
    stalled = desk.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "SpecRefused")
    assert "TradingStack desk in others keeps its log at broker.infra:9092, too" in stalled["message"]
    assert [ref for ref in desk.kube.objects if ref.kind == "StatefulSet"] == []
    desk.changed.clear()
    if leaves:
        desk.cache.stack_gone(stack("others", "broker.infra:9092", 0))
    else:
        desk.cache.stack_seen(stack("others", "broker.others:9092", 0))
    assert KEY in desk.changed, "it need not wait for the resync"
    await desk.settle()
    assert desk.condition("Stalled")["status"] == "False"
