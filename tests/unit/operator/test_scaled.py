"""A workload with an autoscaler: replicas are the autoscaler's, and never fewer than it may give."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.operator.operated import KEY, WORKLOAD, Desk, TinyChart

from trade2026_operator.helm.charts import Chart
from trade2026_operator.helm.render import Capabilities, Rendered
from trade2026_operator.reconcile.conditions import Observation
from trade2026_operator.reconcile.objects import Ref
from trade2026_operator.worker import AGAIN_SECONDS

SECOND = Ref("v1", "Secret", KEY.namespace, "sh.helm.release.v1.desk.v2")

HPA = ("autoscaling/v2", "HorizontalPodAutoscaler", {"minReplicas": 1, "maxReplicas": 6})
SCALED_OBJECT = ("keda.sh/v1alpha1", "ScaledObject", {"minReplicaCount": 1, "maxReplicaCount": 6})


class ScalingChart(TinyChart):
    """With an autoscaler instead of replicas."""

    def __init__(self, autoscaler: tuple[str, str, dict[str, int]] = HPA) -> None:
        super().__init__()
        self.autoscaler = autoscaler

    def render(
        self, chart: Chart, name: str, namespace: str, values: dict[str, Any], capabilities: Capabilities
    ) -> Rendered:
        found = super().render(chart, name, namespace, values, capabilities)
        labels = {"trade2026.io/stack": values["stack"]}
        api_version, kind, spec = self.autoscaler
        metadata = {"name": name, "labels": labels}
        scaler = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": dict(spec)}
        objects = [copy.deepcopy(each) for each in found.objects]
        del objects[-1]["spec"]["replicas"]
        return Rendered(f"{found.text} scaled", [*objects, scaler])


@pytest.mark.parametrize("autoscaler", [HPA, SCALED_OBJECT])
async def test_replicas_are_the_autoscaler_s_and_stay_when_it_takes_them_over(autoscaler: Any) -> None:
    desk = Desk()
    await desk.run()
    await desk.kube.apply({**_named(WORKLOAD), "spec": {"replicas": 4}}, "helm")
    desk.become_ready()
    desk.start_operator()
    desk.worker.builder = replace(desk.worker.builder, renderer=ScalingChart(autoscaler))
    await desk.apply(version="0.1.1")
    await desk.settle()
    assert desk.kube.objects[WORKLOAD]["spec"]["replicas"] == 4, "they are not thrown back to 1"
    desk.kube.calls.clear()
    await desk.kube.merge(WORKLOAD, {"spec": {"replicas": 6}})
    desk.kube.calls.clear()
    await desk.settle()
    assert desk.kube.objects[WORKLOAD]["spec"]["replicas"] == 6
    assert [ref for verb, ref in desk.kube.calls if verb == "apply"] == [], "nobody fights over them"


async def test_an_autoscaler_is_gone_before_another_kind_takes_its_place() -> None:
    desk = Desk()
    desk.worker.builder = replace(desk.worker.builder, renderer=ScalingChart())
    await desk.apply()
    await desk.settle()
    await desk.kube.merge(WORKLOAD, {"spec": {"replicas": 1}})
    desk.become_ready()
    await desk.settle()
    before = next(ref for ref in desk.kube.objects if ref.kind == "HorizontalPodAutoscaler")
    desk.start_operator()
    desk.worker.builder = replace(desk.worker.builder, renderer=ScalingChart(SCALED_OBJECT))
    desk.kube.calls.clear()
    await desk.apply(version="0.1.1")
    await desk.settle()
    after = next(ref for ref in desk.kube.objects if ref.kind == "ScaledObject")
    assert before not in desk.kube.objects
    order = [each for each in desk.kube.calls if each[1] in (before, after)]
    assert order == [("delete", before), ("apply", after)], "KEDA refuses a second one"


async def test_what_scaling_says_is_a_condition_and_does_nothing_else() -> None:
    desk = Desk()
    await desk.run()
    assert (desk.condition("ScalingActive")["reason"], desk.condition("SLOMet")["status"]) == (
        "NotConfigured",
        "Unknown",
    )
    desk.cache.scaling_told(KEY, (Observation("SLOMet", False, "BudgetBurns", "oms: slow"),))
    await desk.settle()
    assert {verb for verb, _ in desk.kube.calls} == {"merge status"}, "its status, and no object of the stack"
    assert desk.condition("SLOMet")["message"] == "oms: slow"
    desk.kube.calls.clear()
    desk.cache.scaling_told(KEY, (Observation("SLOMet", False, "BudgetBurns", "oms: slow"),))
    await desk.settle()
    assert desk.kube.calls == []


def _named(ref: Ref) -> dict[str, Any]:
    return {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": {"name": ref.name, "namespace": ref.namespace}}


@pytest.mark.parametrize("autoscaler", [HPA, SCALED_OBJECT])
async def test_a_stack_stays_ready_while_its_autoscaler_adds_pods(autoscaler: Any) -> None:
    desk = Desk()
    desk.worker.builder = replace(desk.worker.builder, renderer=ScalingChart(autoscaler))
    await desk.apply()
    await desk.settle()
    await desk.kube.merge(WORKLOAD, {"spec": {"replicas": 1}})
    desk.become_ready()
    await desk.settle()
    assert desk.condition("Ready")["status"] == "True"
    await desk.kube.merge(WORKLOAD, {"spec": {"replicas": 3}})
    generation = desk.kube.objects[WORKLOAD]["metadata"]["generation"]
    desk.kube.tell(WORKLOAD, {"observedGeneration": generation, "updatedReplicas": 3, "readyReplicas": 1})
    await desk.settle()
    assert desk.condition("Ready")["status"] == "True"
    desk.kube.tell(WORKLOAD, {"observedGeneration": generation, "updatedReplicas": 3, "readyReplicas": 0})
    await desk.settle()
    assert desk.condition("Ready")["status"] == "False"


def between(least: int, most: int) -> tuple[str, str, dict[str, int]]:
    return (*HPA[:2], {"minReplicas": least, "maxReplicas": most})


async def scaled(*, autoscaler: Any = None, **spec: Any) -> Desk:
    """A desk that has two replicas at least, and is ready."""
    desk = Desk()
    desk.worker.builder = replace(desk.worker.builder, renderer=ScalingChart(autoscaler or between(2, 6)))
    await desk.apply(**spec)
    await desk.settle()
    if "replicas" not in desk.kube.objects[WORKLOAD]["spec"]:  # KEDA has not seen it yet
        await desk.kube.merge(WORKLOAD, {"spec": {"replicas": 2}})
    desk.become_ready()
    await desk.settle()
    assert desk.condition("Ready")["status"] == "True" and desk.kube.objects[WORKLOAD]["spec"]["replicas"] == 2
    desk.said.clear()
    return desk


async def scale_to(desk: Desk, count: int) -> None:
    """`kubectl scale`, and what the controller makes of it."""
    desk.kube.edit(WORKLOAD, {"spec": {"replicas": count}})
    desk.become_ready()
    desk.kube.calls.clear()
    await desk.settle()


@pytest.mark.parametrize("count", [0, 1])
async def test_who_is_scaled_below_what_its_autoscaler_may_give_it_comes_back_and_it_is_told(count: int) -> None:
    desk = await scaled()
    await scale_to(desk, count)
    assert desk.kube.objects[WORKLOAD]["spec"]["replicas"] == 2
    assert ("DriftCorrected", f"StatefulSet/desk was scaled to {count} by somebody else, and has 2 again, as few as its "
            "autoscaler may give it") in desk.said  # fmt: skip
    assert [verb for verb, ref in desk.kube.calls if ref == WORKLOAD] == ["apply"], "once"
    assert [reason for reason, _ in desk.said].count("DriftCorrected") == 1
    assert desk.condition("Ready")["status"] == "False", "until its pods are ready"
    desk.become_ready()
    await desk.settle()
    assert desk.condition("Ready")["status"] == "True"
    await scale_to(desk, 5)
    assert desk.kube.objects[WORKLOAD]["spec"]["replicas"] == 5, "above that nobody fights"


@pytest.mark.parametrize(
    "spec",
    [
        {"driftPolicy": "Warn"},
        {"driftPolicy": "Ignore"},
        {"driftIgnore": [{"kind": "StatefulSet", "paths": ["/spec/replicas"]}]},
        {"paused": True},
    ],
)
async def test_who_is_scaled_to_nothing_and_left_so_is_not_ready(spec: dict[str, Any]) -> None:
    desk = await scaled()
    await desk.apply(**spec)
    await scale_to(desk, 0)
    assert desk.kube.objects[WORKLOAD]["spec"]["replicas"] == 0
    ready, drifted = desk.condition("Ready"), desk.condition("Drifted")
    assert ready["status"] == "False" and "it is told to have 0 pods, and needs 2 at least" in ready["message"]
    assert drifted["status"] == str(spec == {"driftPolicy": "Warn"})
    assert "DriftCorrected" not in [reason for reason, _ in desk.said]


async def test_pods_for_which_there_is_no_room_are_told_although_there_are_enough_to_be_ready() -> None:
    desk = await scaled()
    ref = Ref("v1", "Pod", KEY.namespace, "desk-2")
    labels = {"trade2026.io/stack": KEY.name, "app.kubernetes.io/instance": "desk"}
    message = "0/1 nodes are available: 1 Insufficient cpu."
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    await desk.kube.create(
        {**_named(ref), "metadata": {"name": ref.name, "namespace": ref.namespace, "labels": labels}}
    )
    desk.kube.tell(ref, {"phase": "Pending", "conditions": [waits]})
    await desk.settle()
    found = desk.condition("Reconciling")
    assert (found["status"], found["reason"]) == ("True", "Unschedulable") and message in found["message"]
    assert desk.condition("Ready")["status"] == "True" and desk.condition("Stalled")["status"] == "False"
    assert desk.said == [("Unschedulable", f"pod desk-2 can't be scheduled: {message}")]
    desk.kube.tell(ref, {"phase": "Running", "conditions": [{**waits, "status": "True"}]})
    await desk.settle()
    assert desk.condition("Reconciling")["status"] == "False"


async def test_what_keda_scales_is_not_ready_at_nothing_and_left_to_keda() -> None:
    desk = await scaled(autoscaler=(*SCALED_OBJECT[:2], {"minReplicaCount": 2, "maxReplicaCount": 6}))
    await scale_to(desk, 0)
    assert desk.kube.objects[WORKLOAD]["spec"]["replicas"] == 0 and desk.condition("Ready")["status"] == "False"


async def test_an_autoscaler_that_was_quicker_is_not_overruled() -> None:
    desk = await scaled()
    desk.kube.edit(WORKLOAD, {"spec": {"replicas": 1}})
    desk.watch()
    desk.kube.edit(WORKLOAD, {"spec": {"replicas": 4}}, manager="kube-controller-manager")
    assert await desk.worker.look(KEY) == AGAIN_SECONDS
    assert desk.kube.objects[WORKLOAD]["spec"]["replicas"] == 4
    await desk.settle()
    assert desk.kube.objects[WORKLOAD]["spec"]["replicas"] == 4
