"""From pods that answer to what an autoscaler is told and a person reads; also when the leader changes."""

import copy
from typing import Any

import pytest
from tests.unit.operator.fake_kube import FakeKube

from trade2026_operator.cache import Cache
from trade2026_operator.helm.revisions import Wanted
from trade2026_operator.queue import Key
from trade2026_operator.reconcile.objects import Ref
from trade2026_operator.reconcile.state import Desired, ReleaseWanted
from trade2026_operator.slo.board import NotKnown, Target
from trade2026_operator.slo.demand import Fit
from trade2026_operator.slo.memory import SAVE_SECONDS
from trade2026_operator.slo.samples import Unreadable
from trade2026_operator.slo.scaler import Scaler
from trade2026_operator.slo.targets import objective_of
from trade2026_operator.slo.windows import Window

KEY = Key("trading", "desk")
OMS = Target("trading", "desk", "oms")
SLO = {"latency": [{"quantile": 0.99, "under": "50ms"}]}
STACK: dict[str, Any] = {
    "apiVersion": "trade2026.io/v1alpha1",
    "kind": "TradingStack",
    "metadata": {"name": "desk", "namespace": "trading", "uid": "u-1"},
    "spec": {"bus": {"partitions": 12}, "services": {"oms": {"slo": SLO}}},
}
LABELS = {"trade2026.io/stack": "desk", "app.kubernetes.io/instance": "desk-oms"}
WORKLOAD = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "desk-oms", "namespace": "trading", "labels": LABELS, "generation": 1},
    "spec": {"replicas": 2},
    "status": {"observedGeneration": 1, "readyReplicas": 2, "currentRevision": "a", "updateRevision": "a"},
}
METRIC = {
    "metric": {
        "name": "trade2026_required_replicas",
        "selector": {"matchLabels": {"stack": "desk", "release": "oms"}},
    },
    "target": {"type": "AverageValue", "averageValue": "1"},
}
AUTOSCALER = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "desk-oms", "namespace": "trading", "labels": LABELS},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "desk-oms"},
        "minReplicas": 1,
        "maxReplicas": 6,
        "metrics": [{"type": "External", "external": METRIC}],
    },
}


SCALED_OBJECT = {
    "apiVersion": "keda.sh/v1alpha1",
    "kind": "ScaledObject",
    "metadata": AUTOSCALER["metadata"],
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "desk-oms"},
        "minReplicaCount": 1,
        "maxReplicaCount": 6,
        "triggers": [
            {"type": "external", "metadata": {"scalerAddress": "m:9090", "stack": "desk", "release": "oms"}},
            {"type": "cpu", "metadata": {"value": "70"}},
        ],
    },
}
KEDAS_AUTOSCALER = {**AUTOSCALER, "metadata": {**AUTOSCALER["metadata"], "name": "keda-hpa-desk-oms"}}  # type: ignore[dict-item]


def pod(number: int) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True"}
    meta = {"name": f"desk-oms-{number}", "namespace": "trading", "labels": LABELS, "uid": f"p-{number}"}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": meta,
        "status": {"podIP": f"10.0.0.{number}", "conditions": [ready]},
    }  # fmt: skip


