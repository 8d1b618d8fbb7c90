"""The table of the records in the lake, and which row an event is."""

from trade2026.domain.events import AltRecorded, Envelope
from trade2026.sinks.machine import Feed, Row
from trade2026.stores.lake import Column, Kind, TableSpec

TOPIC = "alt.records"
DAY_NS = 86_400 * 10**9

RECORDS = TableSpec(
    name="records",
    columns=(
        Column("date", Kind.DATE),
        Column("source", Kind.TEXT),
        Column("symbol", Kind.TEXT),
        Column("record_id", Kind.TEXT),
        Column("seq", Kind.INTEGER),
        Column("epoch", Kind.INTEGER),
        Column("schema_version", Kind.INTEGER),
        Column("ts_event", Kind.INTEGER),
        Column("ts_available", Kind.INTEGER),
        Column("ts_received", Kind.INTEGER),
        Column("data", Kind.TEXT),
    ),
    # What is known later counts; of what is known at the same time, what is about a later time.
    order=("ts_available", "ts_event", "epoch", "seq"),
    cluster=("symbol", "ts_available"),
    # The day is that of the log: history of many years that comes in one piece is one file, not thousands.
    partition="source",
    dated_by_time=False,
)


def record_row(envelope: Envelope) -> Row | None:
    """The row of a record that was accepted."""
    record = envelope.data
    if not isinstance(record, AltRecorded):
        return None
    return (
        envelope.ts_init // DAY_NS,
        record.source,
        record.symbol,
        record.record_id,
        envelope.seq,
        envelope.epoch,
        record.version,
        record.ts_event,
        record.ts_available,
        record.ts_received,
        bytes(record.data).decode(),
    )


FEED = Feed(TOPIC, RECORDS, record_row)
