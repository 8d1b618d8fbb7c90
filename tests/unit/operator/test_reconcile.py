"""An operator keeps a stack as its manifest says, whatever happens to it or to the cluster."""

import copy
import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.operated import CLAIM, KEY, KEYS, SERVICE, STACK, WORKLOAD, Desk, TinyChart
from tests.unit.operator.rolled_out import revisions

from trade2026_operator.cache import REFUSAL_SECONDS
from trade2026_operator.helm.records import Status, from_secret, to_secret
from trade2026_operator.helm.render import Rendered, RenderFailed
from trade2026_operator.reconcile.objects import Ref
from trade2026_operator.reconcile.reconcile import FINALIZER
from trade2026_operator.worker import CANCEL_SECONDS_MAX

SECOND = Ref("v1", "Secret", KEY.namespace, "sh.helm.release.v1.desk.v2")


async def test_a_stack_is_made_and_says_what_it_waits_for_until_it_is_ready() -> None:
    desk = Desk()
    await desk.apply()
    await desk.settle()
    assert {WORKLOAD, SERVICE, CLAIM, KEYS} <= desk.kube.objects.keys()
    assert desk.kube.objects[STACK]["metadata"]["finalizers"] == [FINALIZER]
    ready = desk.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ServicesNotReady")
    assert "0 of 1 pods" in ready["message"] and desk.condition("Reconciling")["status"] == "True"
    assert revisions(desk) == [(1, "pending-install")]
    desk.become_ready()
    await desk.settle()
    assert {kind: desk.condition(kind)["status"] for kind in ("Ready", "Reconciling", "Stalled", "Released")} == {
        "Ready": "True", "Reconciling": "False", "Stalled": "False", "Released": "True",
    }  # fmt: skip
    assert revisions(desk) == [(1, "deployed")]
    status = desk.kube.objects[STACK]["status"]
    assert status["observedGeneration"] == desk.kube.objects[STACK]["metadata"]["generation"]
    assert status["servicesReady"].split("/")[0] == status["servicesReady"].split("/")[1] != "0"


async def test_every_turn_of_a_condition_is_told_once() -> None:
    desk = Desk()
    await desk.run()
    assert desk.said[-1] == ("Ready", "all 13 services are ready")
    await desk.apply(paused=True)
    await desk.settle()
    await desk.apply(paused=False)
    await desk.settle()
    assert [reason for reason, _ in desk.said] == ["Ready", "Paused", "Resumed"]
    desk.kube.tell(WORKLOAD, {"readyReplicas": 0})
    await desk.settle()
    desk.become_ready()
    await desk.settle()
    assert [reason for reason, _ in desk.said[3:]] == ["ServicesNotReady", "Ready"]
    assert "0 of 1 pods" in desk.said[3][1]


async def test_a_second_look_and_a_new_operator_write_nothing() -> None:
    desk = Desk()
    await desk.run()
    await desk.look()
    assert desk.kube.calls == []
    before = {ref: found["metadata"]["resourceVersion"] for ref, found in desk.kube.objects.items()}
    desk.start_operator()
    await desk.settle()
    assert {ref: found["metadata"]["resourceVersion"] for ref, found in desk.kube.objects.items()} == before
    assert {verb for verb, _ in desk.kube.calls} == {"apply"}, "each object is applied once, which changes none"


async def test_keys_that_a_person_has_made_are_the_stacks() -> None:
    desk = Desk()
    await desk.kube.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": KEYS.name, "namespace": KEYS.namespace},
            "data": {"key": "bWluZQ=="},
        }
    )
    await desk.run()
    assert desk.kube.objects[KEYS]["data"] == {"key": "bWluZQ=="} and desk.condition("Ready")["status"] == "True"


async def test_an_idle_look_asks_nothing_of_the_api_server() -> None:
    desk = Desk()
    await desk.run()
    reads = desk.kube.reads
    for _ in range(5):
        await desk.look()
    assert (desk.kube.reads, desk.kube.calls) == (reads, [])


