"""Instruments: what can be traded, where, and in which steps."""

import msgspec

DEFAULT_SESSION = "24/7"


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """A tradable thing at a venue. Amounts are nanos, fees are basis points of the value.

    `version` rises with every change of its terms; tick and lot are checks at the edge only, so a
    venue's new tick changes no history.
    """

    symbol: str
    venue: str
    base: str
    quote: str
    settlement: str
    tick_size: int
    lot_size: int
    multiplier: int = 1_000_000_000
    min_notional: int = 0
    maker_fee_bps: int = 0
    taker_fee_bps: int = 0
    session: str = DEFAULT_SESSION
    version: int = 1

    @property
    def instrument_id(self) -> str:
        """`SYMBOL.VENUE`, the name of this instrument everywhere."""
        return f"{self.symbol}.{self.venue}"


class UnknownInstrument(LookupError):
    """A symbol that the stack does not list."""

    def __init__(self, symbol: str, known: list[str]) -> None:
        self.symbol = symbol
        self.known = known
        super().__init__(f"unknown symbol {symbol!r}; this stack trades {', '.join(known) or 'nothing'}")


class Instruments:
    """The instruments of one stack, found by id or by bare symbol at the default venue."""

    def __init__(self, instruments: list[Instrument], default_venue: str | None = None) -> None:
        self.by_id: dict[str, Instrument] = {}
        for instrument in instruments:
            self.by_id[instrument.instrument_id] = instrument
        self._names: dict[str, Instrument] = dict(self.by_id)
        default = default_venue or (instruments[0].venue if instruments else "")
        for instrument in instruments:
            if instrument.venue == default:
                self._names[instrument.symbol] = instrument

    def resolve(self, name: str) -> Instrument:
        """Return the instrument called `SYMBOL.VENUE`, or `SYMBOL` at the default venue.

        Raises:
            UnknownInstrument: the stack does not list it.
        """
        found = self._names.get(name) or self._names.get(name.upper())
        if found is None:
            raise UnknownInstrument(name, sorted(self.by_id))
        return found
