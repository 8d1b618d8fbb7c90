"""What a paper venue says, in `market.raw` and over recorded days alike, and how often it says something. Pure."""

import msgspec

from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Book, Trade, VenueMessage

RAW = "market.raw"
BOOK_INTERVAL_NS = 100_000_000
"""Between two books of an instrument."""
HEARTBEAT_NS = 250_000_000
"""An instrument that is silent for so long has a heartbeat."""

_NOTHING = msgspec.Raw(b"{}")


def said(instrument: Instrument, event: Trade | Book, now: int) -> VenueMessage:
    """A trade or book as the venue says it at `now` (ns)."""
    channel = "trades" if isinstance(event, Trade) else "books"
    body = msgspec.Raw(msgspec.json.encode(event))
    return VenueMessage(instrument.venue, channel, instrument.symbol, event.venue_seq, body, now, event.ts_source)


def heartbeat(instrument: Instrument, newest: int, now: int) -> VenueMessage:
    """That nothing was traded since the trade with the number `newest`."""
    return VenueMessage(instrument.venue, "heartbeat", instrument.symbol, newest, _NOTHING, now)