@pytest.mark.parametrize(
    ("ref", "change"),
    [
        (WORKLOAD, {"spec": {"template": {"spec": {"containers": [{"name": "all", "image": "evil:1"}]}}}}),
        (WORKLOAD, {"spec": {"replicas": 3}}),
        (SERVICE, {"spec": {"selector": {"trade2026.io/stack": "other"}}}),
        (SERVICE, {"metadata": {"labels": {"app.kubernetes.io/instance": "x"}}}),
    ],
)
async def test_what_somebody_changes_is_put_back_and_told(ref: Any, change: dict[str, Any]) -> None:
    desk = Desk()
    await desk.run()
    before = desk.asked()
    desk.kube.edit(ref, change)
    await desk.settle()
    assert desk.asked() == before
    assert ("DriftCorrected", f"{ref} was changed by somebody else, and is as it was") in desk.said


async def test_what_others_add_is_theirs() -> None:
    desk = Desk()
    await desk.run()
    desk.kube.edit(WORKLOAD, {"metadata": {"annotations": {"note": "mine"}}, "spec": {"revisionHistoryLimit": 3}})
    desk.kube.edit(SERVICE, {"spec": {"clusterIP": "10.0.0.7"}}, manager="kube-controller-manager")
    desk.become_ready()
    await desk.settle()
    assert desk.kube.calls == [] and [reason for reason, _ in desk.said] == ["Ready"]
    assert desk.kube.objects[WORKLOAD]["metadata"]["annotations"]["note"] == "mine"


@pytest.mark.parametrize("ref", [WORKLOAD, SERVICE])
async def test_what_somebody_deletes_is_made_again(ref: Any) -> None:
    desk = Desk()
    await desk.run()
    before = desk.asked()
    desk.kube.gone(ref)
    await desk.settle()
    assert desk.asked() == before
    assert ("DriftCorrected", f"{ref} was deleted by somebody else, and is as it was") in desk.said


async def test_with_warn_a_change_is_only_told_and_a_deletion_is_not_put_up_with() -> None:
    desk = Desk()
    await desk.run()
    await desk.apply(driftPolicy="Warn")
    desk.kube.edit(WORKLOAD, {"spec": {"replicas": 3}})
    await desk.settle()
    assert desk.kube.objects[WORKLOAD]["spec"]["replicas"] == 3
    drifted = desk.condition("Drifted")
    assert (drifted["status"], drifted["message"]) == ("True", "StatefulSet/desk was changed")
    desk.kube.gone(SERVICE)
    await desk.settle()
    assert SERVICE in desk.kube.objects


async def test_what_is_left_to_others_stays_as_they_make_it_and_nothing_else_does() -> None:
    desk = Desk()
    await desk.run()
    await desk.apply(driftIgnore=[{"kind": "StatefulSet", "paths": ["/spec/replicas", "/metadata/labels/team~1name"]}])
    desk.kube.edit(WORKLOAD, {"spec": {"replicas": 3}, "metadata": {"labels": {"team/name": "a"}}})
    desk.kube.edit(SERVICE, {"spec": {"ports": [{"port": 1}]}})
    await desk.settle()
    workload = desk.kube.objects[WORKLOAD]
    assert (workload["spec"]["replicas"], workload["metadata"]["labels"]["team/name"]) == (3, "a")
    assert desk.kube.objects[SERVICE]["spec"]["ports"] == [{"port": 8099}]
    desk.kube.edit(WORKLOAD, {"spec": {"template": {"spec": {"containers": []}}}})
    await desk.settle()
    workload = desk.kube.objects[WORKLOAD]
    assert workload["spec"]["replicas"] == 3 and workload["spec"]["template"]["spec"]["containers"]


async def test_a_change_of_the_spec_is_another_revision_and_the_one_before_is_superseded() -> None:
    desk = Desk()
    await desk.run()
    await desk.apply(defaultAccount="alpha")
    await desk.settle()
    assert revisions(desk) == [(1, "deployed"), (2, "pending-upgrade")]
    assert desk.condition("Released")["status"] == "False"
    desk.become_ready()
    await desk.settle()
    assert revisions(desk) == [(1, "superseded"), (2, "deployed")]


