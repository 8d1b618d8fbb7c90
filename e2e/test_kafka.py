"""A stack on Kafka, its services apart from each other and its orders split between replicas, on a real cluster."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.beside import Operator
from e2e.cluster import Cluster
from e2e.desk import Desk
from e2e.prober import probing
from e2e.servers import Servers, servers_of

PARTITIONS = 6
ACCOUNTS = tuple(f"prober-{number}" for number in range(18))
"""So many that each partition has some."""


@pytest.fixture
def servers(cluster: Cluster, tmp_path: Path) -> Iterator[Servers]:
    yield from servers_of(cluster, tmp_path)


def command_line(desk: Desk, *words: str) -> str:
    """What `trade2026` prints about the desk, which it finds by the cluster's context."""
    place = ("--context", "trade2026", "--namespace", desk.namespace)
    return desk.cluster.call(sys.executable, "-m", "trade2026", *place, *words)


def test_services_apart_with_two_order_services_trade(
    operator: Operator, servers: Servers, cluster: Cluster, namespace: str
) -> None:
    desk = Desk(cluster, namespace)
    operator.start("first")
    services = {"oms": {"replicas": {"min": 2}}}
    wanted = servers.manifest(partitions=PARTITIONS, placement="spread", services=services)
    desk.kubectl("apply", "-f", "-", given=wanted)
    applied = time.monotonic()
    desk.until("Ready")
    print(f"ready {time.monotonic() - applied:.1f} s after kubectl apply")
    assert {"desk-oms-0", "desk-oms-1", "desk-gateway-0"} <= desk.pods().keys()
    with probing(cluster, namespace, accounts=ACCOUNTS) as prober:
        prober.until_acknowledged(100)
    print(prober.account())
    assert "ready" in command_line(desk, "status").splitlines()[0]
    submitted = json.loads(command_line(desk, "order", "submit", "BTCUSDT", "buy", "0.001", "--json"))
    assert submitted["status"] == "PendingNew"
