"""The tables of market data: their columns, and which row each event is."""

from trade2026.domain.events import Envelope
from trade2026.domain.market import Bar, Book, Trade
from trade2026.sinks.machine import Feed, Row
from trade2026.stores.lake import Column, Kind, TableSpec

DAY_NS = 86_400 * 10**9

_PLACE = (
    Column("date", Kind.DATE),
    Column("symbol", Kind.TEXT),
    Column("seq", Kind.INTEGER),
    Column("epoch", Kind.INTEGER),
    Column("ts_event", Kind.INTEGER),
    Column("ts_init", Kind.INTEGER),
)
"""What every row has: `epoch` and `seq` are its place in the topic, and are there once."""
_VENUE = (Column("venue_seq", Kind.INTEGER), Column("ts_recv", Kind.INTEGER), Column("ts_source", Kind.INTEGER))

TICKS = TableSpec(
    name="ticks",
    columns=(
        *_PLACE,
        Column("trade_id", Kind.TEXT),
        Column("price", Kind.AMOUNT),
        Column("quantity", Kind.AMOUNT),
        Column("aggressor", Kind.TEXT),
        *_VENUE,
    ),
    order=("ts_event", "epoch", "seq"),
    cluster=("ts_event", "price"),
)
BOOKS = TableSpec(
    name="books",
    columns=(
        *_PLACE,
        Column("bid", Kind.AMOUNT),
        Column("bid_quantity", Kind.AMOUNT),
        Column("ask", Kind.AMOUNT),
        Column("ask_quantity", Kind.AMOUNT),
        Column("bids", Kind.LEVELS),
        Column("asks", Kind.LEVELS),
        *_VENUE,
    ),
    order=("ts_event", "epoch", "seq"),
    cluster=("ts_event",),
)
BARS = TableSpec(
    name="bars",
    columns=(
        *_PLACE,
        Column("interval", Kind.TEXT),
        Column("ts_open", Kind.INTEGER),
        Column("ts_close", Kind.INTEGER),
        Column("open", Kind.AMOUNT),
        Column("high", Kind.AMOUNT),
        Column("low", Kind.AMOUNT),
        Column("close", Kind.AMOUNT),
        Column("volume", Kind.AMOUNT),
        Column("value", Kind.COST),
        Column("trades", Kind.INTEGER),
        Column("missing", Kind.INTEGER),
        Column("shifted", Kind.INTEGER),
    ),
    order=("ts_open", "epoch", "seq"),
    cluster=("interval", "ts_open"),
)


def tick_row(envelope: Envelope) -> Row | None:
    """The row of a trade."""
    trade = envelope.data
    if not isinstance(trade, Trade):
        return None
    return (
        envelope.ts_event // DAY_NS,
        trade.instrument,
        envelope.seq,
        envelope.epoch,
        envelope.ts_event,
        envelope.ts_init,
        trade.trade_id,
        trade.price,
        trade.quantity,
        trade.aggressor,
        trade.venue_seq,
        trade.ts_recv,
        trade.ts_source,
    )


def book_row(envelope: Envelope) -> Row | None:
    """The row of a book: its best prices, and every level."""
    book = envelope.data
    if not isinstance(book, Book):
        return None
    bid, ask = book.bids[0] if book.bids else None, book.asks[0] if book.asks else None
    return (
        envelope.ts_event // DAY_NS,
        book.instrument,
        envelope.seq,
        envelope.epoch,
        envelope.ts_event,
        envelope.ts_init,
        bid.price if bid else None,
        bid.quantity if bid else None,
        ask.price if ask else None,
        ask.quantity if ask else None,
        [(level.price, level.quantity) for level in book.bids],
        [(level.price, level.quantity) for level in book.asks],
        book.venue_seq,
        book.ts_recv,
        book.ts_source,
    )


def bar_row(envelope: Envelope) -> Row | None:
    """The row of a closed bar, on the day when it began."""
    bar = envelope.data
    if not isinstance(bar, Bar):
        return None
    return (
        bar.ts_open // DAY_NS,
        bar.instrument,
        envelope.seq,
        envelope.epoch,
        envelope.ts_event,
        envelope.ts_init,
        bar.interval,
        bar.ts_open,
        bar.ts_close,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.volume,
        bar.value,
        bar.trades,
        bar.missing,
        bar.shifted,
    )


FEEDS = (
    Feed("market.ticks", TICKS, tick_row),
    Feed("market.books", BOOKS, book_row),
    Feed("market.bars", BARS, bar_row),
)
SPECS = {feed.spec.name: feed.spec for feed in FEEDS}
