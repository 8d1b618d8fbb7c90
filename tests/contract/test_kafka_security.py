"""TLS and SASL against a real broker: who fits is let in, and who does not is told at once what to change."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from bench.stack import ROOT, environment
from tests.e2e.stack import free_port_offset
from tests.infra import started
from tests.secure_kafka import PASSWORD, USER, Authority, SecureKafka

from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_settings import KafkaSettings, Sasl, Tls
from trade2026.kit.bus.port import BusError, BusRefused, TopicConfig

TOPIC = TopicConfig(name="orders.events")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    assert shutil.which("openssl"), "these tests make certificates with openssl: install it"
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    component = SecureKafka(tmp_path_factory.mktemp("kafka"), authority)
    started(component)
    yield component
    component.stop()


@pytest.fixture(scope="module")
def tls(authority: Authority) -> Tls:
    certificate, key = authority.sign("stack")
    return Tls(ca_file=str(authority.ca), cert_file=str(certificate), key_file=str(key))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "others")


def login(folder: Path, mechanism: str, password: str = PASSWORD) -> Sasl:
    names = {"username_file": USER, "password_file": password}
    for name, value in names.items():
        (folder / name).write_text(f"{value}\n")
    return Sasl(mechanism=mechanism, **{name: str(folder / name) for name in names})


async def use(address: str, tls: Tls | None, sasl: Sasl | None = None) -> None:
    """Be an owner and a reader once."""
    bus = KafkaBus(KafkaSettings(bootstrap_servers=address, prefix=uuid4().hex, tls=tls, sasl=sasl), [TOPIC])
    try:
        writer = await bus.claim(TOPIC.name, 0, "oms")
        assert await writer.append([b"secret"]) == 0
        assert [record.body for record in await bus.read(TOPIC.name, 0, 0, 10)] == [b"secret"]
        await bus.commit("ptrc", TOPIC.name, 0, 1)
        assert await bus.committed("ptrc", TOPIC.name, 0) == 1
    finally:
        await bus.close()


async def test_a_certificate_of_ours_is_shown_where_brokers_ask_for_one(broker: SecureKafka, tls: Tls) -> None:
    await use(broker.ssl_address, tls)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_name_and_password_let_us_in(
    broker: SecureKafka, authority: Authority, tmp_path: Path, mechanism: str
) -> None:
    await use(broker.sasl_address, Tls(ca_file=str(authority.ca)), login(tmp_path, mechanism))


async def test_name_and_password_may_come_from_the_environment(
    broker: SecureKafka, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESK_NAME", USER)
    monkeypatch.setenv("TRADE2026_KAFKA_PASSWORD", PASSWORD)
    sasl = Sasl(mechanism="SCRAM-SHA-512", username_variable="DESK_NAME")
    await use(broker.sasl_address, Tls(ca_file=str(authority.ca)), sasl)
    monkeypatch.delenv("DESK_NAME")
    with pytest.raises(BusRefused, match=r"set DESK_NAME, or name a file in spec\.bus\.kafka\.sasl\.usernameFile"):
        await use(broker.sasl_address, Tls(ca_file=str(authority.ca)), sasl)


async def test_a_broker_whose_certificate_another_has_signed_is_not_trusted(
    broker: SecureKafka, stranger: Authority, tmp_path: Path
) -> None:
    tls = Tls(ca_file=str(stranger.ca))
    with pytest.raises(BusRefused, match=rf"the certificate of {broker.sasl_address} is not trusted .*tls\.caFile"):
        await use(broker.sasl_address, tls, login(tmp_path, "PLAIN"))


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN", "SCRAM-SHA-256"])
async def test_a_wrong_password_or_mechanism_is_told_as_such(
    broker: SecureKafka, authority: Authority, tmp_path: Path, mechanism: str
) -> None:
    with pytest.raises(BusRefused, match=rf"does not let us in .*{mechanism} is used.*user name and password"):
        await use(broker.sasl_address, Tls(ca_file=str(authority.ca)), login(tmp_path, mechanism, "guess"))


async def test_a_missing_certificate_and_a_missing_protocol_are_guessed(
    broker: SecureKafka, authority: Authority
) -> None:
    with pytest.raises(BusError, match=r"if it wants a certificate of ours, name it in spec\.bus\.kafka\.tls\.cert"):
        await use(broker.ssl_address, Tls(ca_file=str(authority.ca)))
    with pytest.raises(BusError, match=r"if it wants TLS, add spec\.bus\.kafka\.tls"):
        await use(broker.sasl_address, None)
    with pytest.raises(BusError, match=r"if it does not speak TLS, leave out spec\.bus\.kafka\.tls"):
        await use(broker.address, Tls(ca_file=str(authority.ca)))


async def test_files_that_are_missing_or_do_not_belong_together_are_named(
    authority: Authority, stranger: Authority, tls: Tls
) -> None:
    with pytest.raises(BusRefused, match=r"tls\.caFile: there is no file /nowhere"):
        Tls(ca_file="/nowhere").context()
    _, key = stranger.sign("another")
    with pytest.raises(BusRefused, match=r"is not the key of the certificate in"):
        Tls(ca_file=tls.ca_file, cert_file=tls.cert_file, key_file=str(key)).context()


def test_up_says_at_once_what_does_not_fit(broker: SecureKafka, authority: Authority, tmp_path: Path) -> None:
    login(tmp_path, "PLAIN", "guess")
    shutil.copy(authority.ca, tmp_path / "ca.pem")
    brokers = (
        f'kafka: {{bootstrapServers: "{broker.sasl_address}", tls: {{caFile: ca.pem}}, '
        "sasl: {usernameFile: username_file, passwordFile: password_file}}"
    )
    text = (ROOT / "manifests" / "kafka.yaml").read_text()
    manifest = tmp_path / "desk.yaml"
    manifest.write_text(text.replace('kafka: {bootstrapServers: "127.0.0.1:9092"}', brokers))
    offset, held = free_port_offset(manifest)
    held.close()
    words = ["up", "-f", str(manifest), "--port-offset", str(offset), "--state-dir", str(tmp_path / "state")]
    answer = subprocess.run(
        [sys.executable, "-m", "trade2026", *words], capture_output=True, text=True, env=environment(), timeout=60
    )
    assert answer.returncode == 1
    assert "does not let us in" in answer.stderr and "user name and password" in answer.stderr
    assert "started" not in answer.stdout + answer.stderr, "no process was started"
