"""`TradingStack`, the manifest of a whole trading platform, as a typed model.

Strict: a field that is not known is an error that names the nearest one, `true` is no number, and
amounts are decimal text or numbers, never rounded. The custom resource definition is made from here.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from trade2026 import __version__
from trade2026.domain.instruments import DEFAULT_SESSION
from trade2026.domain.numbers import to_text
from trade2026.domain.shards import SHARDS
from trade2026.stack.configs import SERVICE_CONFIGS, VENUE_CONFIGS, check
from trade2026.stack.facts import API_VERSION, EVENT_FORMATS, SERVICES
from trade2026.stack.kafka import Kafka
from trade2026.stack.nearest import nearest
from trade2026.stack.stores import Stores
from trade2026.stack.strict import Model
from trade2026.stack.units import amount_nanos, basis_points, byte_count, duration_ns, fraction

VENUE_TYPES = ("replay", "synthetic")
"""Kinds of venue that this version can run."""


def _amount(value: object) -> str:
    nanos = amount_nanos(value)
    if nanos < 0:
        raise ValueError(f"must not be negative, not {value}")
    return to_text(nanos)


def _step(value: object) -> str:
    text = _amount(value)
    if text == "0":
        raise ValueError('must be above zero, such as "0.01"')
    return text


def _duration(value: object) -> str:
    duration_ns(value)
    return str(value)


def _bps(value: object) -> str:
    if basis_points(value) < 0:
        raise ValueError(f"must not be negative, not {value}")
    return value  # type: ignore[return-value]


def _bytes(value: object) -> str | int:
    byte_count(value)
    return value  # type: ignore[return-value]


def _plain(value: Any) -> Any:
    """Free-form configuration as plain JSON values: decimals that a YAML reader made become floats."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    number = float(value)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("must be a finite number")
    return number


_INT_OR_STRING = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}

Amount = Annotated[str, BeforeValidator(_amount), WithJsonSchema(_INT_OR_STRING)]
"""Not negative, up to nine decimals."""
Step = Annotated[str, BeforeValidator(_step), WithJsonSchema(_INT_OR_STRING)]
"""Above zero, up to nine decimals."""
Duration = Annotated[str, BeforeValidator(_duration), WithJsonSchema({"type": "string"})]
Bps = Annotated[str, BeforeValidator(_bps), WithJsonSchema({"type": "string"})]
"""`25bps` or `10%`; a bare number is refused."""
Bytes = Annotated[str | int, BeforeValidator(_bytes), WithJsonSchema(_INT_OR_STRING)]
"""A whole number, or `256Mi`."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Config = Annotated[dict[str, Any], AfterValidator(_plain)]


class Metadata(BaseModel):
    """The object's name; what else Kubernetes keeps here is left alone."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
            description="Name of the stack: lower-case letters, digits and dashes. It is the tenant of every event.",
        ),
    ]