async def test_a_paused_stack_is_left_alone_and_says_so() -> None:
    desk = Desk()
    await desk.run()
    await desk.apply(paused=True, defaultAccount="alpha")
    desk.kube.gone(SERVICE)
    await desk.settle()
    assert SERVICE not in desk.kube.objects and revisions(desk) == [(1, "deployed")]
    assert desk.condition("Paused")["status"] == "True"
    await desk.apply(paused=False)
    await desk.settle()
    assert SERVICE in desk.kube.objects and desk.condition("Paused")["status"] == "False"


async def test_a_manifest_that_cannot_be_meant_stalls_and_takes_nothing_away() -> None:
    desk = Desk()
    await desk.run()
    before = desk.asked()
    await desk.apply(services={"oms": {"replicas": {"min": 3}}})
    await desk.settle()
    stalled = desk.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "SpecRefused")
    assert "embedded bus" in stalled["message"]
    assert desk.asked() == before
    await desk.apply(services={"oms": {"config": {"spede": 1}}})
    await desk.settle()
    assert desk.condition("Stalled")["message"].startswith("spec.services.oms"), "and of no line, which nobody wrote"
    assert desk.asked() == before
    await desk.apply(services={"oms": {"config": None, "replicas": {"min": 1}}})
    await desk.settle()
    assert desk.condition("Stalled")["status"] == "False"


class FailingChart(TinyChart):
    """Helm is killed."""

    def render(self, *_: Any) -> Rendered:
        raise RenderFailed("helm ended with -9")


async def test_a_rendering_that_fails_is_tried_again_and_is_no_fault_of_the_manifest() -> None:
    desk = Desk()
    await desk.run()
    before, good = desk.asked(), desk.worker.builder
    desk.worker.builder = replace(good, renderer=FailingChart())
    await desk.apply(defaultAccount="alpha")
    for _ in range(3):
        with pytest.raises(RenderFailed):
            await desk.look()
    assert desk.condition("Stalled")["status"] == "False" and desk.condition("Ready")["status"] == "True"
    reconciling = desk.condition("Reconciling")
    assert (reconciling["status"], reconciling["reason"]) == ("True", "RenderFailed")
    assert reconciling["message"] == "it is tried again, and all stays as it is: helm ended with -9"
    stack = desk.kube.objects[STACK]
    assert stack["status"]["observedGeneration"] < stack["metadata"]["generation"]
    assert desk.asked() == before and len(desk.kube.calls) == 1, "its status was written, once"
    desk.worker.builder = good
    await desk.settle()
    assert desk.asked() != before and desk.condition("Reconciling")["reason"] == "WaitingForPods"


async def test_a_stack_is_deleted_although_nothing_can_be_rendered() -> None:
    desk = Desk()
    await desk.run()
    desk.start_operator()
    desk.worker.builder = replace(desk.worker.builder, renderer=FailingChart())
    await desk.delete()
    for _ in range(6):
        await desk.look()
    assert STACK not in desk.kube.objects


async def test_what_the_api_server_refuses_is_told_and_not_asked_again_until_it_is_another() -> None:
    desk = Desk()
    desk.kube.refuses[WORKLOAD] = "exceeded quota: small"
    await desk.apply()
    await desk.settle()
    stalled = desk.condition("Stalled")
    assert (stalled["reason"], stalled["message"]) == ("ObjectRefused", "StatefulSet/desk: exceeded quota: small")
    assert SERVICE in desk.kube.objects, "the others are there"
    desk.kube.refuses.clear()
    desk.seconds += REFUSAL_SECONDS
    await desk.settle()
    assert WORKLOAD in desk.kube.objects and desk.condition("Stalled")["status"] == "False"


