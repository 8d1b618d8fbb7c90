"""What a client may send: sources, records, questions as of a time. Times are RFC 3339, or nanoseconds since 1970."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from trade2026.domain.instruments import Instruments, UnknownInstrument
from trade2026.kit.http import Problem
from trade2026.sink_alt import commands as cmd

RECORDS_MAX = 1_000
RECORD_BYTES_MAX = 64 * 1024
SCHEMA_BYTES_MAX = 64 * 1024
STORES = ("lake", "analytics")
ROWS_MAX = 10_000
QUESTIONS_MAX = 10_000
ID_MAX = 128
TIME_NS_MIN, TIME_NS_MAX = -2_208_988_800 * 10**9, 2**63 - 1
"""1900 to 2262: what every store can hold."""
_NS_LEAST = 10**17
"""A lesser number is more likely seconds, or microseconds; the years around 1970 are written as text."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SOURCE = re.compile(r"[a-z][a-z0-9_-]{0,63}").fullmatch

Time = str | int


class SourceInput(msgspec.Struct, forbid_unknown_fields=True):
    """A source: its name, and the JSON Schema of the `data` of its records."""

    name: str
    schema: msgspec.Raw
    about: str = ""


class RecordInput(msgspec.Struct, forbid_unknown_fields=True):
    """A record.

    `ts_event` is what it is about; `ts_available` from when on one could have known it, and when we get it if it is
    left out. `symbol` is an instrument of the stack, or any name; empty for what is about none.
    """

    record_id: str
    ts_event: Time
    data: msgspec.Raw
    symbol: str = ""
    ts_available: Time | None = None


class BatchInput(msgspec.Struct, forbid_unknown_fields=True):
    """Records that are independent of each other."""

    records: list[RecordInput]


class QuestionInput(msgspec.Struct, forbid_unknown_fields=True):
    """Which record was the latest at a time."""

    time: Time
    symbol: str = ""


class JoinInput(msgspec.Struct, forbid_unknown_fields=True):
    """Many such questions."""

    rows: list[QuestionInput]
    store: str = "lake"
    """`lake` or `analytics`: who answers."""


class SqlInput(msgspec.Struct, forbid_unknown_fields=True):
    """A query in ClickHouse's SQL; the table is `records`."""

    query: str
    limit: int = 1_000


class WhichInput(msgspec.Struct, forbid_unknown_fields=True):
    """Records in quarantine; all of the source if none is named."""

    record_ids: list[str] = []
    reason: str = ""


def source_name(text: str) -> str:
    """Return the name of a source. Raises `Problem` 422 for another text."""
    if not _SOURCE(text):
        detail = "a source is named with a-z, 0-9, _ and -, up to 64, a letter first"
        raise Problem(422, "bad_source", detail, field="name")
    return text


def read_time(value: Time, field: str) -> int:
    """Return a time in nanoseconds.

    Raises:
        Problem: 422 when it is none, has no offset, or lies outside 1900 to 2262.
    """
    if isinstance(value, int):
        if 0 < abs(value) < _NS_LEAST:
            raise Problem(
                422, "bad_time", f"{field} is in nanoseconds since 1970; {value} has too few digits", field=field
            )
        found = value
    else:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            detail = f"{field} is a time such as 2026-01-31T09:30:00Z, or nanoseconds since 1970"
            raise Problem(422, "bad_time", detail, field=field)
        found = (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
    if not TIME_NS_MIN <= found <= TIME_NS_MAX:
        raise Problem(422, "bad_time", f"{field} lies outside the years 1900 to 2262", field=field)
    return found


def read_symbol(instruments: Instruments, text: str, field: str) -> str:
    """Return an instrument's whole name; any other name as it is."""
    if len(text) > ID_MAX or not text.isprintable():
        raise Problem(422, "bad_symbol", f"{field} has at most {ID_MAX} printable characters", field=field)
    try:
        return instruments.resolve(text).instrument_id if text else ""
    except UnknownInstrument:
        return text


def read_record(
    given: RecordInput, source: str, instruments: Instruments, now: int, at: str = "", **common: Any
) -> cmd.AcceptRecord:
    """Make the command of a record.

    Args:
        at: Its place in a batch, for the problem's field.

    Raises:
        Problem: 422, nothing can be recorded of it.
    """
    if not 0 < len(given.record_id) <= ID_MAX or not given.record_id.isprintable():
        detail = f"record_id has 1 to {ID_MAX} printable characters"
        raise Problem(422, "bad_record_id", detail, field=f"{at}record_id")
    data = msgspec.json.encode(msgspec.json.decode(given.data), order="sorted")
    if len(data) > RECORD_BYTES_MAX:
        raise Problem(422, "record_too_large", f"data has at most {RECORD_BYTES_MAX} bytes", field=f"{at}data")
    available = given.ts_available
    return cmd.AcceptRecord(
        ts=now,
        source=source,
        record_id=given.record_id,
        symbol=read_symbol(instruments, given.symbol, f"{at}symbol"),
        ts_event=read_time(given.ts_event, f"{at}ts_event"),
        # 0 stands for none: who means the first moment of 1970 gets the next nanosecond.
        ts_available=0 if available is None else read_time(available, f"{at}ts_available") or 1,
        data=data,
        **common,
    )
