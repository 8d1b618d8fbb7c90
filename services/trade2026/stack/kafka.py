"""The brokers of Apache Kafka that a stack keeps its log on. Secrets stay out: a manifest says where they are."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from trade2026.stack.strict import Model


class Tls(Model):
    """Whom we trust, and how we prove who we are. Without a certificate of ours brokers must not ask for one."""

    ca_file: str = Field(
        default="", description="Certificates that are trusted, PEM; empty: those of the system. Paths may be relative."
    )
    cert_file: str = Field(default="", description="Our certificate, PEM, where brokers ask for one.")
    key_file: str = Field(default="", description="Its key, PEM, not encrypted.")

    @model_validator(mode="after")
    def _a_certificate_has_a_key(self) -> "Tls":
        if bool(self.cert_file) != bool(self.key_file):
            missing = "keyFile" if self.cert_file else "certFile"
            raise ValueError(f"{missing} is missing: a certificate and its key go together")
        return self


_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"


class Sasl(Model):
    """How we say who we are. User name and password come from files, else from environment variables."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="As the brokers have it; PLAIN sends the password itself, so it needs TLS."
    )
    username_variable: str = Field(
        default="TRADE2026_KAFKA_USERNAME", pattern=_VARIABLE, description="Environment variable with the user name."
    )
    username_file: str = Field(default="", description="File with the user name, instead.")
    password_variable: str = Field(
        default="TRADE2026_KAFKA_PASSWORD", pattern=_VARIABLE, description="Environment variable with the password."
    )
    password_file: str = Field(default="", description="File with the password, instead.")


_SERVERS = r"^[A-Za-z0-9._\[\]:-]+:\d{1,5}(,[A-Za-z0-9._\[\]:-]+:\d{1,5})*$"


class Kafka(Model):
    """Brokers of Apache Kafka, and how topics are made there."""

    bootstrap_servers: str = Field(
        pattern=_SERVERS,
        description="Where to ask first: HOST:PORT, several with commas between. Topics begin with the stack's name.",
    )
    replication: int = Field(default=1, ge=1, le=9, description="Copies of each topic; 1 makes every append an fsync.")
    min_insync_replicas: int = Field(
        default=1, ge=1, le=9, description="As many copies hold what is acknowledged; below that nothing is."
    )
    session_seconds: int = Field(
        default=10,
        ge=6,
        le=1800,
        description="A replica that was not heard of for so long has lost its partitions to the others.",
    )
    tls: Tls | None = Field(default=None, description="Speak TLS; `{}` trusts what the system trusts.")
    sasl: Sasl | None = Field(default=None, description="Say who we are; `{}` takes the defaults.")

    @field_validator("bootstrap_servers", mode="before")
    @classmethod
    def _is_written_as_addresses(cls, value: object) -> object:
        if isinstance(value, str) and not re.match(_SERVERS, value):
            raise ValueError(f'must be host:port[,host:port], such as "kafka-1:9092,kafka-2:9092", not {value!r}')
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "Kafka":
        if self.min_insync_replicas > self.replication:
            raise ValueError(
                f"minInsyncReplicas {self.min_insync_replicas} is more than replication {self.replication}"
            )
        if self.sasl is not None and self.sasl.mechanism == "PLAIN" and self.tls is None:
            raise ValueError("sasl.mechanism PLAIN would send the password in the clear; add tls, or use SCRAM-SHA-512")
        return self
