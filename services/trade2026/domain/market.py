"""Market data: trades and books as the platform tells them on `market.*` topics."""

from typing import Literal

import msgspec

INTERVALS = ("1s", "10s", "1m", "5m", "15m", "1h", "4h", "1d", "100tick", "10volume", "1000000dollar")
"""Bars that are made where a manifest does not say which."""


class Trade(msgspec.Struct, frozen=True, gc=False, tag="Trade", tag_field="type"):
    """One print. `ts_source` is when it happened originally, if this is a replay (ns)."""

    instrument: str
    trade_id: str
    price: int
    quantity: int
    aggressor: Literal["BUY", "SELL", ""] = ""
    venue_seq: int = 0
    ts_recv: int = 0
    ts_source: int = 0


class Level(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Price and quantity at one step of a book, nanos."""

    price: int
    quantity: int


class Book(msgspec.Struct, frozen=True, tag="Book", tag_field="type"):
    """The whole visible book: bids fall, asks rise."""

    instrument: str
    bids: list[Level]
    asks: list[Level]
    venue_seq: int = 0
    ts_recv: int = 0
    ts_source: int = 0


MarketEvent = Trade | Book


class VenueMessage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="VenueMessage", tag_field="type"):
    """What a venue said of an instrument, as it said it; when, by the venue's clock, is the `ts_event` around it.

    A `heartbeat` says that until then the venue has made no trade that is newer than number `venue_seq`.

    Attributes:
        symbol: As the venue calls it.
        venue_seq: The venue's number of the trade, or of the newest trade.
        body: The venue's own words.
        ts_recv: When it reached us (ns).
        ts_source: When it happened originally, if this is a replay (ns).
    """

    venue: str
    channel: Literal["trades", "books", "heartbeat"]
    symbol: str
    venue_seq: int
    body: msgspec.Raw
    ts_recv: int = 0
    ts_source: int = 0


class Bar(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="Bar", tag_field="type"):
    """Trades between two moments, or up to a number, quantity or value; which, says `interval` (`1m`, `100tick`).

    Prices and `volume` are nanos, `value` is at `COST_SCALE`. `ts_open` and `ts_close` bound a time bar (the
    end is not in it), and are the times of the first and last trade of another one.
    """

    instrument: str
    interval: str
    ts_open: int
    ts_close: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    value: int
    trades: int
    missing: int = 0
    """At most so many of its trades are not in it: by the venue's numbers they were made, and never came, or came
    too late, or were set aside as bad prints."""
    shifted: int = 0
    """Trades missing before it that may have moved where it begins (not of time bars)."""


class Quote(msgspec.Struct, frozen=True, gc=False, tag="Quote", tag_field="type"):
    """The best prices, nanos; 0 on a side that is empty."""

    instrument: str
    bid: int
    bid_quantity: int
    ask: int
    ask_quantity: int
    venue_seq: int = 0


class Reference(msgspec.Struct, frozen=True, gc=False):
    """What a risk decision knew of the market: part of the command, and of the event that it made.

    Prices are nanos; `ts` is when the last trade reached us (ns). `low` and `high` are the extremes of
    the collar window. `source` is the id of the market event.
    """

    last: int
    low: int
    high: int
    bid: int = 0
    ask: int = 0
    ts: int = 0
    source: str = ""
