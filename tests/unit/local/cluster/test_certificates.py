"""Who speaks for what: two authorities, and a client's name and group are those that Kubernetes gives rights to."""

import base64
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from trade2026.local.cluster import certificates


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    certificates.write(made / "pki", made)
    return made


def certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "pki" / f"{name}.crt").read_bytes())


@pytest.mark.parametrize("name", [*certificates.SUBJECTS, *certificates.CLIENTS])
def test_each_certificate_is_signed_by_its_authority_and_fits_its_key(folder: Path, name: str) -> None:
    subject = (certificates.SUBJECTS | certificates.CLIENTS)[name]
    made = certificate(folder, name)
    made.verify_directly_issued_by(certificate(folder, subject.authority))
    assert [each.value for each in made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [subject.name]
    key = load_pem_private_key((folder / "pki" / f"{name}.key").read_bytes(), None)
    assert key.public_key() == made.public_key()


def test_the_api_server_answers_to_its_addresses_and_to_its_name_in_the_cluster(folder: Path) -> None:
    names = certificate(folder, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == [
        "127.0.0.1",
        "10.200.0.1",
        "10.202.0.1",
    ]


def test_no_client_could_pass_for_the_proxy_in_front(folder: Path) -> None:
    assert certificate(folder, "ca").subject != certificate(folder, "front-proxy-ca").subject


def test_a_kubeconfig_holds_its_clients_key_and_only_its_owner_reads_it(folder: Path) -> None:
    path = folder / "admin.conf"
    made = yaml.safe_load(path.read_text())
    assert made["clusters"][0]["cluster"]["server"] == "https://10.200.0.1:6443"
    (user,) = made["users"]
    assert base64.b64decode(user["user"]["client-key-data"]) == (folder / "pki" / "admin.key").read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert (folder / "pki" / "sa.key").stat().st_mode & 0o777 == 0o600


def test_what_is_there_stays(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "pki").iterdir()}
    certificates.write(folder / "pki", folder)
    assert {path.name: path.read_bytes() for path in (folder / "pki").iterdir()} == before
