"""The brokers of Apache Kafka that a stack keeps its log on. Secrets stay out: a manifest says where they are."""

from typing import Literal

from pydantic import Field

from trade2026.stack.rules import Rule
from trade2026.stack.strict import Model
from trade2026.stack.written import Addresses, FilePath, Variable


class Tls(Model):
    """Whom we trust, and how we prove who we are. Without a certificate of ours brokers must not ask for one."""

    ca_file: FilePath = Field(
        default="", description="Certificates that are trusted, PEM; empty: those of the system. Paths may be relative."
    )
    cert_file: FilePath = Field(default="", description="Our certificate, PEM, where brokers ask for one.")
    key_file: FilePath = Field(default="", description="Its key, PEM, not encrypted.")

    rules = (
        Rule(
            'self.cert_file == "" or self.key_file != ""',
            "keyFile is missing: a certificate and its key go together",
            at="keyFile",
        ),
        Rule(
            'self.key_file == "" or self.cert_file != ""',
            "certFile is missing: a certificate and its key go together",
            at="certFile",
        ),
    )


class Sasl(Model):
    """How we say who we are. User name and password come from files, else from environment variables."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="As the brokers have it; PLAIN sends the password itself, so it needs TLS."
    )
    username_variable: Variable = Field(
        default="TRADE2026_KAFKA_USERNAME", description="Environment variable with the user name."
    )
    username_file: FilePath = Field(default="", description="File with the user name, instead.")
    password_variable: Variable = Field(
        default="TRADE2026_KAFKA_PASSWORD", description="Environment variable with the password."
    )
    password_file: FilePath = Field(default="", description="File with the password, instead.")


class Kafka(Model):
    """Brokers of Apache Kafka, and how topics are made there."""

    bootstrap_servers: Addresses = Field(
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

    rules = (
        Rule(
            "self.min_insync_replicas <= self.replication",
            "minInsyncReplicas {self.min_insync_replicas} is more than replication {self.replication}; lower it",
            at="minInsyncReplicas",
        ),
        Rule(
            'self.sasl is None or self.sasl.mechanism != "PLAIN" or self.tls is not None',
            "sasl.mechanism PLAIN would send the password in the clear; add tls, or use SCRAM-SHA-512",
            at="sasl",
        ),
    )
