"""Kafka, QuestDB and Valkey beside the cluster, at an address that pods reach, and a stack that keeps all it has there."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster import Cluster
from e2e.desk import manifest
from e2e.machine import HOST_VARIABLE
from tests.infra import require
from tests.secure_kafka import Authority, SecureKafka

from trade2026.local.cluster.place import NODE_IP
from trade2026.local.infra.component import Component
from trade2026.local.infra.kafka import Kafka
from trade2026.local.infra.questdb import QuestDb
from trade2026.local.infra.valkey import Valkey


@dataclass(frozen=True)
class Servers:
    """What `manifests/kafka.yaml` asks for, of one test or module: topics begin with the stack's name alone."""

    kafka: Kafka
    questdb: QuestDb
    valkey: Valkey

    @property
    def all(self) -> tuple[Component, ...]:
        return (self.kafka, self.questdb, self.valkey)

    def manifest(self, *, partitions: int = 1, **spec: Any) -> dict[str, Any]:
        """`manifests/kafka.yaml` as `desk`, with these addresses, and with more of the spec as it is written."""
        stack = manifest("kafka")
        bus = {"type": "kafka", "partitions": partitions, "kafka": {"bootstrapServers": self.kafka.address}}
        stores = {
            "timeseries": {"type": "questdb", "url": f"http://{self.questdb.address}"},
            "cache": {"type": "valkey", "url": f"redis://{self.valkey.address}"},
        }
        return {**stack, "spec": {**stack["spec"], "bus": bus, "stores": stores, **spec}}


def broker_of(cluster: Cluster, folder: Path) -> Iterator[Kafka]:
    """A broker alone."""
    made = Kafka(folder / "kafka", host=_host(cluster))
    with _running(made):
        yield made


@dataclass(frozen=True)
class Named:
    """A Service, and its ports: of the open listener, and of the one with TLS and a password."""

    name: str
    namespace: str
    plain: int
    secure: int


BROKERS = Named("kafka-kafka-bootstrap", "kafka", 9092, 9093)
"""What Strimzi makes of a Kafka called `kafka` in namespace `kafka`."""


def named_brokers_of(cluster: Cluster, folder: Path) -> Iterator[Authority]:
    """A broker that is found in the cluster by the name `BROKERS`, and who has signed its certificate."""
    host, authority = _host(cluster), Authority(folder / "authority")
    made = SecureKafka(folder / "kafka", authority, host=host, name=f"{BROKERS.name}.{BROKERS.namespace}.svc")
    with _running(made):
        _name(cluster, host, {BROKERS.plain: made.address, BROKERS.secure: made.sasl_address})
        yield authority


def _name(cluster: Cluster, host: str, ports: dict[int, str]) -> None:
    """A Service for addresses of this machine."""
    meta = {"name": BROKERS.name, "namespace": BROKERS.namespace}
    service = [{"name": f"p{port}", "port": port} for port in ports]
    ends = [{"name": f"p{port}", "port": int(address.rpartition(":")[2])} for port, address in ports.items()]
    labels = {"kubernetes.io/service-name": BROKERS.name}
    given = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": BROKERS.namespace}},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": service}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {**meta, "labels": labels},
         "addressType": "IPv4", "ports": ends, "endpoints": [{"addresses": [host]}]},
    ]  # fmt: skip
    cluster.kubectl("apply", "-f", "-", given=given)


def servers_of(cluster: Cluster, folder: Path) -> Iterator[Servers]:
    """All of them."""
    host = _host(cluster)
    made = Servers(
        Kafka(folder / "kafka", host=host),
        QuestDb(folder / "questdb", host=host),
        Valkey(folder / "valkey", host=host),
    )
    with _running(*made.all):
        yield made


def _host(cluster: Cluster) -> str:
    """Pods have a network of their own: their loopback is not ours."""
    if cluster.place is not None:
        return NODE_IP
    if host := os.environ.get(HOST_VARIABLE):
        return host
    pytest.skip(f"{HOST_VARIABLE} names no address of this machine that pods reach")


@contextlib.contextmanager
def _running(*components: Component) -> Iterator[None]:
    """They die with the thread that started them: this one."""
    for component in components:
        require(component)  # skipped where it is missing, before anything runs
    try:
        for component in components:
            component.start()
        yield
    finally:
        for component in components:
            component.stop()
