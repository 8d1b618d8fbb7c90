"""A stack on Kafka, its services apart from each other and its orders split between replicas, on a real cluster.

One stack for all tests here. What takes long is left to `make soak`, which sets `E2E_FAULTS=all`: harm under orders, and
another version and back.
"""

import json
import sys
import time
from collections.abc import Iterator

import pytest
from e2e.beside import Operator, logs
from e2e.cluster import Cluster, wait_for
from e2e.desk import Desk
from e2e.prober import Prober, probing
from e2e.servers import Servers, servers_of
from e2e.soak import soak
from e2e.versions import NEW, OLD, change, until_it_runs

PARTITIONS = 6
ACCOUNTS = tuple(f"prober-{number}" for number in range(18))
"""So many that each partition has some."""
ORDER_SERVICES = ("desk-oms-0", "desk-oms-1")


@pytest.fixture(scope="module")
def servers(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    yield from servers_of(cluster, tmp_path_factory.mktemp("servers"))


@pytest.fixture(scope="module")
def shared(servers: Servers, shared_operator: Operator, shared_namespace: str, cluster: Cluster) -> Desk:
    """The stack of all tests here, ready."""
    desk = Desk(cluster, shared_namespace)
    shared_operator.start("first")
    services = {"oms": {"replicas": {"min": len(ORDER_SERVICES)}}}
    rollout = {"bake": "2s"}
    wanted = servers.manifest(partitions=PARTITIONS, placement="spread", services=services, rollout=rollout)
    desk.kubectl("apply", "-f", "-", given=wanted)
    applied = time.monotonic()
    desk.until("Ready")
    print(f"ready {time.monotonic() - applied:.1f} s after kubectl apply")
    return desk


@pytest.fixture
def desk(shared: Desk, shared_operator: Operator) -> Iterator[Desk]:
    """It is ready before and after every test."""
    logs.append(shared_operator.log)
    shared.until("Ready")
    yield shared
    shared.until("Ready")


@pytest.fixture
def prober(desk: Desk) -> Iterator[Prober]:
    """Sends orders in each partition while a test does harm; then they go through, and each is accounted for."""
    with probing(desk.cluster, desk.namespace, accounts=ACCOUNTS) as made:
        made.until_acknowledged(len(ACCOUNTS))
        yield made
        made.until_acknowledged(len(ACCOUNTS))
    print(made.account())


def command_line(desk: Desk, *words: str) -> str:
    """What `trade2026` prints about the desk, which it finds by the cluster's context."""
    place = ("--context", "trade2026", "--namespace", desk.namespace)
    return desk.cluster.call(sys.executable, "-m", "trade2026", *place, *words)


def test_services_apart_with_two_order_services_trade(desk: Desk, prober: Prober) -> None:
    assert {*ORDER_SERVICES, "desk-gateway-0"} <= desk.pods().keys()
    prober.until_acknowledged(100)
    assert "ready" in command_line(desk, "status").splitlines()[0]
    submitted = json.loads(command_line(desk, "order", "submit", "BTCUSDT", "buy", "0.001", "--json"))
    assert submitted["status"] == "PendingNew"


@soak
@pytest.mark.parametrize("killed", [ORDER_SERVICES[:1], ORDER_SERVICES], ids=["one", "both"])
def test_order_services_are_killed(desk: Desk, prober: Prober, killed: tuple[str, ...]) -> None:
    before = desk.pods()
    desk.kubectl("delete", "pod", *killed, "--grace-period=0", "--force")
    wait_for("others take their place", lambda: _new(desk, before) == {*killed})


@soak
def test_the_broker_is_killed_and_comes_back(desk: Desk, servers: Servers, prober: Prober) -> None:
    pods, restarts = desk.pods(), desk.restarts()
    servers.kafka.kill()
    desk.until("Ready", "False")
    servers.kafka.start()
    prober.until_acknowledged(len(ACCOUNTS))
    desk.until("Ready")
    assert (desk.pods(), desk.restarts()) == (pods, restarts), "all go on by themselves"


@soak
def test_pods_come_back_without_an_operator_and_the_next_one_disturbs_nothing(
    desk: Desk, shared_operator: Operator, prober: Prober
) -> None:
    shared_operator.kill()
    before, away = desk.pods(), {"desk-oms-1", "desk-gateway-0", "desk-risk-0"}
    desk.kubectl("delete", "pod", *away, "--grace-period=0", "--force")
    wait_for("others take their place", lambda: _new(desk, before) == away)
    desk.kubectl("wait", "--for=condition=Ready", "pod", *away, "--timeout=150s")
    pods = desk.pods()
    shared_operator.start("second")
    desk.kubectl("delete", "service", "desk-risk")
    wait_for("it is at work", lambda: "service/desk-risk" in desk.kubectl("get", "services", "--output=name"))
    desk.until("Ready")
    assert desk.pods() == pods


@soak
def test_a_stack_of_the_same_name_in_another_namespace_is_refused_by_the_brokers(
    desk: Desk, prober: Prober, servers: Servers, operator: Operator, namespace: str
) -> None:
    """Each operator sees one namespace."""
    before, other = (desk.pods(), desk.restarts()), Desk(desk.cluster, namespace)
    operator.start("other")
    other.kubectl("apply", "-f", "-", given=servers.manifest(partitions=PARTITIONS))
    for container in ("orders", "projections"):
        words = ("logs", "desk-0", "-c", container, "--previous")
        said = f"the topics are those of the stack desk in namespace {desk.namespace}, and this one is in {namespace}"
        wait_for(f"{container} says why", lambda words=words, said=said: said in other.kubectl(*words, check=False))
    prober.until_acknowledged(len(ACCOUNTS))
    assert other.condition("Ready")["status"] == "False"
    assert (desk.pods(), desk.restarts()) == before, "nobody here was disturbed"


@soak
@pytest.mark.timeout(2_400)
@pytest.mark.usefixtures("old_image")
def test_the_version_before_runs_and_this_one_again(desk: Desk, prober: Prober) -> None:
    for version in (OLD, NEW):
        began = time.monotonic()
        change(desk, version=version)
        until_it_runs(desk, version)
        print(f"{version} runs {time.monotonic() - began:.1f} s after it was asked for")


def _new(desk: Desk, before: dict[str, str]) -> set[str]:
    """Names of pods that are there, and are others than before."""
    return {name for name, uid in desk.pods().items() if before.get(name, "") != uid}
