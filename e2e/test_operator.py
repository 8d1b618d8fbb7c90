"""The operator on a real cluster: a manifest becomes a desk that runs, heals and goes, and a new operator disturbs none."""

import json
import signal
import time
from typing import Any

from e2e.beside import Operator
from e2e.cluster import Cluster, wait_for
from e2e.desk import Desk, manifest

from trade2026_operator.helm.releases import keys_name


def test_a_manifest_becomes_a_desk_that_trades_heals_outlives_its_operator_and_goes(
    operator: Operator, cluster: Cluster, namespace: str
) -> None:
    desk = Desk(cluster, namespace)
    operator.start("first")
    desk.kubectl("apply", "-f", "-", given=manifest())
    applied = time.monotonic()
    wait_for("it says what it waits for", lambda: desk.condition("Ready")["message"])
    desk.until("Ready")
    print(f"ready {time.monotonic() - applied:.1f} s after kubectl apply")
    desk.kubectl("wait", "--for=condition=Ready", "ts/desk", "--timeout=10s")
    assert desk.order(1) == 200
    (release,) = json.loads(cluster.helm("list", "-n", namespace, "--output=json"))
    assert (release["name"], release["status"], release["revision"]) == ("desk", "deployed", "1")

    # What somebody changes or deletes is put back, without a pod being touched.
    pods = desk.pods()
    began = time.monotonic()
    desk.kubectl("delete", "service", "desk-oms")
    desk.kubectl("patch", "service", "desk-risk", "--type=merge", "-p", '{"spec":{"selector":{"a":"b"}}}')
    wait_for("the Service is back", lambda: "desk-oms" in desk.kubectl("get", "services", "--output=name"))
    wait_for("its selector is right", lambda: "a" not in desk.get("service", "desk-risk")["spec"]["selector"])
    print(f"corrected {time.monotonic() - began:.1f} s after the harm")
    wait_for("an Event tells", lambda: "DriftCorrected" in desk.kubectl("get", "events"))
    assert desk.pods() == pods

    if cluster.place is not None:
        _delete_unseen(operator, cluster, desk)
        assert desk.pods() == pods

    # An operator that dies is followed by another, which makes good what happened meanwhile and restarts nothing.
    operator.kill()
    desk.kubectl("delete", "configmap", "desk")
    assert desk.order(2) == 200
    operator.start("second")
    wait_for("the settings are back", lambda: "configmap/desk" in desk.kubectl("get", "configmaps", "--output=name"))
    desk.until("Ready")
    assert desk.pods() == pods

    # Keys that are lost are made anew, and it is told until the pods have read them.
    desk.kubectl("delete", "secret", keys_name("desk"))
    desk.until("KeysCurrent", "False")
    assert "desk-0 began before" in desk.condition("KeysCurrent")["message"] and desk.order(9) == 401
    wait_for("an Event tells", lambda: "KeysMadeAnew" in desk.kubectl("get", "events"))

    # A change of the spec is another revision; a mistake takes nothing away and says what it is.
    desk.kubectl("patch", "ts", "desk", "--type=merge", "-p", '{"spec":{"risk":{"limits":{"maxOpenOrders":1000}}}}')
    wait_for(
        "it is released", lambda: json.loads(cluster.helm("list", "-n", namespace, "-o", "json"))[0]["revision"] == "2"
    )
    desk.until("Released")
    desk.until("Ready")
    desk.until("KeysCurrent")
    assert desk.order(3) == 200

    notes = {"name": "notes", "labels": {"trade2026.io/stack": "desk"}}
    desk.kubectl("create", "-f", "-", given={"apiVersion": "v1", "kind": "ConfigMap", "metadata": notes})
    desk.kubectl("delete", "ts", "desk", "--wait=true", "--timeout=120s")
    left = desk.kubectl("get", "all,configmaps,networkpolicies", "-l", "trade2026.io/stack=desk", "--output=name")
    assert wait_for("all is gone", lambda: not desk.pods() or None) and "statefulset" not in left
    assert keys_name("desk") in desk.kubectl("get", "secrets", "--output=name"), "the keys stay, as the data does"
    assert "configmap/notes" in left, "what others have labelled so is theirs"


