"""The cluster's keys and certificates: two authorities of its own, and who speaks for what under them."""

import base64
import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from trade2026.local.cluster.place import API_PORT, API_SERVICE_IP, NODE, NODE_IP, ClusterError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_DAYS = 365
_CLIENTS = "ca"
_FRONT_PROXY = "front-proxy-ca"
"""Must differ from the authority of clients, or a client could say it were somebody else."""


@dataclass(frozen=True)
class Subject:
    """Who a certificate is for: the name is the user, the organization the group; addresses are where a server answers."""

    name: str
    organization: str = ""
    addresses: tuple[str, ...] = ()
    authority: str = _CLIENTS


_SERVICE = ["kubernetes", "default", "svc", "cluster", "local"]
SUBJECTS = {
    "apiserver": Subject(
        "kube-apiserver",
        addresses=(
            "localhost",
            *(".".join(_SERVICE[:count]) for count in (1, 2, 3, 5)),
            *("127.0.0.1", NODE_IP, API_SERVICE_IP),
        ),
    ),
    "kubelet-client": Subject("kube-apiserver-kubelet-client", "system:masters"),
    "kubelet-server": Subject(NODE, addresses=(NODE, NODE_IP, "127.0.0.1")),
    "front-proxy-client": Subject("front-proxy-client", authority=_FRONT_PROXY),
}
CLIENTS = {
    "admin": Subject("admin", "system:masters"),
    "controller-manager": Subject("system:kube-controller-manager"),
    "scheduler": Subject("system:kube-scheduler"),
    "kubelet": Subject(f"system:node:{NODE}", "system:nodes"),
    "proxy": Subject("system:kube-proxy"),
    "coredns": Subject("system:coredns"),
}
"""Those who have a kubeconfig, `NAME.conf`."""


def write(folder: Path, kubeconfigs: Path) -> None:
    """Write what is not there yet.

    Args:
        folder: Of keys and certificates.
        kubeconfigs: Where the clients' configurations go.

    Raises:
        ClusterError: the package `cryptography` is missing.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise ClusterError("the package cryptography is missing: `pip install 'trade2026[data]'` brings it") from error
    folder.mkdir(parents=True, exist_ok=True)
    for name in (_CLIENTS, _FRONT_PROXY):
        if not (folder / f"{name}.crt").exists():
            _authority(folder, name)
    for name, subject in (SUBJECTS | CLIENTS).items():
        if not (folder / f"{name}.crt").exists():
            _certificate(folder, name, subject)
    if not (folder / "sa.pub").exists():
        _service_accounts(folder)
    for name in CLIENTS:
        _put(kubeconfigs / f"{name}.conf", kubeconfig(folder, name).encode())


def kubeconfig(folder: Path, name: str) -> str:
    """The configuration of one client, with its key in it."""

    def data(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    cluster = {"server": f"https://{NODE_IP}:{API_PORT}", "certificate-authority-data": data(f"{_CLIENTS}.crt")}
    user = {"client-certificate-data": data(f"{name}.crt"), "client-key-data": data(f"{name}.key")}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "trade2026",
            "clusters": [{"name": "trade2026", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "trade2026", "context": {"cluster": "trade2026", "user": name}}],
        },
        sort_keys=False,
    )


def _authority(folder: Path, name: str) -> None:
    from cryptography import x509

    key, names = _key(), _names(Subject(name))
    certificate = (
        _builder(names, names, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    _store(folder, name, certificate, key, signer=key)


def _certificate(folder: Path, name: str, subject: Subject) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509.oid import ExtendedKeyUsageOID

    authority = x509.load_pem_x509_certificate((folder / f"{subject.authority}.crt").read_bytes())
    signer = load_pem_private_key((folder / f"{subject.authority}.key").read_bytes(), None)
    assert isinstance(signer, EllipticCurvePrivateKey)
    key = _key()
    certificate = (
        _builder(_names(subject), authority.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if subject.addresses:
        names = [_address(each) for each in subject.addresses]
        certificate = certificate.add_extension(x509.SubjectAlternativeName(names), critical=False)
    _store(folder, name, certificate, key, signer)


def _address(text: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _names(subject: Subject) -> "x509.Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject.name)]
    if subject.organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.organization))
    return x509.Name(attributes)


def _builder(subject: "x509.Name", issuer: "x509.Name", key: "EllipticCurvePrivateKey") -> "x509.CertificateBuilder":
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
    )


def _key() -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _store(
    folder: Path,
    name: str,
    certificate: "x509.CertificateBuilder",
    key: "EllipticCurvePrivateKey",
    signer: "EllipticCurvePrivateKey",
) -> None:
    """The certificate last: who finds it finds its key, too."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    _put(folder / f"{name}.key", _pem(key))
    _put(folder / f"{name}.crt", certificate.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM))


def _pem(key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _service_accounts(folder: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = _key()
    _put(folder / "sa.key", _pem(key))
    _put(folder / "sa.pub", key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _put(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)
