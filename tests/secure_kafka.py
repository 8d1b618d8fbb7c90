"""A broker with every listener that a company may ask for, and the certificates for it."""

import subprocess
from pathlib import Path

from trade2026.local.infra.component import HOST, free_port
from trade2026.local.infra.kafka import Kafka

USER, PASSWORD = "desk", "open-sesame"
_DAYS = "2"


class Authority:
    """Signs certificates; needs the program `openssl`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._key = folder / "ca.key"
        subject = ("-subj", "/CN=authority of a test", "-keyout", str(self._key), "-out", str(self.ca))
        _openssl("req", "-x509", *_NEW_KEY, "-days", _DAYS, *subject)

    def sign(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """A certificate for this machine, and its key.

        Args:
            hosts: More of its names, as OpenSSL writes them: DNS:…, IP:….
        """
        certificate, key, request = (self.folder / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        _openssl("req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request))
        names = self.folder / "names"
        names.write_text("subjectAltName=" + ",".join((f"IP:{HOST}", "DNS:localhost", *hosts)))
        signer = ("-CA", str(self.ca), "-CAkey", str(self._key), "-CAcreateserial", "-days", _DAYS)
        _openssl("x509", "-req", "-in", str(request), *signer, "-extfile", str(names), "-out", str(certificate))
        return certificate, key


_NEW_KEY = ("-newkey", "rsa:2048", "-nodes")


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class SecureKafka(Kafka):
    """Beside the open listener: one that asks for our certificate, one with SASL under TLS."""

    def __init__(self, folder: Path, authority: Authority, *, host: str = HOST, name: str = "localhost") -> None:
        super().__init__(folder, host=host)
        self.ssl_address, self.sasl_address = f"{host}:{free_port()}", f"{host}:{free_port()}"
        self._authority, self._names = authority, (f"IP:{host}", f"DNS:{name}")
        self._store = folder / "broker.pem"

    def prepare(self) -> None:
        if not self._store.exists():
            certificate, key = self._authority.sign("broker", *self._names)
            self._store.write_text(key.read_text() + certificate.read_text())
        super().prepare()

    def settings(self) -> dict[str, object]:
        module = "org.apache.kafka.common.security"
        listeners = f"TLS://{self.ssl_address},LOGIN://{self.sasl_address}"
        plain = super().settings()
        return {
            **plain,
            "listeners": f"{plain['listeners']},{listeners}",
            "advertised.listeners": f"{plain['advertised.listeners']},{listeners}",
            "listener.security.protocol.map": f"{plain['listener.security.protocol.map']},TLS:SSL,LOGIN:SASL_SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self._store,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self._authority.ca,
            "listener.name.tls.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.login.plain.sasl.jaas.config": (
                f'{module}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
            ),
            "listener.name.login.scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
        }

    def format_options(self) -> list[str]:
        return ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"]