HARMS: dict[str, dict[str, Any]] = {
    "configmap/desk-orders": {"data": {"orders.json": "{}"}},
    "horizontalpodautoscaler/desk-orders": {"spec": {"maxReplicas": 9}},
    "networkpolicy/desk-orders": {"spec": {"ingress": []}},
    "poddisruptionbudget/desk-orders": {"spec": {"maxUnavailable": 2}},
    "service/desk-oms": {"spec": {"selector": {"a": "b"}}},
    "serviceaccount/desk-orders": {"automountServiceAccountToken": True},
    "statefulset/desk-orders": {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 7}}}},
}
"""Every kind of object that a stack is made of but its volume and keys, and a change of each by hand."""


def test_every_kind_of_child_is_put_back_when_somebody_changes_or_deletes_it(
    operator: Operator, cluster: Cluster, namespace: str
) -> None:
    desk = Desk(cluster, namespace)
    operator.start("first")
    desk.kubectl("apply", "-f", "-", given=_wide())
    for name in HARMS:
        wait_for(f"{name} is made", lambda name=name: _found(desk, name))
    made = {name: _asked(desk.get(name)) for name in HARMS}
    whole = desk.kubectl("get", "all", "-l", "trade2026.io/stack=desk", "--output=jsonpath={.items[*].kind}")
    assert {kind.lower() for kind in whole.split()} <= {name.split("/")[0] for name in HARMS} | {"pod"}

    began = time.monotonic()
    for name, change in HARMS.items():
        desk.kubectl("patch", *name.split("/"), "--type=merge", "-p", json.dumps(change))
    for name in HARMS:
        wait_for(f"{name} is as it was", lambda name=name: _asked(desk.get(name)) == made[name])
    print(f"{len(HARMS)} kinds changed by hand were right {time.monotonic() - began:.1f} s after the first was")
    desk.kubectl("scale", "statefulset/desk-orders", "--replicas=0")  # an autoscaler leaves it so
    wait_for("it has its least again", lambda: desk.get("statefulset/desk-orders")["spec"]["replicas"] == 2)
    began = time.monotonic()
    uids = {name: desk.get(name)["metadata"]["uid"] for name in HARMS}
    desk.kubectl("delete", *HARMS)
    for name in HARMS:
        wait_for(
            f"{name} is back",
            lambda name=name: (found := _found(desk, name)) and found["metadata"]["uid"] != uids[name] and found,
        )
        assert _asked(desk.get(name)) == made[name]
    print(f"{len(HARMS)} kinds deleted by hand were back {time.monotonic() - began:.1f} s after the first was")


def _wide() -> dict[str, Any]:
    """A stack with an object of every kind. No pod of it starts: there is no image of its version."""
    wanted = manifest()
    oms = {"replicas": {"min": 2, "max": 3}, "slo": {"latency": [{"under": "50ms"}]}}
    kafka = {"type": "kafka", "partitions": 4, "kafka": {"bootstrapServers": "broker:9092"}}
    spec = {**wanted["spec"], "version": "0.0.8", "bus": kafka, "placement": "grouped", "services": {"oms": oms}}
    return {**wanted, "spec": spec}


def _found(desk: Desk, name: str) -> dict[str, Any] | None:
    told = desk.kubectl("get", name, "--output=json", check=False)
    return json.loads(told) if told.startswith("{") else None


def _asked(found: dict[str, Any]) -> dict[str, Any]:
    """What an object says, without what the API server has given it by chance."""
    said = {name: value for name, value in found.items() if name not in ("metadata", "status", "secrets")}
    given = ("clusterIP", "clusterIPs", "replicas")
    return {**said, "spec": {name: value for name, value in said.get("spec", {}).items() if name not in given}}


def _delete_unseen(operator: Operator, cluster: Cluster, desk: Desk) -> None:
    """An API server that was started again has forgotten what happened while the operator heard nothing: nobody tells it."""
    assert operator.process is not None
    operator.process.send_signal(signal.SIGSTOP)
    try:
        cluster.kill("kube-apiserver")
        wait_for("the API server answers", lambda: "ok" in cluster.kubectl("get", "--raw=/readyz", check=False))
        desk.kubectl("delete", "service", "desk-oms")
    finally:
        operator.process.send_signal(signal.SIGCONT)
    began = time.monotonic()
    wait_for("it is back", lambda: "desk-oms" in desk.kubectl("get", "services", "--output=name"))
    print(f"back {time.monotonic() - began:.1f} s after the operator could hear again")
    assert operator.process.poll() is None