class Instrument(Model):
    """Something that can be traded, its steps and its fees."""

    symbol: Name = Field(description="Name at the venue; the instrument is called SYMBOL.VENUE everywhere.")
    venue: str | None = Field(default=None, description="One of spec.venues; the first of them if omitted.")
    base: str | None = Field(
        default=None, description="What is bought; omitted, the symbol without the quote currency."
    )
    quote: str | None = Field(
        default=None, description="What it is priced in; omitted, baseCurrency if the symbol ends so."
    )
    settlement: str | None = Field(
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
    session: str = Field(
        default=DEFAULT_SESSION, description="When it trades, for whoever asks; orders are taken at any time."
    )
    version: int = Field(default=1, ge=1, description="Raise it with every change of the instrument's terms.")


class Venue(Model):
    """Where orders go and market data comes from."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$", description="Short name, without dots.")]
    type: str = Field(
        default="replay",
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
        description="embedded: fsynced SQLite journals on one machine; kafka: Apache Kafka.",
    )
    kafka: Kafka | None = Field(default=None, description="The brokers, if type is kafka.")
    partitions: int = Field(
        default=1,
        ge=1,
        le=SHARDS,
        description="Parts of the log by account, which replicas share. It can't be changed later.",
    )
    free_space_min: Bytes = Field(
        default="256Mi",
        description="New orders stop below this much free disk; cancels and fills are still written.",
    )

    archive_after: Duration | None = Field(
        default=None,
        description="How long records of orders, venue reports and executions stay here, at least: older ones move to "
        "the lake once snapshots cover them, and are read from there. Without it, everything stays.",
    )

    @field_validator("archive_after")
    @classmethod
    def _some_time(cls, value: str | None) -> str | None:
        if value is not None and duration_ns(value) == 0:
            raise ValueError("must be longer than 0; leave it out to keep everything")
        return value

    @model_validator(mode="after")
    def _brokers_are_named(self) -> "Bus":
        if (self.type == "kafka") != (self.kafka is not None):
            raise ValueError(
                "type kafka needs kafka.bootstrapServers" if self.kafka is None else "kafka is for type kafka only"
            )
        return self


class Rate(Model):
    """So many in a sliding window."""

    count: int = Field(ge=1, le=2**31, description="How many at most.")
    per: Duration = Field(default="1s", description="Length of the window.")

    @field_validator("per")
    @classmethod
    def _not_zero(cls, value: str) -> str:
        if not duration_ns(value):
            raise ValueError('must be above zero, such as "1s"')
        return value


class LimitSet(Model):
    """Limits of one scope. What is omitted is not limited here; every scope that applies must pass."""

    max_order_quantity: Amount | None = Field(default=None, description="Largest quantity of one order.")
    max_order_value: Amount | None = Field(
        default=None, description="Largest value of one order, in the base currency."
    )
    max_open_orders: int | None = Field(default=None, ge=0, le=2**31, description="Most orders open at once.")
    max_gross_exposure: Amount | None = Field(default=None, description="Positions and open orders, long plus short.")
    max_net_exposure: Amount | None = Field(default=None, description="Positions and open orders, long less short.")
    max_position: Amount | None = Field(
        default=None, description="Largest position in one instrument, open orders included."
    )
    max_daily_loss: Amount | None = Field(
        default=None,
        description="Realised loss after fees since midnight UTC at which new risk is refused; open positions do not count.",
    )
    order_rate: Rate | None = Field(default=None, description="Submissions, amendments and cancellations.")
    price_collar: Bps | None = Field(
        default=None, description="How far a price may lie on the aggressive side of the last one: 500bps or 5%."
    )
    passive_collar: Bps | None = Field(default=None, description="The same on the passive side.")
    price_window: Bps | None = Field(
        default=None, description="How far a price may lie outside the lowest and highest of the last while."
    )
    duplicate_window: Duration | None = Field(
        default=None, description="The same content from the same account within this time is refused; 0s allows it."
    )
    max_executions: Rate | None = Field(
        default=None, description="Executions of one strategy before it waits for a named person to release it."
    )
    allowed_instruments: list[str] | None = Field(
        default=None, description="Only these may be traded; empty means none."
    )
    allowed_venues: list[str] | None = Field(
        default=None, description="Only these venues may be used; empty means none."
    )
    restricted: list[str] | None = Field(default=None, description="Instruments that must not be traded.")


class Risk(Model):
    """Ceilings. The API may tighten them for a time, never widen them."""

    limits: LimitSet = Field(default_factory=LimitSet, description="For the stack as a whole.")
    account_defaults: LimitSet = Field(default_factory=LimitSet, description="For every account not named below.")
    accounts: dict[str, LimitSet] = Field(default_factory=dict, description="By account, over the defaults.")
    strategy_defaults: LimitSet = Field(default_factory=LimitSet, description="For every strategy not named below.")
    strategies: dict[str, LimitSet] = Field(default_factory=dict, description="By strategy, over the defaults.")
    instruments: dict[str, LimitSet] = Field(default_factory=dict, description="By instrument.")
    traders: dict[str, LimitSet] = Field(default_factory=dict, description="By trader.")
    desks: dict[str, LimitSet] = Field(default_factory=dict, description="By desk.")
    reference_age_max: Duration = Field(
        default="10s", description="A collar does not trust a last price that is older."
    )


class Replicas(Model):
    """How many processes share a service's work."""

    min: int = Field(default=1, ge=1, le=SHARDS, description="So many run, each with its share of the partitions.")


class Service(Model):
    """What one service is told beyond its defaults."""

    replicas: Replicas = Field(
        default_factory=Replicas,
        description="More than one of what is split by account (oms, exeq, ptrc, pnl), on a bus that they can share.",
    )
    config: Config = Field(default_factory=dict, description="Settings of the service.")


class Observability(Model):
    """Where traces go."""

    otlp_endpoint: str = Field(
        default="",
        pattern=r"^$|^https?://.+",
        description="OTLP over HTTP, e.g. http://127.0.0.1:4318; empty exports nothing.",
    )
    trace_sampling: Annotated[
        str, BeforeValidator(lambda value: str(fraction(value))), WithJsonSchema(_INT_OR_STRING)
    ] = Field(
        default="0.01",
        description="Share of orders whose spans are exported; every order's trace is in the log anyway.",
    )


class Security(Model):
    """Who may do what."""

    keys_file: str = Field(
        default="",
        description="Hashed bearer keys, beside the manifest; empty leaves the stack open, on loopback only.",
    )


class Spec(Model):
    """What should run."""

    version: str = Field(
        default=__version__,
        pattern=r"^\d+\.\d+\.\d+([-+.][0-9A-Za-z.-]+)?$",
        description="Version of the platform; services of another version refuse new orders.",
    )
    event_format: int = Field(default=1, description="Format of what is written to the log.")
    instruments: list[Instrument] = Field(min_length=1, description="What is traded.")
    venues: list[Venue] = Field(min_length=1, description="Where; the first one is meant by a bare symbol.")
    bus: Bus = Field(default_factory=Bus, description="The log.")
    stores: Stores = Field(default_factory=Stores, description="Where projections of the log are kept.")
    default_account: Name = Field(default="main", description="Account of an order that names none.")
    base_currency: Name = Field(default="USDT", description="Currency of limits and of profit and loss.")
    risk: Risk = Field(default_factory=Risk, description="Limits.")
    services: dict[str, Service] = Field(
        default_factory=dict,
        description="Settings by service. All run anyway but sink-alt, which runs if it is named here.",
    )
    placement: Literal["compact", "grouped", "spread"] = Field(
        default="compact",
        description="compact, grouped: related services share a process; spread: each has its own.",
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
    def _known_services(cls, value: dict[str, Service]) -> dict[str, Service]:
        if unknown := [f"{name!r} is no service{nearest(name, SERVICES)}" for name in value if name not in SERVICES]:
            raise ValueError("; ".join(unknown))
        for name, service in value.items():
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

    @field_validator("placement")
    @classmethod
    def _placement_fits_bus(cls, value: str, info: ValidationInfo) -> str:
        bus = info.data.get("bus")
        if bus is not None and bus.type == "embedded" and value != "compact":
            raise ValueError(f"{value!r} needs a bus that several machines share; the embedded bus runs compact")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "Spec":
        if found := [*self._misnamed(), *self._unshared()]:
            raise ValueError("\n".join(found))  # a line each: all that is wrong is told at once
        return self

    def _misnamed(self) -> Iterator[str]:
        venues = [venue.name for venue in self.venues]
        ids: list[str] = []
        for index, instrument in enumerate(self.instruments):
            at = f"instruments[{index}]"
            if instrument.venue is not None and instrument.venue not in venues:
                yield (f"{at}.venue: {instrument.venue!r} is no venue of this stack{nearest(instrument.venue, venues)}")
            identifier = self.instrument_id(instrument)
            if identifier in ids:
                yield (f"{at}: {identifier} is listed twice; keep one of them")
            ids.append(identifier)
            if not self.quote_of(instrument):
                yield (
                    f"{at}.quote: is missing, and {instrument.symbol!r} does not end with the base currency "
                    f"{self.base_currency}; say what it is priced in"
                )
            elif not self.base_of(instrument):
                yield (f"{at}.base: is missing and can't be told from {instrument.symbol!r}; say what is bought")
        for at, limits in self.limit_sets():
            for field, names, known in (
                ("allowedInstruments", limits.allowed_instruments, self.known_instruments()),
                ("restricted", limits.restricted, self.known_instruments()),
                ("allowedVenues", limits.allowed_venues, venues),
            ):
                for name in names or ():
                    if name not in known:
                        kind = "venue" if field == "allowedVenues" else "instrument"
                        yield (f"{at}.{field}: {name!r} is no {kind} of this stack{nearest(name, known)}")
        for name in self.risk.instruments:
            if name not in self.known_instruments():
                yield (
                    f"risk.instruments: {name!r} is no instrument of this stack{nearest(name, self.known_instruments())}"
                )

    def _unshared(self) -> Iterator[str]:
        for name, service in self.services.items():
            count, at = service.replicas.min, f"services.{name}.replicas.min"
            if count == 1:
                continue
            if not SERVICES[name].by_account:
                shared = ", ".join(facts.name for facts in SERVICES.values() if facts.by_account)
                yield (f"{at}: {name} runs once; more than one can be had of {shared}")
            if self.bus.type == "embedded":
                yield (f"{at}: the embedded bus is for one process a service; use bus.type kafka")
            if count > self.bus.partitions:
                yield (f"{at}: {count} replicas can't share bus.partitions {self.bus.partitions}: some would have none")
            together = [facts.name for facts in SERVICES.values() if facts.group == SERVICES[name].group]
            if self.placement != "spread" and together != [name]:
                yield (f"{at}: {name} shares its process with others; use placement: spread")

    def limit_sets(self) -> list[tuple[str, LimitSet]]:
        """Every set of limits with its place in the spec."""
        found = [("risk.limits", self.risk.limits), ("risk.accountDefaults", self.risk.account_defaults)]
        found.append(("risk.strategyDefaults", self.risk.strategy_defaults))
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
