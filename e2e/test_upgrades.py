"""Another version of the platform, and back, under orders; what fails goes back by itself; a new operator restarts nothing."""

import itertools
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.beside import Operator
from e2e.cluster import Cluster, wait_for
from e2e.desk import ROOT, Desk, manifest
from e2e.prober import probing
from e2e.servers import Servers, servers_of
from e2e.soak import soak
from e2e.versions import NEW, NONE, OLD, change, until_it_runs, versions

from e2e.test_kafka import ACCOUNTS, PARTITIONS
from e2e.test_strategies import SHY


@pytest.fixture
def servers(cluster: Cluster, tmp_path: Path) -> Iterator[Servers]:
    yield from servers_of(cluster, tmp_path)


@pytest.mark.usefixtures("old_image")
def test_a_desk_is_upgraded_and_goes_back_and_a_new_operator_leaves_it_alone(
    operator: Operator, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    desk = Desk(cluster, namespace)
    operator.start("first")
    wanted = manifest()
    desk.kubectl(
        "apply", "-f", "-", given={**wanted, "spec": {**wanted["spec"], "version": OLD, "rollout": {"bake": "2s"}}}
    )
    desk.until("Ready")
    until_it_runs(desk, OLD)
    with probing(cluster, namespace) as prober:
        for version in (NEW, OLD):
            began = time.monotonic()
            change(desk, version=version)
            until_it_runs(desk, version)
            prober.until_acknowledged()
            print(f"{version} runs {time.monotonic() - began:.1f} s after it was asked for")
        print(prober.account())

    # Another operator, that renders everything in another way, touches nothing.
    before, pods = desk.get("statefulset", "desk"), desk.pods()
    operator.kill()
    operator.start("second", "--charts", str(_another_chart(tmp_path)))
    desk.kubectl("delete", "service", "desk-risk")
    wait_for("it is at work", lambda: "service/desk-risk" in desk.kubectl("get", "services", "--output=name"))
    desk.until("Ready")
    after = desk.get("statefulset", "desk")
    assert (desk.pods(), after["metadata"]["generation"]) == (pods, before["metadata"]["generation"])
    assert desk.condition("Released")["status"] == "True"

    # What can't run goes back to what ran, to the letter.
    change(desk, version=NONE, rollout={"progressDeadline": "20s"})
    desk.until("RolledBack")
    desk.until("Ready")
    rolled = wait_for(
        "it is back", lambda: (found := desk.condition("Progressing"))["reason"] == "RolledBack" and found
    )
    assert "desk-0: ErrImageNeverPull" in rolled["message"], rolled
    assert desk.condition("RolledBack")["reason"] == "ImagePull"
    assert desk.get("statefulset", "desk")["spec"] == before["spec"]
    assert desk.order(1) == 200
    history = json.loads(cluster.helm("history", "desk", "-n", namespace, "--output=json"))
    assert [each["status"] for each in history][-2:] == ["failed", "deployed"]
    wait_for("an Event tells", lambda: "RollingBack" in desk.kubectl("get", "events"))

    # A limit that is tightened now holds for what runs, and a strategy comes and goes: nothing is tried again for it.
    pods = desk.pods()
    change(desk, risk={"limits": {"maxOrderQuantity": "0.5"}})
    wait_for("its pod is another", lambda: desk.pods() not in ({}, pods))
    desk.until("Ready")
    assert (desk.order(2, quantity="1"), desk.order(3)) == (422, 200)
    desk.kubectl("apply", "-f", "-", given=SHY)
    desk.kubectl("wait", "--for=condition=Ready", "strat/shy", "--timeout=120s")
    desk.kubectl("patch", "strat", "shy", "--type=merge", "-p", '{"spec":{"paused":true}}')
    desk.kubectl("wait", "--for=condition=Paused", "strat/shy", "--timeout=120s")
    desk.kubectl("delete", "strat", "shy", "--timeout=120s")
    wait_for("its pod is gone", lambda: set(desk.pods()) == {"desk-0"})
    assert versions(desk) == {OLD}
    assert desk.condition("RolledBack")["reason"] == "ImagePull" and desk.condition("Ready")["status"] == "True"
    history = json.loads(cluster.helm("history", "desk", "-n", namespace, "--output=json"))
    assert [each["status"] for each in history].count("failed") == 1, history


@soak
@pytest.mark.timeout(1_800)
@pytest.mark.usefixtures("old_image")
def test_two_order_services_on_kafka_are_upgraded_and_go_back_and_what_fails_does_not_reach_the_second(
    operator: Operator, servers: Servers, cluster: Cluster, namespace: str
) -> None:
    desk = Desk(cluster, namespace)
    operator.start("first")
    services, rollout = {"oms": {"replicas": {"min": 2}}}, {"bake": "2s"}
    wanted = servers.manifest(
        partitions=PARTITIONS, version=OLD, placement="grouped", services=services, rollout=rollout
    )
    desk.kubectl("apply", "-f", "-", given=wanted)
    desk.until("Ready")
    until_it_runs(desk, OLD)
    with probing(cluster, namespace, accounts=ACCOUNTS) as prober:
        for version in (NEW, OLD):
            began = time.monotonic()
            change(desk, version=version)
            until_it_runs(desk, version)
            prober.until_acknowledged(len(ACCOUNTS))
            print(f"{version} runs {time.monotonic() - began:.1f} s after it was asked for")
        pods = desk.pods()
        change(desk, version=NONE, rollout={"progressDeadline": "20s"})
        desk.until("RolledBack")
        prober.until_acknowledged(len(ACCOUNTS))
        desk.until("Ready")
        print(prober.account())
    assert desk.condition("RolledBack")["reason"] == "ImagePull"
    assert versions(desk) == {OLD}
    assert {name for name, uid in desk.pods().items() if uid != pods[name]} == {"desk-orders-1"}
    assert len(prober.logs) == PARTITIONS
    for log in prober.logs:
        owners = [event["data"]["code_version"] for event in log if event["type"] == "OwnerStarted"]
        print(f"partition {log[0]['event_id'].split('/')[1]} was owned by {' '.join(owners)}")
        assert [version for version, _ in itertools.groupby(owners)] == [OLD, NEW, OLD]
        assert len(owners) <= 1 + 3 * 2, "it goes to the other one and back, each time that something is rolled out"


@soak
@pytest.mark.parametrize(
    ("limits", "reason"), [({"memory": "16Mi"}, "CrashLoop"), ({"cpu": "10m"}, "NotReady")], ids=["crash", "probe"]
)
def test_a_value_with_which_pods_crash_or_never_become_ready_goes_back_by_itself(
    operator: Operator, cluster: Cluster, namespace: str, limits: dict[str, str], reason: str
) -> None:
    desk = Desk(cluster, namespace)
    operator.start("first")
    desk.kubectl("apply", "-f", "-", given=manifest())
    desk.until("Ready")
    before = desk.get("statefulset", "desk")["spec"]
    with probing(cluster, namespace) as prober:
        change(desk, services={"oms": {"resources": {"limits": limits}}}, rollout={"progressDeadline": "20s"})
        rolled = wait_for("it is back", lambda: (found := desk.condition("RolledBack"))["status"] == "True" and found)
        desk.until("Ready")
        prober.until_acknowledged()
    print(prober.account())
    assert rolled["reason"] == reason and "desk-0" in rolled["message"], rolled
    assert desk.get("statefulset", "desk")["spec"] == before


def _another_chart(folder: Path) -> Path:
    """Charts that put one more annotation into each pod."""
    shutil.copytree(ROOT / "charts", folder / "charts")
    workload = folder / "charts" / "trade2026-service" / "templates" / "workload.yaml"
    said = workload.read_text()
    marked = said.replace("      annotations:\n", "      annotations:\n        example.org/built: another\n", 1)
    assert marked != said
    workload.write_text(marked)
    return folder / "charts"