@pytest.mark.parametrize("changed", [{"defaultAccount": "beta"}, {"driftReleases": ["desk"]}])
async def test_a_persons_rollback_stands_until_the_spec_changes(changed: dict[str, Any]) -> None:
    desk = Desk()
    await desk.run()
    await desk.apply(defaultAccount="alpha")
    await desk.settle()
    desk.become_ready()
    await desk.settle()
    by_hand = copy.deepcopy(next(each for ref, each in desk.kube.objects.items() if ref.name.endswith(".v2")))
    record = from_secret(by_hand)
    rolled = replace(record, revision=3, rollback_revision=1, status=Status.DEPLOYED, by_operator=False)
    await desk.kube.create(to_secret(rolled, desk.moment, {"trade2026.io/stack": KEY.name}))
    desk.kube.edit(WORKLOAD, {"spec": {"replicas": 1, "note": "rolled back"}}, manager="helm-by-hand")
    desk.kube.calls.clear()
    await desk.settle()
    drifted = desk.condition("Drifted")
    assert (drifted["status"], drifted["reason"]) == ("True", "HumanRelease")
    assert "helm rollback" in drifted["message"]
    assert not [ref for verb, ref in desk.kube.calls if verb == "apply"]
    await desk.apply(**changed)
    await desk.settle()
    desk.become_ready()
    await desk.settle()
    assert revisions(desk)[-1] == (4, "deployed") and desk.condition("Drifted")["status"] == "False"


async def test_a_deleted_stack_cancels_its_orders_first_and_keeps_its_data() -> None:
    desk = Desk()
    await desk.run()
    desk.can_cancel = False
    await desk.delete()
    await desk.look()
    await desk.look()
    assert desk.cancels == 2 and WORKLOAD in desk.kube.objects, "nothing goes before the orders are cancelled"
    desk.can_cancel = True
    for _ in range(6):
        await desk.look()
        assert (KEY in desk.cache.stacks) is (STACK in desk.kube.objects), "with the hold on it goes the stack"
    assert STACK not in desk.kube.objects and WORKLOAD not in desk.kube.objects and SERVICE not in desk.kube.objects
    assert {CLAIM, KEYS} <= desk.kube.objects.keys() and revisions(desk) == []
    assert KEY not in desk.cache.stacks
    deleted = [ref for verb, ref in desk.kube.calls if verb == "delete"]
    assert deleted.index(WORKLOAD) < deleted.index(SERVICE)


async def test_with_delete_the_data_goes_too_and_a_stack_out_of_reach_is_deleted_all_the_same() -> None:
    desk = Desk()
    await desk.run()
    await desk.apply(deletionPolicy="Delete")
    await desk.settle()
    desk.can_cancel = False
    await desk.delete()
    for _ in range(25):
        await desk.look()
    assert WORKLOAD in desk.kube.objects, "it is tried for a time, however often it is looked at"
    desk.moment += timedelta(seconds=CANCEL_SECONDS_MAX)
    for _ in range(6):
        await desk.look()
    assert desk.kube.objects == {}
    assert "OrdersNotCancelled" in [reason for reason, _ in desk.said]


async def test_a_stack_of_which_nothing_runs_when_it_is_deleted_says_that_nobody_has_cancelled_its_orders() -> None:
    desk = Desk()
    await desk.run()
    del desk.kube.objects[WORKLOAD]
    desk.can_cancel = False
    await desk.delete()
    await desk.look()
    desk.moment += timedelta(seconds=CANCEL_SECONDS_MAX)
    for _ in range(6):
        await desk.look()
    assert STACK not in desk.kube.objects
    assert [reason for reason, _ in desk.said].count("OrdersNotCancelled") == 1


@pytest.mark.parametrize("fails_after", [False, True], ids=["before the write", "after the write"])
async def test_whichever_write_fails_it_comes_to_the_same_end(fails_after: bool) -> None:
    whole = Desk()
    await whole.run()
    await whole.apply(defaultAccount="alpha")
    await whole.settle()
    whole.become_ready()
    await whole.settle()
    for number in itertools.count():
        desk = Desk()
        desk.kube.fails_after = fails_after
        await desk.apply()
        await desk.settled_although(number)
        first = len(desk.kube.calls)
        desk.start_operator()  # it died of it
        await desk.apply(defaultAccount="alpha")
        await desk.settled_although(number - first)
        assert desk.asked() == whole.asked(), number
        assert revisions(desk) == revisions(whole), number
        assert desk.condition("Ready")["status"] == "True", number
        if not desk.kube.failures:  # there are no more
            break
    assert number > 20


