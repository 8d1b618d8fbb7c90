"""Where a stack keeps what it makes of its log: a store for each purpose, embedded unless the manifest names a server."""

from typing import Literal

from pydantic import Field, model_validator

from trade2026.stack.strict import Model


class Store(Model):
    """One store: `type` says which, `url` where it is. A secret is never in a manifest."""

    type: str = "embedded"
    url: str = ""

    @model_validator(mode="after")
    def _a_server_has_a_url(self) -> "Store":
        if self.type == "embedded" and self.url:
            raise ValueError("url is for a server; say its type, too")
        if self.type != "embedded" and not self.url:
            raise ValueError(f"type {self.type} needs url")
        return self


class TimeSeries(Store):
    """Time series, and what answers queries of them."""

    type: Literal["embedded", "questdb"] = Field(
        default="embedded", description="embedded: DuckDB in a file, in the process that writes; questdb: a server."
    )
    url: str = Field(
        default="",
        pattern=r"^$|^https?://[A-Za-z0-9._\[\]:-]+:\d+$",
        description="QuestDB's HTTP, e.g. http://127.0.0.1:9010. It serves one stack.",
    )
    username: str = Field(default="", description="Who we are, where QuestDB asks.")
    password_file: str = Field(
        default="", description="Holds the password; empty: the environment variable TRADE2026_QUESTDB_PASSWORD does."
    )


class Cache(Store):
    """The newest values by key."""

    type: Literal["embedded", "valkey"] = Field(
        default="embedded",
        description="embedded: in the memory of the process that answers; valkey: a Valkey or Redis server.",
    )
    url: str = Field(
        default="",
        pattern=r"^$|^rediss?://[A-Za-z0-9._\[\]:-]+:\d+(/\d+)?$",
        description="redis://HOST:PORT, with /NUMBER at its end for another database; rediss:// for TLS.",
    )
    username: str = Field(default="", description="Who we are; empty: the server's default user.")
    password_file: str = Field(
        default="", description="Holds the password; empty: the environment variable TRADE2026_VALKEY_PASSWORD may."
    )
    ca_file: str = Field(default="", description="Certificates that are trusted; empty: those of the system.")


class Stores(Model):
    """A store for each purpose; what is omitted is embedded."""

    timeseries: TimeSeries = Field(default_factory=TimeSeries, description="Ticks, bars, orders, fills, P&L in time.")
    cache: Cache = Field(default_factory=Cache, description="Newest values by key. Several stacks may share one.")
