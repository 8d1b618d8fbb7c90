"""A stack on Kafka is the same stack with another bus."""

from pathlib import Path

import msgspec
import pytest
from bench.stack import ROOT

from trade2026.kit.bus.kafka_settings import KafkaSettings, Sasl
from trade2026.local.brokers import with_files
from trade2026.local.infra.component import InfraError
from trade2026.local.infra.wanted import wanted
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
        (
            'kafka: {bootstrapServers: "localhost"}',
            r"bootstrapServers: must be host:port\[,host:port\], .*, not 'localhost'",
        ),
        (
            'kafka: {bootstrapServers: "a:1,b:2", minInsyncReplicas: 2}',
            "minInsyncReplicas 2 is more than replication 1",
        ),
        ('kafka: {bootstrapServers: "a:1", sessionSeconds: 5}', r"sessionSeconds"),
        ('kafka: {bootstrapServers: "a:1", tls: {certFile: our.pem}}', r"keyFile is missing"),
        ('kafka: {bootstrapServers: "a:1", sasl: {mechanism: PLAIN}}', r"in the clear; add tls"),
        ('kafka: {bootstrapServers: "a:1", sasl: {mechanism: GSSAPI}}', r"sasl\.mechanism"),
        ('kafka: {bootstrapServers: "a:1", sasl: {password: secret}}', r"sasl\.password"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_its_name(brokers: str, fault: str) -> None:
    with pytest.raises(ManifestError, match=fault):
        load_all(KAFKA.replace(BROKERS, brokers))


def test_brokers_beside_the_embedded_bus_are_a_mistake() -> None:
    with pytest.raises(ManifestError, match="for type kafka only"):
        load_all(KAFKA.replace("type: kafka", "type: embedded"))


def test_processes_are_told_whom_to_trust_and_where_secrets_are_and_never_a_secret() -> None:
    brokers = 'kafka: {bootstrapServers: "a:1", tls: {caFile: ca.pem}, sasl: {passwordFile: /run/password}}'
    bus = plan(load_all(KAFKA.replace(BROKERS, brokers)).stack).releases[0].settings["bus"]
    bus = with_files(bus, Path("/etc/desk"))
    assert bus["kafka"]["tls"]["ca_file"] == "/etc/desk/ca.pem"
    settings = msgspec.convert({**bus["kafka"], "prefix": "desk"}, KafkaSettings)
    assert settings.security_protocol == "SASL_SSL"
    assert settings.sasl == Sasl(mechanism="SCRAM-SHA-512", password_file="/run/password")


def test_a_broker_that_is_started_here_has_no_locks(tmp_path: Path) -> None:
    planned = plan(load_all(KAFKA.replace(BROKERS, 'kafka: {bootstrapServers: "a:1", tls: {}}')).stack)
    with pytest.raises(InfraError, match=r"neither TLS nor SASL"):
        wanted(planned, tmp_path, 0)
