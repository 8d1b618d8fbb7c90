"""What a client is shown of sources and records."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from trade2026.domain.events import AltQuarantined
from trade2026.kit.views import time_text
from trade2026.sink_alt.machine import AltMachine, Source


def sources_view(machine: AltMachine, names: Iterable[str], *, versions: bool = False) -> list[dict[str, Any]]:
    """Sources by their names; with `versions`, every schema that they had."""
    waiting = Counter(name for name, _ in machine.quarantine)
    return [_source_view(machine.sources[name], waiting[name], versions) for name in names]


def _source_view(source: Source, in_quarantine: int, versions: bool) -> dict[str, Any]:
    newest = source.versions[-1]
    view: dict[str, Any] = {
        "name": source.name,
        "about": source.about,
        "version": len(source.versions),
        "schema": msgspec.Raw(newest.schema),
        "accepted": source.accepted,
        "in_quarantine": in_quarantine,
        "changed": time_text(newest.ts),
    }
    if versions:
        view["versions"] = [
            {
                "version": number,
                "schema": msgspec.Raw(version.schema),
                "time": time_text(version.ts),
                "by": version.principal,
            }
            for number, version in enumerate(source.versions, 1)
        ]
    return view


def record_view(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the store as a record: times as text, and in nanoseconds."""
    return {
        "record_id": row["record_id"],
        "symbol": row["symbol"],
        "time": time_text(row["ts_event"]),
        "known": time_text(row["ts_available"]),
        "ts_event": row["ts_event"],
        "ts_available": row["ts_available"],
        "ts_received": row["ts_received"],
        "seq": row["seq"],
        "schema_version": row["schema_version"],
        "data": msgspec.Raw(row["data"].encode()),
    }


def quarantined_view(seq: int, record: AltQuarantined) -> dict[str, Any]:
    """A record in quarantine, and why it is there."""
    return {
        "record_id": record.record_id,
        "symbol": record.symbol,
        "time": time_text(record.ts_event),
        "received": time_text(record.ts_received),
        "ts_event": record.ts_event,
        "ts_available": record.ts_available or None,
        "ts_received": record.ts_received,
        "seq": seq,
        "schema_version": record.version,
        "reasons": record.reasons,
        "data": record.data,
    }
