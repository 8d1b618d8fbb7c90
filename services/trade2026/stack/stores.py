"""Where a stack keeps what it makes of its log: a store for each purpose, embedded unless the manifest names a server."""

from typing import Literal

from pydantic import Field

from trade2026.stack.rules import Rule
from trade2026.stack.strict import Model
from trade2026.stack.written import FilePath, Text, Url, Variable

_HERE = 'self.type in ("embedded", "none")'


class Store(Model):
    """One store: `type` says which, `url` where it is. A secret is never in a manifest."""

    type: str = "embedded"
    url: Url = ""

    rules = (
        Rule(f'not ({_HERE}) or self.url == ""', "url is for a server; say its type, too", at="url"),
        Rule(f'{_HERE} or self.url != ""', "type {self.type} needs url", at="url"),
    )


class TimeSeries(Store):
    """Time series, and what answers queries of them."""

    type: Literal["embedded", "questdb"] = Field(
        default="embedded", description="embedded: DuckDB in a file, in the process that writes; questdb: a server."
    )
    url: Url = Field(
        default="",
        examples=["http://127.0.0.1:9010"],
        pattern=r"^$|^https?://[A-Za-z0-9._\[\]:-]+:[0-9]+$",
        description="QuestDB's HTTP, e.g. http://127.0.0.1:9010. It serves one stack.",
    )
    username: Text = Field(default="", description="Who we are, where QuestDB asks.")
    password_file: FilePath = Field(
        default="", description="Holds the password; empty: the environment variable TRADE2026_QUESTDB_PASSWORD does."
    )


class Cache(Store):
    """The newest values by key."""

    type: Literal["embedded", "valkey"] = Field(
        default="embedded",
        description="embedded: in the memory of the process that answers; valkey: a Valkey or Redis server.",
    )
    url: Url = Field(
        default="",
        examples=["redis://127.0.0.1:6379"],
        pattern=r"^$|^rediss?://[A-Za-z0-9._\[\]:-]+:[0-9]+(/[0-9]+)?$",
        description="redis://HOST:PORT, with /NUMBER at its end for another database; rediss:// for TLS.",
    )
    username: Text = Field(default="", description="Who we are; empty: the server's default user.")
    password_file: FilePath = Field(
        default="", description="Holds the password; empty: the environment variable TRADE2026_VALKEY_PASSWORD may."
    )
    ca_file: FilePath = Field(default="", description="Certificates that are trusted; empty: those of the system.")


class Lake(Store):
    """Tables of files, with all their versions."""

    type: Literal["embedded", "s3"] = Field(
        default="embedded",
        description="embedded: Delta Lake in a folder of the state directory; s3: in a bucket that speaks S3.",
    )
    url: Url = Field(
        default="",
        examples=["s3://bucket/desk"],
        pattern=r"^$|^s3://[a-z0-9][a-z0-9.-]+[a-z0-9](/[A-Za-z0-9._=/-]*)?$",
        description="s3://BUCKET/PREFIX. The bucket is there; a prefix serves one state directory of one stack.",
    )
    endpoint: Url = Field(
        default="",
        examples=["https://127.0.0.1:9000"],
        pattern=r"^$|^https?://[A-Za-z0-9._\[\]:-]+:[0-9]+$",
        description="Where a store answers that is not Amazon's: https://HOST:PORT, or http:// without encryption.",
    )
    region: Text = Field(
        default="us-east-1", examples=["us-east-1"], pattern=r"^[a-z0-9-]+$", description="Of the bucket."
    )
    access_key_variable: Variable = Field(
        default="AWS_ACCESS_KEY_ID",
        description="Name of the environment variable that holds the access key.",
    )
    secret_key_variable: Variable = Field(
        default="AWS_SECRET_ACCESS_KEY",
        description="Name of the environment variable that holds the secret key.",
    )

    rules = (
        *Store.rules,
        Rule(
            'self.type != "embedded" or self.endpoint == ""',
            "endpoint is for a bucket; say its type, too",
            at="endpoint",
        ),
    )


class Analytics(Store):
    """Alternative data by key, for SQL: ClickHouse. The lake has it all in any case."""

    type: Literal["none", "embedded", "clickhouse"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="none",
        description="none: the lake alone; embedded: chdb in the process, which the extra `analytics` brings and which takes 300 MB of memory; clickhouse: a server.",
    )
    url: Url = Field(
        default="",
        examples=["clickhouse://127.0.0.1:9011"],
        pattern=r"^$|^clickhouses?://[A-Za-z0-9._\[\]:-]+:[0-9]+$",
        description="ClickHouse's native protocol, e.g. clickhouse://127.0.0.1:9011; clickhouses:// with TLS.",
    )
    database: Text = Field(
        default="",
        examples=["desk"],
        pattern=r"^[A-Za-z0-9_-]{0,64}$",
        description="On the server; empty: called as the stack.",
    )
    username: Text = Field(default="", description="Who we are; empty: the user default.")
    password_file: FilePath = Field(
        default="",
        description="Holds the password; empty: the environment variable TRADE2026_CLICKHOUSE_PASSWORD does.",
    )
    memory_mib_max: int = Field(default=512, ge=64, le=1_048_576, description="Of one statement of an embedded store.")


class Stores(Model):
    """A store for each purpose; what is omitted is embedded, or not there where that says so."""

    timeseries: TimeSeries = Field(default_factory=TimeSeries, description="Ticks, bars, orders, fills, P&L in time.")
    cache: Cache = Field(default_factory=Cache, description="Newest values by key. Several stacks may share one.")
    lake: Lake = Field(default_factory=Lake, description="Market data as tables that many tools read.")
    analytics: Analytics = Field(default_factory=Analytics, description="Alternative data, for SQL.")
