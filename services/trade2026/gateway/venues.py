"""How the manifest configures a venue that is run here, and what its instruments' trades come from."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Trade
from trade2026.domain.numbers import NumberError, to_nanos
from trade2026.gateway.replay import Recording, Replay
from trade2026.gateway.synthetic import Synthetic
from trade2026.kit.identity import ConfigurationError
from trade2026.kit.settings import VenueSettings


class Source(Protocol):
    """Where the trades of one instrument come from; the trade at a position is always the same one."""

    instrument: Instrument
    position: int
    """Of the next trade."""

    @property
    def finished(self) -> bool:
        """Whether nothing will come any more."""
        ...

    @property
    def next_due(self) -> int:
        """When the next trade is due (ns)."""
        ...

    def start(self, now: int, position: int | None = None) -> None:
        """Go on from a position, its trade being due now (ns)."""
        ...

    def due(self, now: int, trades_max: int = 1_000) -> list[tuple[int, Trade]]:
        """Return the trades that are due, each with the time (ns) for which it was scheduled."""
        ...

    def position_of(self, trade_id: str) -> int | None:
        """The position of one of its trades; None for an id that another source gave."""
        ...

    def describe(self) -> dict[str, Any]:
        """What it is and where, for a person."""
        ...


class ReplayConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`config` of a venue of type replay."""

    scale: Decimal = Decimal(56)
    """Factor on the recorded prices: 56 makes the week begin at 44,800 and stay below 65,200."""
    speed: Decimal = Decimal(60)
    """Recorded seconds in one second."""
    loop: bool = True
    """Begin anew at the end."""
    seed: int = 7
    """Of the derived book."""
    gap_seconds_max: float = 5.0
    """Longest time without a trade, in seconds of the stack."""
    direct_orders: bool = False
    """Whether an admin may place orders here past the OMS and its limits: to test books against it."""

    def source(self, instrument: Instrument, recording: Callable[[], Recording]) -> Source:
        """The trades of one instrument."""
        return Replay(
            recording(),
            instrument,
            scale=self.scale,
            speed=self.speed,
            loop=self.loop,
            gap_seconds_max=self.gap_seconds_max,
        )


class SyntheticConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`config` of a venue of type synthetic."""

    seed: int = 7
    """The same seed makes the same trades and the same book."""
    price: Decimal = Decimal(45_000)
    """Around which instruments move that `prices` does not name."""
    prices: dict[str, Decimal] = {}
    """By symbol."""
    trades_per_second: float = 10.0
    """Of each instrument, on average."""
    volatility_bps: float = 1.0
    """How far one trade typically is from the one before."""
    quantity: Decimal = Decimal("0.1")
    """Of a usual trade."""
    direct_orders: bool = False
    """As for a replay."""

    def source(self, instrument: Instrument, recording: Callable[[], Recording]) -> Source:
        """The trades of one instrument."""
        return Synthetic(
            instrument,
            seed=self.seed,
            price=to_nanos(self.prices.get(instrument.symbol, self.price)),
            trades_per_second=self.trades_per_second,
            volatility_bps=self.volatility_bps,
            quantity=to_nanos(self.quantity),
        )


VenueConfig = ReplayConfig | SyntheticConfig
_TYPES: dict[str, type[VenueConfig]] = {"replay": ReplayConfig, "synthetic": SyntheticConfig}


def read_configs(venues: list[VenueSettings]) -> dict[str, VenueConfig]:
    """Return the configuration of each venue that is run here, by name.

    Raises:
        ConfigurationError: one is wrong; the message says where.
    """
    found: dict[str, VenueConfig] = {}
    for venue in venues:
        kind = _TYPES.get(venue.type)
        if kind is None:
            continue
        try:
            found[venue.name] = msgspec.convert(venue.config, kind, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"the config of venue {venue.name}: {error}") from error
    return found


def make_source(config: VenueConfig, instrument: Instrument, recording: Callable[[], Recording]) -> Source:
    """Return where the trades of an instrument come from.

    Raises:
        ConfigurationError: its venue's configuration makes no sense.
    """
    try:
        return config.source(instrument, recording)
    except (ValueError, NumberError) as error:
        raise ConfigurationError(f"the config of venue {instrument.venue}: {error}") from error
