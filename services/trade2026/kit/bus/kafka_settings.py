"""Where the brokers are, who we are to them, and how topics are made there. No secret is a setting: names of them are."""

import os
import ssl
from pathlib import Path

import msgspec

from trade2026.kit.bus.port import BusRefused

USERNAME_VARIABLE = "TRADE2026_KAFKA_USERNAME"
PASSWORD_VARIABLE = "TRADE2026_KAFKA_PASSWORD"
_WHERE = "spec.bus.kafka"


class Tls(msgspec.Struct, kw_only=True, frozen=True):
    """Whom we trust, and how we prove who we are, with TLS."""

    ca_file: str = ""
    """Empty: what the system trusts."""
    cert_file: str = ""
    key_file: str = ""

    def context(self) -> ssl.SSLContext:
        """What connections are made with. Raises `BusRefused`: a file can't be used."""
        for name, path in (("caFile", self.ca_file), ("certFile", self.cert_file), ("keyFile", self.key_file)):
            if path and not Path(path).is_file():
                raise BusRefused(f"{_WHERE}.tls.{name}: there is no file {path}")
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except ssl.SSLError as error:
            raise BusRefused(f"{_WHERE}.tls.caFile {self.ca_file} holds no certificate: {error}") from error
        if self.cert_file:
            try:
                context.load_cert_chain(self.cert_file, self.key_file)
            except (ssl.SSLError, OSError) as error:
                raise BusRefused(
                    f"{_WHERE}.tls: {self.key_file} is not the key of the certificate in {self.cert_file}: {error}"
                ) from error
        return context


class Sasl(msgspec.Struct, kw_only=True, frozen=True):
    """How we say who we are; what is said lies in files, else in the environment."""

    mechanism: str = "PLAIN"
    username_variable: str = USERNAME_VARIABLE
    username_file: str = ""
    password_variable: str = PASSWORD_VARIABLE
    password_file: str = ""

    def username(self) -> str:
        """Raises `BusRefused`: there is none."""
        return _secret("username", self.username_file, self.username_variable)

    def password(self) -> str:
        """Raises `BusRefused`: there is none."""
        return _secret("password", self.password_file, self.password_variable)


class KafkaSettings(msgspec.Struct, kw_only=True, frozen=True):
    """All that one process is told of the brokers."""

    bootstrap_servers: str
    prefix: str
    """Of the names of topics and groups, so that stacks can share brokers."""
    namespace: str = ""
    """Where the stack lives in a cluster: one of the same name elsewhere has other logs. Empty: it may be any."""
    tls: Tls | None = None
    sasl: Sasl | None = None
    replication: int = 1
    min_insync_replicas: int = 1
    session_seconds: float = 10.0
    """A replica that was not heard of for so long has lost its partitions."""

    @property
    def security_protocol(self) -> str:
        """As Kafka calls it."""
        encrypted = "SSL" if self.tls is not None else "PLAINTEXT"
        return f"SASL_{encrypted}" if self.sasl is not None else encrypted


def _secret(what: str, path: str, variable: str) -> str:
    if path:
        try:
            found = Path(path).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BusRefused(f"{_WHERE}.sasl.{what}File {path} can't be read: {error}") from error
        if not found:
            raise BusRefused(f"{_WHERE}.sasl.{what}File {path} is empty")
        return found
    if not (found := os.environ.get(variable, "")):
        raise BusRefused(f"set {variable}, or name a file in {_WHERE}.sasl.{what}File: the brokers ask who we are")
    return found
