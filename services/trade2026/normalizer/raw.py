"""Raw messages of each kind of venue, and what they mean: an adapter is one function.

An adapter reads symbols, times and numbers into canonical trades. It orders and judges nothing. Pure.
"""

from collections.abc import Callable, Mapping

import msgspec

from trade2026.domain.market import Book, Trade, VenueMessage
from trade2026.domain.numbers import SCALE

_PICOS_PER_NANO = 1_000


class RawInvalid(ValueError):
    """A message that says nothing that can be read; the text says why."""


class BitstampTrade(msgspec.Struct, frozen=True, gc=False):
    """A line of the recorded Bitstamp trades; `row` is its number in the file."""

    pair: str
    row: int
    timestamp: str
    """Whole seconds since the epoch."""
    price: str
    amount: str
    ts_recv: int = 0


class PaperTrade(msgspec.Struct, frozen=True, gc=False):
    """What the paper venue (a replay or a synthetic market) prints: a trade, and when it was made (ns)."""

    ts: int
    trade: Trade


RawTrade = BitstampTrade | PaperTrade
Read = tuple[int, Trade]
"""When it was made (ns), and the trade."""


def read_bitstamp(raw: BitstampTrade, instruments: Mapping[str, str]) -> Read:
    """Read a line of the recording; what is finer than a nano is cut off.

    Args:
        instruments: Instrument id by the venue's symbol.

    Raises:
        RawInvalid: an unknown pair, or a number that is none.
    """
    instrument = instruments.get(raw.pair)
    if instrument is None:
        raise RawInvalid(f"unknown pair {raw.pair!r}")
    if not (raw.timestamp.isascii() and raw.timestamp.isdigit() and len(raw.timestamp) <= 10):
        raise RawInvalid(f"timestamp {raw.timestamp!r} is no second")
    trade = Trade(
        instrument,
        f"bitstamp-{raw.row}",
        _nanos(raw.price),
        _nanos(raw.amount),
        venue_seq=raw.row,
        ts_recv=raw.ts_recv,
    )
    return int(raw.timestamp) * SCALE, trade


def read_paper(raw: PaperTrade, instruments: Mapping[str, str]) -> Read:
    """Read a print of the paper venue, which speaks our language already.

    Raises:
        RawInvalid: an instrument that the stack does not list.
    """
    if raw.trade.instrument not in instruments:
        raise RawInvalid(f"unknown instrument {raw.trade.instrument!r}")
    return raw.ts, raw.trade


def read(raw: RawTrade, instruments: Mapping[str, str]) -> Read:
    """Read a message of any kind.

    Raises:
        RawInvalid: it can't be read.
    """
    return read_paper(raw, instruments) if isinstance(raw, PaperTrade) else read_bitstamp(raw, instruments)


_decode_paper = msgspec.json.Decoder(Trade | Book).decode
_decode_bitstamp = msgspec.json.Decoder(BitstampTrade).decode


def _paper(ts: int, message: VenueMessage) -> PaperTrade | Book:
    said = _decode_paper(message.body)
    if isinstance(said, Book):
        return Book(said.instrument, said.bids, said.asks, said.venue_seq, message.ts_recv, message.ts_source)
    trade = Trade(
        said.instrument,
        said.trade_id,
        said.price,
        said.quantity,
        said.aggressor,
        message.venue_seq,
        message.ts_recv,
        message.ts_source,
    )
    return PaperTrade(ts, trade)


def _bitstamp(ts: int, message: VenueMessage) -> BitstampTrade:
    return _decode_bitstamp(message.body)


_DIALECTS: Mapping[str, Callable[[int, VenueMessage], RawTrade | Book]] = {
    "replay": _paper,
    "synthetic": _paper,
    "bitstamp": _bitstamp,
}
"""By type of venue."""


def read_message(dialect: str, ts: int, message: VenueMessage) -> RawTrade | Book:
    """Read what a venue has said.

    Args:
        dialect: The type of the venue.
        ts: When it was so, by the venue (ns).

    Raises:
        RawInvalid: nobody speaks so.
    """
    speak = _DIALECTS.get(dialect)
    if speak is None:
        raise RawInvalid(f"no adapter for a venue of type {dialect!r}")
    try:
        return speak(ts, message)
    except msgspec.MsgspecError as error:
        raise RawInvalid(f"{message.channel} of {message.venue}: {error}") from error


def _nanos(text: str) -> int:
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdigit() and len(whole) <= 9 and len(fraction) <= 12):
        raise RawInvalid(f"{text[:40]!r} is no amount")
    return int(whole + fraction.ljust(12, "0")) // _PICOS_PER_NANO