async def test_a_release_whose_records_are_gone_stays_uninstalled_until_the_spec_changes() -> None:
    desk = Desk()
    await desk.run()
    for ref in [ref for ref, found in desk.kube.objects.items() if found.get("type") == "helm.sh/release.v1"]:
        desk.kube.objects.pop(ref)
    await desk.settle()
    await desk.settle()
    assert (desk.condition("Drifted")["status"], desk.condition("Drifted")["reason"]) == ("True", "HumanRelease")
    assert revisions(desk) == []
    await desk.apply(defaultAccount="alpha")
    await desk.settle()
    desk.become_ready()
    await desk.settle()
    assert revisions(desk) == [(1, "deployed")]
    assert desk.condition("Drifted")["status"] == "False"


# ── what is not ours ─────────────────────────────────────────────────────────────────────────


def labelled(name: str, **annotations: str) -> dict[str, Any]:
    managed = {"app.kubernetes.io/managed-by": "Helm"} if annotations else {}
    metadata = {"name": name, "namespace": KEY.namespace, "labels": {"trade2026.io/stack": KEY.name, **managed}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**metadata, "annotations": annotations}, "data": {}}


async def test_what_others_have_labelled_as_a_stack_s_is_theirs_also_when_it_is_deleted() -> None:
    desk = Desk()
    await desk.run()
    await desk.kube.create(labelled("notes"))
    await desk.kube.apply(labelled("mine", **{"meta.helm.sh/release-name": "mine"}), "helm")
    await desk.kube.apply(labelled("ours", **{"meta.helm.sh/release-name": "desk"}), "helm")
    await desk.settle()
    there = {ref.name for ref in desk.kube.objects if ref.kind == "ConfigMap"}
    assert {"notes", "mine"} <= there and "ours" not in there, "what we have made and is not wanted goes"
    await desk.delete()
    for _ in range(6):
        await desk.look()
    assert STACK not in desk.kube.objects
    assert {ref.name for ref in desk.kube.objects if ref.kind == "ConfigMap"} == {"notes", "mine"}


# ── keys that are lost ───────────────────────────────────────────────────────────────────────


async def test_keys_that_were_made_anew_are_told_until_pods_have_read_them() -> None:
    desk = Desk()
    await desk.run()
    assert desk.condition("KeysCurrent")["status"] == "True"
    pod = Ref("v1", "Pod", KEY.namespace, "desk-0")
    running = {"name": "all", "ready": True, "state": {"running": {"startedAt": "2026-03-04T05:10:00Z"}}}
    metadata = {"name": pod.name, "namespace": pod.namespace, "uid": "p", "labels": {"trade2026.io/stack": KEY.name}}
    desk.kube.objects[pod] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    desk.kube.tell(pod, {"containerStatuses": [running]})
    del desk.kube.objects[KEYS]
    await desk.settle()
    desk.kube.objects[KEYS]["metadata"] |= {"creationTimestamp": "2026-03-04T06:00:00Z", "resourceVersion": "anew"}
    await desk.settle()
    found = desk.condition("KeysCurrent")
    assert (found["status"], found["reason"]) == ("False", "MadeAnew") and "desk-0 began before" in found["message"]
    assert [reason for reason, _ in desk.said].count("KeysMadeAnew") == 1
    made = copy.deepcopy(desk.kube.objects[KEYS])
    desk.kube.edit(KEYS, {"data": {"key": "bWluZQ=="}})
    await desk.settle()
    assert desk.condition("KeysCurrent")["status"] == "True", "somebody has put the old ones back"
    desk.kube.edit(KEYS, {"data": made["data"]})
    running["state"] = {"running": {"startedAt": "2026-03-04T06:10:00Z"}}
    desk.kube.tell(pod, {"containerStatuses": [running]})
    await desk.settle()
    assert desk.condition("KeysCurrent")["status"] == "True"
