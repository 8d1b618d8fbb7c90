"""`TradingStack`, the manifest of a whole trading platform, as a typed model.

Strict: a field that is not known is an error that names the nearest one, `true` is no number, and
amounts are decimal text or numbers, never rounded. The custom resource definition is made from here.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from trade2026 import __version__
from trade2026.domain.instruments import DEFAULT_SESSION
from trade2026.domain.shards import SHARDS
from trade2026.stack.configs import SERVICE_CONFIGS, VENUE_CONFIGS, check
from trade2026.stack.facts import API_VERSION, EVENT_FORMATS, SERVICES, STACK_NAME_MAX
from trade2026.stack.kafka import Kafka
from trade2026.stack.limits import LimitSet, Risk
from trade2026.stack.nearest import nearest
from trade2026.stack.operation import (
    CLUSTER_ONLY,
    DeletionPolicy,
    DriftIgnore,
    DriftPolicy,
    Replicas,
    Resources,
    Rollout,
    ServiceLevel,
)
from trade2026.stack.rules import FieldError, Rule, written
from trade2026.stack.spec_rules import RULED_LIMITS, SPEC_RULES, SPEC_TRANSITIONS
from trade2026.stack.stores import Stores
from trade2026.stack.strict import Model
from trade2026.stack.written import Age, Amount, Bytes, Config, FilePath, Name, Share, Step, Text, Url, fixed

INSTRUMENTS_MAX = 500
VENUES_MAX = 32
VENUE_TYPES = ("replay", "synthetic")
"""Kinds of venue that this version can run."""


class Metadata(BaseModel):
    """The object's name; what else Kubernetes keeps here is left alone."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    name: Annotated[
        str,
        Field(
            pattern=rf"^[a-z0-9]([a-z0-9-]{{0,{STACK_NAME_MAX - 2}}}[a-z0-9])?$",
            max_length=STACK_NAME_MAX,
            examples=["desk-1"],
            description="Name of the stack: lower-case letters, digits and dashes. It is the tenant of every event.",
        ),
    ]


class Instrument(Model):
    """Something that can be traded, its steps and its fees."""

    symbol: Name = Field(description="Name at the venue; the instrument is called SYMBOL.VENUE everywhere.")
    venue: str = Field(default="", max_length=32, description="One of spec.venues; the first of them if omitted.")
    base: Name | None = Field(
        default=None, description="What is bought; omitted, the symbol without the quote currency."
    )
    quote: Name | None = Field(
        default=None, description="What it is priced in; omitted, baseCurrency if the symbol ends so."
    )
    settlement: Name | None = Field(
        default=None, description="Currency of profit and loss; the quote currency if omitted."
    )
    tick_size: Step = Field(description="Prices are multiples of this.")
    lot_size: Step = Field(description="Quantities are multiples of this.")
    min_notional: Amount = Field(default="0", description="Least price x quantity of an order with a price.")
    multiplier: Step = Field(default="1", description="Units of the quote currency per point and unit of quantity.")
    maker_fee_bps: int = Field(
        default=0, ge=-1_000, le=1_000, description="Basis points of the value; negative is a rebate."
    )
    taker_fee_bps: int = Field(default=0, ge=-1_000, le=1_000, description="Basis points of the value.")
    session: Text = Field(
        default=DEFAULT_SESSION, description="When it trades, for whoever asks; orders are taken at any time."
    )
    version: int = Field(default=1, ge=1, description="Raise it with every change of the instrument's terms.")


