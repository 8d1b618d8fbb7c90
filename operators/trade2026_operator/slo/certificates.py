"""The certificate of the metrics server, and the authority that has signed it: made here, and renewed in good time.

The API server believes every authority in the bundle, so a new one can be added before the old one has ended, and neither
order of the two changes (bundle first, certificate first) leaves a moment in which nothing is believed.
"""

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3_650
SERVER_DAYS = 90
RENEW_DAYS = 30
"""So long before its end a certificate is renewed."""
_BEFORE = timedelta(minutes=5)
"""Clocks differ."""


@dataclass(frozen=True)
class Certificates:
    """As PEM. `authorities` has the newest first; the key is that of the newest."""

    authorities: str
    authority_key: str
    certificate: str
    key: str


def to_data(made: Certificates) -> dict[str, str]:
    """As a Secret has it."""
    texts = {
        "ca.crt": made.authorities,
        "ca.key": made.authority_key,
        "tls.crt": made.certificate,
        "tls.key": made.key,
    }
    return {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}


def from_data(data: dict[str, Any]) -> Certificates | None:
    """What a Secret has; None if that is not all of it."""
    try:
        texts = [base64.b64decode(data[name]).decode() for name in ("ca.crt", "ca.key", "tls.crt", "tls.key")]
    except (KeyError, ValueError):
        return None
    return Certificates(*texts)


def renewed(before: Certificates | None, names: tuple[str, ...], now: datetime) -> Certificates:
    """What is to be used now: the same, if it is good for long enough and for these names.

    Args:
        names: Under which the server is asked; the first is its own.
    """
    try:
        return _renewed(before, names, now)
    except ValueError:  # somebody has put something else there
        return _renewed(None, names, now)


def _renewed(before: Certificates | None, names: tuple[str, ...], now: datetime) -> Certificates:
    authorities = x509.load_pem_x509_certificates(before.authorities.encode()) if before is not None else []
    standing = [each for each in authorities if each.not_valid_after_utc > now]
    if before is None or not standing or not _is_good(standing[0], now, SERVER_DAYS):
        key = ec.generate_private_key(ec.SECP256R1())
        standing = [_authority(key, now), *standing]
        return _issued(standing, key, names, now)
    server = x509.load_pem_x509_certificate(before.certificate.encode())
    if _is_good(server, now, RENEW_DAYS) and _names_of(server) == list(names):
        return before
    key = load_pem_private_key(before.authority_key.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("this key is not ours")
    return _issued(standing, key, names, now)


def _is_good(certificate: x509.Certificate, now: datetime, days: int) -> bool:
    return certificate.not_valid_after_utc - now > timedelta(days=days)


def _names_of(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.DNSName)


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = _name(f"trade2026-metrics-{now:%Y%m%d%H%M%S}")
    return (
        _builder(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _issued(
    standing: list[x509.Certificate], signer: ec.EllipticCurvePrivateKey, names: tuple[str, ...], now: datetime
) -> Certificates:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(names[0][:64]), standing[0].subject, key, now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    bundle = "".join(each.public_bytes(Encoding.PEM).decode() for each in standing)
    return Certificates(bundle, _pem(signer), certificate.public_bytes(Encoding.PEM).decode(), _pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