class Desk:
    """Two pods of the order service, each at so many requests a second that take 2 ms of its loop."""

    def __init__(self, rate: float = 300.0, autoscaler: dict[str, Any] = AUTOSCALER) -> None:
        self.autoscaler = autoscaler
        self.kube, self.seconds, self.rate, self.done = FakeKube(), 1_000.0, rate, 0.0
        self.silent: set[str] = set()
        self.said: list[tuple[str, str]] = []
        self.lead()

    def lead(self) -> None:
        """A leader that knows nothing but what it sees."""
        self.cache = Cache(lambda key: None, lambda: self.seconds)
        self.cache.stack_seen(copy.deepcopy(STACK))
        for each in (WORKLOAD, self.autoscaler, pod(0), pod(1)):
            self.cache.child_seen(copy.deepcopy(each))
        record = Wanted("desk-oms", "trading", {}, {}, "", "")
        desired = Desired((ReleaseWanted(record, (WORKLOAD, self.autoscaler), ("oms",)),))
        self.scaler = Scaler(self.kube, self.cache, self._say, self._ask, lambda: self.seconds, lambda: self.seconds)
        self.scaler.planned(KEY, STACK, desired)
        self.said_too = ""
        """By its pods, beside what they always say."""

    async def run(self, seconds: float) -> None:
        for _ in range(int(seconds // 5)):
            self.seconds += 5
            self.done += 5 * self.rate
            await self.scaler.look()

    def asked(self) -> float:
        return self.scaler.board.asked(OMS, self.seconds)

    def condition(self, kind: str) -> tuple[bool | None, str]:
        found = self.cache.observed(KEY).scaling or ()
        return next((each.status, each.reason) for each in found if each.type == kind)

    async def _say(self, stack: object, reason: str, message: str, is_warning: bool) -> None:
        self.said.append((reason, message))

    async def _ask(self, address: str, port: int) -> str:
        assert port == 8099
        if address in self.silent:
            raise Unreadable("it does not answer")
        labels = 'service="oms"'
        return "\n".join(
            [
                f'trade2026_request_seconds_bucket{{{labels},le="0.01"}} {self.done}',
                f'trade2026_request_seconds_bucket{{{labels},le="+Inf"}} {self.done}',
                f"trade2026_request_seconds_count{{{labels}}} {self.done}",
                f"trade2026_event_loop_cpu_seconds_total {self.done * 0.002}",
                "process_cpu_seconds 0",
                f'trade2026_submissions_total{{{labels},partition="0"}} {self.done / 2}',
                self.said_too,
            ]
        )


async def test_a_release_that_keda_scales_is_measured_and_told_of_as_any_other() -> None:
    desk, plain = Desk(autoscaler=SCALED_OBJECT), Desk()
    await desk.run(170)
    await plain.run(170)
    assert desk.asked() == plain.asked() > 1
    assert desk.condition("ScalingActive") == (True, "Measured")
    deaf = {"type": "ScalingActive", "status": "False", "message": "no metrics"}
    desk.cache.child_seen({**KEDAS_AUTOSCALER, "status": {"conditions": [deaf]}})
    await desk.run(70)
    assert desk.condition("ScalingActive") == (False, "AutoscalerFails")


@pytest.mark.parametrize(
    "said", [{"type": "Ready", "status": "False", "message": "no specs"}, {"type": "Paused", "status": "True"}]
)
async def test_of_a_scaled_object_without_an_autoscaler_it_is_told_why(said: dict[str, str]) -> None:
    desk = Desk(autoscaler=SCALED_OBJECT)
    desk.cache.child_seen({**SCALED_OBJECT, "status": {"conditions": [{"type": "Active", "status": "Unknown"}, said]}})
    await desk.run(170)
    assert desk.condition("ScalingActive") == (False, "AutoscalerFails")
    desk.cache.child_seen(KEDAS_AUTOSCALER)
    await desk.run(70)
    assert desk.condition("ScalingActive") == (True, "Measured")


async def test_a_number_is_said_when_it_is_measured_and_falls_only_when_the_window_is_full() -> None:
    desk = Desk(rate=100.0)
    await desk.run(15)
    with pytest.raises(NotKnown, match="10 of 60 s are measured"):
        desk.asked()
    assert desk.condition("ScalingActive") == (False, "WindowIncomplete")
    await desk.run(5)
    assert desk.asked() == 2
    assert desk.scaler.board.asked(OMS, desk.seconds) == 2
    await desk.run(600)
    assert 1 <= desk.asked() < 1.7, "the two that there are were forgotten slowly"
    assert desk.condition("SLOMet") == (True, "WithinObjective")
    assert "Measured" in [reason for reason, _ in desk.said]


async def test_replicas_that_have_too_much_to_do_to_be_ready_are_heard() -> None:
    desk = Desk(rate=460.0)
    for number in (0, 1):
        unready = pod(number)
        unready["status"]["conditions"][0]["status"] = "False"
        unready["status"]["containerStatuses"] = [{"name": "oms", "ready": False, "started": True}]
        desk.cache.child_seen(unready)
    await desk.run(60)
    before = desk.asked()
    assert before > 4, "they are busy for 92 % of the time"
    starting = pod(2)
    starting["status"] |= {"conditions": [], "containerStatuses": [{"name": "oms", "ready": False, "started": False}]}
    desk.cache.child_seen(starting)
    await desk.run(10)
    assert desk.asked() == pytest.approx(before, rel=0.02), "one that has not started yet is not waited for"


async def test_a_replica_without_a_node_is_told_of_and_not_measured() -> None:
    desk = Desk()
    unschedulable = pod(2)
    said = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes: Insufficient cpu.",
    }
    unschedulable["status"] = {"phase": "Pending", "conditions": [said]}
    desk.cache.child_seen(unschedulable)
    await desk.run(120)
    assert desk.asked() > 1
    assert desk.condition("ScalingLimited") == (True, "Unschedulable")
    assert any("pod desk-oms-2 can't be scheduled: 0/1 nodes: Insufficient cpu." in words for _, words in desk.said)


async def test_more_load_needs_more_replicas_and_most_silent_is_no_answer() -> None:
    desk = Desk()
    await desk.run(120)
    before = desk.asked()
    desk.rate = 450
    await desk.run(10)
    assert desk.asked() > before * 1.2, "a burst counts at once"
    desk.silent = {"10.0.0.0", "10.0.0.1"}
    await desk.run(60)
    with pytest.raises(NotKnown, match="0 of 2 replicas"):
        desk.asked()
    assert desk.condition("ScalingActive") == (False, "MetricsMissing")


@pytest.mark.parametrize(
    "said",
    [
        "trade2026_submissions_total 7",
        'trade2026_request_seconds_bucket{le="soon"} 1',
        "trade2026_event_loop_cpu_seconds_total NaN",
        "trade2026_event_loop_cpu_seconds_total 1e308",
    ],
)
async def test_numbers_that_make_no_sense_hold_one_release_and_end_nothing(said: str) -> None:
    desk = Desk()
    await desk.run(120)
    desk.said_too = said
    await desk.run(60)
    with pytest.raises(NotKnown):
        desk.asked()
    assert desk.condition("ScalingActive")[0] is False
    desk.said_too = ""
    await desk.run(60)
    assert desk.asked() > 1


async def test_what_goes_wrong_with_one_stack_is_told_in_the_log_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk()
    monkeypatch.setattr(desk.kube, "get", None)
    await desk.run(10)
    assert "scaling of trading/desk is looked at again" in caplog.text
    monkeypatch.undo()
    await desk.run(60)
    assert desk.asked() > 1


async def test_a_leader_that_does_not_look_any_more_is_no_answer_after_half_a_minute() -> None:
    desk = Desk()
    await desk.run(120)
    desk.seconds += 31
    with pytest.raises(NotKnown, match="31 s old"):
        desk.asked()


async def test_the_next_leader_knows_what_was_learned_and_measures_rates_itself() -> None:
    desk = Desk()
    await desk.run(SAVE_SECONDS + 120)
    learned = desk.scaler._stacks[KEY].followed["oms"]
    assert learned.fit.measurements > 10
    desk.lead()
    await desk.run(5)
    restored = desk.scaler._stacks[KEY].followed["oms"]
    assert restored.fit.measurements > 10 and restored.fit.c == pytest.approx(learned.fit.c, rel=0.1)
    assert sum(minute.total for minute in restored.window.minutes) > 10_000
    with pytest.raises(NotKnown, match="of 60 s"):
        desk.asked()


async def test_what_was_learned_of_another_quantile_or_objective_does_not_count() -> None:
    desk = Desk()
    await desk.run(SAVE_SECONDS + 60)
    known = desk.scaler._stacks[KEY].followed["oms"]
    learned, minutes = known.fit, list(known.window.minutes)
    known.resume(0.05, 0.99, learned, minutes)
    assert known.fit.measurements > 10
    counted = len(known.window.minutes)
    known.resume(0.04, 0.99, learned, minutes)
    assert known.fit == learned and len(known.window.minutes) == counted, "its answers were slow by another measure"
    known.follow(Window(0.05, 0.999))
    assert known.fit == Fit(service_seconds=learned.service_seconds) and not known.window.minutes
    known.resume(0.05, 0.99, learned, minutes)
    assert known.fit.measurements == 0 and not known.window.minutes


async def test_what_is_remembered_is_written_seldom_and_only_if_it_is_new() -> None:
    desk = Desk()
    await desk.run(SAVE_SECONDS * 2 + 60)
    assert [call for call in desk.kube.calls if call[1].kind == "ConfigMap"] == [
        ("apply", Ref("v1", "ConfigMap", "trading", "desk-slo"))
    ] * 2


async def test_a_stack_that_is_gone_is_not_answered_for() -> None:
    desk = Desk()
    await desk.run(120)
    desk.cache.stack_gone(copy.deepcopy(STACK))
    await desk.run(5)
    with pytest.raises(NotKnown, match="no release oms"):
        desk.asked()


def test_the_tightest_objective_decides_and_a_service_has_one_of_its_own() -> None:
    several = {"latency": [{"quantile": 0.5, "under": "40ms"}, {"quantile": 0.99, "under": "50ms"}]}
    assert objective_of("oms", {"slo": several}).quantile == 0.99
    assert (objective_of("oms", {}).seconds, objective_of("oms", {}).quantile) == (0.05, 0.999)