class Venue(Model):
    """Where orders go and market data comes from."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$", max_length=32, examples=["SIM"])] = Field(
        description="Short name, without dots."
    )
    type: str = Field(
        default="replay",
        json_schema_extra={"enum": [*VENUE_TYPES]},
        description="replay: recorded trades; synthetic: trades drawn from a seed. Both against a paper book.",
    )
    config: Config = Field(
        default_factory=dict,
        description="For the adapter; a replay knows scale, speed and loop, a synthetic one seed and price.",
    )

    @field_validator("type")
    @classmethod
    def _known_type(cls, value: str) -> str:
        if value not in VENUE_TYPES:
            raise ValueError(f"{value!r} is no kind of venue that this version runs; use {' or '.join(VENUE_TYPES)}")
        return value

    @field_validator("config")
    @classmethod
    def _known_config(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        kind = info.data.get("type")
        if kind in VENUE_CONFIGS:
            check(value, VENUE_CONFIGS[kind], f"a {kind}")
        return value


class Bus(Model):
    """Where the log is kept."""

    type: Literal["embedded", "kafka"] = Field(
        default="embedded",
        json_schema_extra=fixed("can't be changed: the log does not move by itself; make another stack"),
        description="embedded: fsynced SQLite journals on one machine; kafka: Apache Kafka.",
    )
    kafka: Kafka | None = Field(default=None, description="The brokers, if type is kafka.")
    partitions: int = Field(
        default=1,
        ge=1,
        le=SHARDS,
        json_schema_extra=fixed(
            "can't be changed: accounts would be looked for where they are not; make another stack"
        ),
        description="Parts of the log by account, which replicas share. It can't be changed later.",
    )
    free_space_min: Bytes = Field(
        default="256Mi",
        description="New orders stop below this much free disk; cancels and fills are still written.",
    )

    archive_after: Age | None = Field(
        default=None,
        description="How long records of orders, venue reports and executions stay here, at least: older ones move to "
        "the lake once snapshots cover them, and are read from there. Without it, everything stays.",
    )
    rules = (
        Rule('self.type != "kafka" or self.kafka is not None', "type kafka needs kafka.bootstrapServers", at="kafka"),
        Rule('self.type == "kafka" or self.kafka is None', "kafka is for type kafka only", at="kafka"),
    )


class Service(Model):
    """What one service is told beyond its defaults."""

    replicas: Replicas = Field(
        default_factory=Replicas,
        description="More than one of what is split by account (oms, exeq, ptrc, pnl), on a bus that they can share.",
    )
    slo: Annotated[ServiceLevel | None, CLUSTER_ONLY] = Field(
        default=None, description="Objectives that are kept by scaling; omitted, those of the service itself."
    )
    resources: Annotated[Resources, CLUSTER_ONLY] = Field(
        default_factory=Resources, description="Processor and memory of each pod; omitted, the chart's."
    )
    config: Config = Field(default_factory=dict, description="Settings of the service.")


class Observability(Model):
    """Where traces go."""

    otlp_endpoint: Url = Field(
        default="",
        examples=["http://127.0.0.1:4318"],
        pattern=r"^$|^https?://.+",
        description="OTLP over HTTP, e.g. http://127.0.0.1:4318; empty exports nothing.",
    )
    trace_sampling: Share = Field(
        default="0.01",
        description="Share of orders whose spans are exported; every order's trace is in the log anyway.",
    )


class Security(Model):
    """Who may do what."""

    keys_file: FilePath = Field(
        default="",
        description="Hashed bearer keys, beside the manifest; empty leaves the stack open, on loopback only.",
    )


class Spec(Model):
    """What should run."""

    paused: Annotated[bool, CLUSTER_ONLY] = Field(
        default=False, description="The operator leaves all as it is, and says so; what runs goes on."
    )
    drift_policy: DriftPolicy = Field(
        default="Correct",
        description="Correct: what others change is put right at once; Warn: it is told; Ignore: it is left.",
    )
    drift_ignore: Annotated[list[DriftIgnore], CLUSTER_ONLY] = Field(
        default_factory=list, max_length=32, description="What others may change in any case."
    )
    drift_releases: Annotated[list[Text], CLUSTER_ONLY] = Field(
        default_factory=list,
        max_length=32,
        description="Helm releases that are put right, too, after a person has rolled them back or uninstalled them; "
        "others wait for the next change of the spec.",
    )
    deletion_policy: DeletionPolicy = Field(
        default="Retain",
        description="What becomes of volumes when the stack is deleted. Retain: they stay; Delete: they go with it.",
    )
    version: str = Field(
        default=__version__,
        pattern=r"^[0-9]+\.[0-9]+\.[0-9]+([-+.][0-9A-Za-z.-]+)?$",
        max_length=63,
        examples=["0.1.0"],
        description="Version of the platform; services of another version refuse new orders. A change is rolled out "
        "service by service, and back by itself if it fails.",
    )
    rollout: Annotated[Rollout, CLUSTER_ONLY] = Field(
        default_factory=Rollout, description="How a change of what runs is rolled out."
    )
    event_format: int = Field(
        default=1,
        json_schema_extra={
            "enum": [*EVENT_FORMATS],
            "x-kubernetes-validations": [
                {"rule": "self >= oldSelf", "message": "is never lowered: older versions can't read what was written"}
            ],
        },
        description="Format of what is written to the log. It is raised after the version that knows it.",
    )
    instruments: list[Instrument] = Field(
        min_length=1,
        max_length=INSTRUMENTS_MAX,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["symbol", "venue"]},
        description="What is traded.",
    )
    venues: list[Venue] = Field(
        min_length=1,
        max_length=VENUES_MAX,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Where; the first one is meant by a bare symbol.",
    )
    bus: Bus = Field(default_factory=Bus, description="The log.")
    stores: Stores = Field(default_factory=Stores, description="Where projections of the log are kept.")
    default_account: Name = Field(default="main", description="Account of an order that names none.")
    base_currency: Name = Field(default="USDT", description="Currency of limits and of profit and loss.")
    risk: Risk = Field(default_factory=Risk, description="Limits.")
    services: dict[str, Service] = Field(
        default_factory=dict,
        max_length=32,
        description="Settings by service. All run anyway but sink-alt, which runs if it is named here.",
    )
    placement: Literal["compact", "grouped", "spread"] = Field(
        default="compact",
        description="compact, grouped: related services share a process; spread: each has its own. In a cluster a "
        "change of it is an outage: all pods are replaced at once, and nothing goes back by itself.",
    )
    observability: Observability = Field(default_factory=Observability, description="Traces.")
    security: Security = Field(default_factory=Security, description="Access.")

    @field_validator("event_format")
    @classmethod
    def _known_format(cls, value: int) -> int:
        if value not in EVENT_FORMATS:
            raise ValueError(f"{value} is no format that this version writes; use {EVENT_FORMATS[-1]}")
        return value

    @field_validator("services")
    @classmethod
    def _known_settings(cls, value: dict[str, Service]) -> dict[str, Service]:
        for name, service in value.items():
            if name in SERVICES:  # else a rule says so
                check(service.config, SERVICE_CONFIGS.get(name, {}), name, f"{name}.config")
        return value

    @field_validator("venues")
    @classmethod
    def _distinct_venues(cls, value: list[Venue]) -> list[Venue]:
        names = [venue.name for venue in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two venues are called {name!r}; give each its own name")
        return value

    rules = SPEC_RULES
    transitions = SPEC_TRANSITIONS

    def misfits(self) -> Iterator[FieldError]:
        """What an API server can't count within its budget, or says in other words."""
        seen: set[tuple[str, str]] = set()
        for index, instrument in enumerate(self.instruments):
            if (key := (instrument.symbol, instrument.venue)) in seen:
                said = f"{self.instrument_id(instrument)} is listed twice; keep one of them"
                yield FieldError(f"instruments[{index}]", said)
            seen.add(key)
        venues, instruments = [venue.name for venue in self.venues], self.known_instruments()
        for at, limits in self.limit_sets()[len(RULED_LIMITS) :]:
            for field, kind, names, known in (
                ("allowedInstruments", "instrument", limits.allowed_instruments, instruments),
                ("restricted", "instrument", limits.restricted, instruments),
                ("allowedVenues", "venue", limits.allowed_venues, venues),
            ):
                for index, name in enumerate(names or ()):
                    if name not in known:
                        said = f"{name!r} is no {kind} of this stack{nearest(name, known)}"
                        yield FieldError(f"{at}.{field}[{index}]", said)

    def limit_sets(self) -> list[tuple[str, LimitSet]]:
        """Every set of limits with its place in the spec."""
        found = [(f"risk.{written(name)}", getattr(self.risk, name)) for name in RULED_LIMITS]
        for kind in ("accounts", "strategies", "instruments", "traders", "desks"):
            found += [(f"risk.{kind}.{name}", limits) for name, limits in getattr(self.risk, kind).items()]
        return found

    def venue_of(self, instrument: Instrument) -> str:
        """The venue's name, the first one's where the instrument names none."""
        return instrument.venue or self.venues[0].name

    def instrument_id(self, instrument: Instrument) -> str:
        """`SYMBOL.VENUE`."""
        return f"{instrument.symbol}.{self.venue_of(instrument)}"

    def quote_of(self, instrument: Instrument) -> str:
        """What the instrument is priced in; empty if that can't be told."""
        return instrument.quote or (self.base_currency if instrument.symbol.endswith(self.base_currency) else "")

    def base_of(self, instrument: Instrument) -> str:
        """What is bought; empty if that can't be told."""
        quote = self.quote_of(instrument)
        return instrument.base or (
            instrument.symbol.removesuffix(quote).rstrip("-_") if instrument.symbol.endswith(quote) else ""
        )

    def resolve(self, name: str) -> str:
        """The id of an instrument that is named by id, or by bare symbol at the first venue."""
        return name if name in map(self.instrument_id, self.instruments) else f"{name}.{self.venues[0].name}"

    def known_instruments(self) -> list[str]:
        """Every name by which an instrument may be meant."""
        ids = [self.instrument_id(instrument) for instrument in self.instruments]
        suffix = f".{self.venues[0].name}"
        return ids + [identifier.removesuffix(suffix) for identifier in ids if identifier.endswith(suffix)]


class TradingStack(Model):
    """A whole trading platform in one manifest."""

    api_version: Literal[API_VERSION] = Field(description="Group and version of this resource.")  # type: ignore[valid-type]
    kind: Literal["TradingStack"] = Field(description="TradingStack.")
    metadata: Metadata = Field(description="Name of the stack.")
    spec: Spec = Field(description="What should run.")
    status: dict[str, Any] | None = Field(default=None, description="Written by the operator; ignored in a manifest.")
