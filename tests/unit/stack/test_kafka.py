"""A stack on Kafka is the same stack with another bus."""

import pytest
from bench.stack import ROOT

from trade2026.stack.manifest import ManifestError, load_all
from trade2026.stack.planner import plan

MANIFESTS = ROOT / "manifests"
KAFKA = (MANIFESTS / "kafka.yaml").read_text()
BROKERS = 'kafka: {bootstrapServers: "127.0.0.1:9092"}'


def test_the_manifest_is_the_quickstart_with_another_bus_and_other_stores_and_nothing_else() -> None:
    quickstart, kafka = load_all((MANIFESTS / "quickstart.yaml").read_text()), load_all(KAFKA)
    assert kafka.stack.spec.bus.type == "kafka"
    same = kafka.stack.spec.model_copy(
        update={"bus": quickstart.stack.spec.bus, "stores": quickstart.stack.spec.stores}
    )
    assert kafka.stack.model_copy(update={"spec": same}) == quickstart.stack
    assert kafka.strategies == quickstart.strategies


def test_every_process_is_told_where_the_brokers_are() -> None:
    for release in plan(load_all(KAFKA).stack).releases:
        brokers = release.settings["bus"]["kafka"]
        assert release.settings["bus"]["type"] == "kafka"
        assert (brokers["bootstrap_servers"], brokers["replication"]) == ("127.0.0.1:9092", 1)


@pytest.mark.parametrize(
    ("brokers", "fault"),
    [
        ("", "needs kafka.bootstrapServers"),
        ('kafka: {bootstrapServers: "localhost"}', "bootstrapServers"),
        (
            'kafka: {bootstrapServers: "a:1,b:2", minInsyncReplicas: 2}',
            "minInsyncReplicas 2 is more than replication 1",
        ),
        ('kafka: {bootstrapServers: "a:1", securityProtocol: SASL_SSL}', "saslUsername is missing"),
        ('kafka: {bootstrapServers: "a:1", saslPassword: secret}', "saslPassword"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_its_name(brokers: str, fault: str) -> None:
    with pytest.raises(ManifestError, match=fault):
        load_all(KAFKA.replace(BROKERS, brokers))


def test_brokers_beside_the_embedded_bus_are_a_mistake() -> None:
    with pytest.raises(ManifestError, match="for type kafka only"):
        load_all(KAFKA.replace("type: kafka", "type: embedded"))
