"""Sources, the schemas that they have, which records fit, and which wait in quarantine.

Pure. A record is accepted, or it is in quarantine, or its command is refused and it is nowhere. The same record given
again gets the first answer; the ids of the newest records are remembered for that (`REMEMBERED` at least).
"""

from collections.abc import Callable
from typing import Any

import msgspec
import xxhash

from trade2026.domain.events import (
    AltDiscarded,
    AltQuarantined,
    AltRecorded,
    AltSourceRegistered,
    AnyEvent,
    Envelope,
)
from trade2026.sink_alt import commands as cmd
from trade2026.sink_alt import schema as schemas

SOURCES_MAX = 1_000
VERSIONS_MAX = 200
REMEMBERED = 100_000
QUARANTINE_RECORDS_MAX = 10_000
QUARANTINE_BYTES_MAX = 16 * 1024 * 1024
AHEAD_NS_MAX = 60 * 10**9
"""So much may the clock of whoever sends be ahead of ours."""
_DIGEST_MAX = 2**63

ACCEPTED, QUARANTINED = "accepted", "quarantined"


class AltError(Exception):
    """A refusal: nothing was recorded."""

    def __init__(self, status: int, code: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.field = status, code, field


class Version(msgspec.Struct, frozen=True):
    """A version of a source's schema."""

    schema: bytes
    ts: int
    principal: str


class Source(msgspec.Struct):
    """A source, its schemas from the first on, and what was counted."""

    name: str
    about: str
    versions: list[Version]
    accepted: int = 0
    quarantined: int = 0
    """Ever; how many are there now is another number."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a record; `seq` is its place in the log."""

    record_id: str
    status: str
    seq: int
    reasons: list[str] = []
    duplicate: bool = False
    """It was given before, and this is what became of it."""


class _Seen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    digest: int
    seq: int


class _State(msgspec.Struct, array_like=True):
    next_seq: int
    sources: dict[str, Source]
    quarantine: list[tuple[int, bytes]]
    newer: dict[bytes, _Seen]
    older: dict[bytes, _Seen]


class AltMachine:
    """The whole of `alt.records`."""

    def __init__(self) -> None:
        self.next_seq = 0
        self.sources: dict[str, Source] = {}
        self.quarantine: dict[tuple[str, str], tuple[int, AltQuarantined]] = {}
        """By source and record id, in the order in which they came; with their place in the log."""
        self.quarantine_bytes = 0
        self._shapes: dict[str, schemas.Shape] = {}
        self._newer: dict[bytes, _Seen] = {}
        self._older: dict[bytes, _Seen] = {}

    def traceparent_of(self, subject: str) -> str:
        """None is kept: a record's is that of its request."""
        del subject
        return ""

    # ── deciding ────────────────────────────────────────────────────────────────────────────

    def decide(self, command: Any, emit: Callable[[AnyEvent], None]) -> Any:
        """Decide a command; raises `AltError`."""
        if isinstance(command, cmd.AcceptRecord):
            return self._accept(command, emit)
        if isinstance(command, cmd.RegisterSource):
            return self._register(command, emit)
        if isinstance(command, cmd.ReleaseRecord):
            return self._release(command, emit)
        assert isinstance(command, cmd.DiscardRecord)
        self._waiting(command.source, command.record_id)
        emit(AltDiscarded(source=command.source, record_id=command.record_id, reason=command.reason))
        return None

    def _register(self, command: cmd.RegisterSource, emit: Callable[[AnyEvent], None]) -> int:
        try:
            shape = schemas.read(msgspec.json.decode(command.schema))
        except schemas.SchemaError as error:
            raise AltError(422, "bad_schema", str(error), f"schema.{error.path}".removesuffix(".")) from error
        source = self.sources.get(command.source)
        if source is None:
            if len(self.sources) >= SOURCES_MAX:
                raise AltError(422, "too_many_sources", f"there are {SOURCES_MAX} sources, that is the most")
            version = 1
        else:
            version = len(source.versions) + 1
            if source.versions[-1].schema == command.schema and command.about in ("", source.about):
                return version - 1
            if narrower := schemas.narrowings(self._shapes[source.name], shape):
                message = f"what fits version {version - 1} might not fit this: {'; '.join(narrower)}"
                raise AltError(409, "incompatible_schema", message, "schema")
            if version > VERSIONS_MAX:
                raise AltError(422, "too_many_versions", f"it has {VERSIONS_MAX} versions, that is the most")
        schema = msgspec.Raw(command.schema)
        emit(AltSourceRegistered(source=command.source, version=version, schema=schema, about=command.about))
        return version

    def _accept(self, command: cmd.AcceptRecord, emit: Callable[[AnyEvent], None]) -> Outcome:
        source = self._source(command.source)
        digest = _digest(command)
        if (before := self._given_before(command, digest)) is not None:
            return before
        seq, version = self.next_seq, len(source.versions)
        reasons = self._reasons(command.source, command.data, command.ts_available, command.ts)
        given = AltQuarantined(
            source=command.source,
            record_id=command.record_id,
            version=version,
            symbol=command.symbol,
            ts_event=command.ts_event,
            ts_available=command.ts_available,
            ts_received=command.ts,
            data=msgspec.Raw(command.data),
            digest=digest,
            reasons=reasons,
        )
        if not reasons:
            emit(_recorded(given, version, command.ts, released=False))
            return Outcome(command.record_id, ACCEPTED, seq)
        self._require_room(given)
        emit(given)
        return Outcome(command.record_id, QUARANTINED, seq, reasons)

    def _given_before(self, command: cmd.AcceptRecord, digest: int) -> Outcome | None:
        """The first answer; None for a new record, and for one that takes the place of one in quarantine."""
        seen = self._seen(command.source, command.record_id)
        if seen is None:
            return None
        waiting = self.quarantine.get((command.source, command.record_id))
        if seen.digest == digest:
            status, reasons = (QUARANTINED, waiting[1].reasons) if waiting is not None else (ACCEPTED, [])
            return Outcome(command.record_id, status, seen.seq, reasons, duplicate=True)
        if waiting is None:
            message = f"{command.source} has another record {command.record_id!r}; a correction has an id of its own"
            raise AltError(409, "record_id_reused", message, "record_id")
        return None

    def _release(self, command: cmd.ReleaseRecord, emit: Callable[[AnyEvent], None]) -> Outcome:
        source = self._source(command.source)
        seq, given = self._waiting(command.source, command.record_id)
        reasons = self._reasons(command.source, bytes(given.data), given.ts_available, command.ts)
        if reasons:
            return Outcome(command.record_id, QUARANTINED, seq, reasons)
        seq = self.next_seq
        emit(_recorded(given, len(source.versions), command.ts, released=True))
        return Outcome(command.record_id, ACCEPTED, seq)

    def _reasons(self, source: str, data: bytes, ts_available: int, now: int) -> list[str]:
        reasons = schemas.misfits(self._shapes[source], msgspec.json.decode(data))
        if ts_available > now + AHEAD_NS_MAX:
            reasons.append("ts_available: lies in the future, so it can't be known already")
        return reasons

    def _require_room(self, given: AltQuarantined) -> None:
        full = len(self.quarantine) >= QUARANTINE_RECORDS_MAX
        if full or self.quarantine_bytes + len(bytes(given.data)) > QUARANTINE_BYTES_MAX:
            message = f"{len(self.quarantine)} records are in quarantine: release or discard some; {given.reasons[0]}"
            raise AltError(429, "quarantine_full", message)

    def _source(self, name: str) -> Source:
        source = self.sources.get(name)
        if source is None:
            raise AltError(404, "unknown_source", f"there is no source {name[:64]!r}; register its schema first")
        return source

    def _waiting(self, source: str, record_id: str) -> tuple[int, AltQuarantined]:
        found = self.quarantine.get((source, record_id))
        if found is None:
            raise AltError(404, "not_in_quarantine", f"{source} has no {record_id[:64]!r} in quarantine", "record_ids")
        return found

    # ── folding ─────────────────────────────────────────────────────────────────────────────

    def apply(self, envelope: Envelope) -> None:
        """Fold an event."""
        assert envelope.seq == self.next_seq, f"{envelope.seq} follows {self.next_seq - 1}"
        self.next_seq += 1
        data = envelope.data
        if isinstance(data, AltRecorded):
            self.sources[data.source].accepted += 1
            self._forget_waiting(data.source, data.record_id)
            self._remember(data.source, data.record_id, _Seen(data.digest, envelope.seq))
        elif isinstance(data, AltQuarantined):
            self.sources[data.source].quarantined += 1
            self._forget_waiting(data.source, data.record_id)
            self._wait(envelope.seq, data)
            self._remember(data.source, data.record_id, _Seen(data.digest, envelope.seq))
        elif isinstance(data, AltSourceRegistered):
            self._fold_source(data, envelope)
        elif isinstance(data, AltDiscarded):
            self._forget_waiting(data.source, data.record_id)
            key = _key(data.source, data.record_id)
            self._newer.pop(key, None)
            self._older.pop(key, None)

    def _fold_source(self, data: AltSourceRegistered, envelope: Envelope) -> None:
        version = Version(bytes(data.schema), envelope.ts_event, envelope.principal)
        source = self.sources.setdefault(data.source, Source(data.source, data.about, []))
        source.versions.append(version)
        source.about = data.about or source.about
        self._shapes[data.source] = schemas.read(msgspec.json.decode(version.schema))

    def _wait(self, seq: int, record: AltQuarantined) -> None:
        own = msgspec.structs.replace(record, data=record.data.copy())  # not a view of the batch that it came in
        self.quarantine[own.source, own.record_id] = (seq, own)
        self.quarantine_bytes += len(bytes(own.data))

    def _forget_waiting(self, source: str, record_id: str) -> None:
        found = self.quarantine.pop((source, record_id), None)
        if found is not None:
            self.quarantine_bytes -= len(bytes(found[1].data))

    def _seen(self, source: str, record_id: str) -> _Seen | None:
        key = _key(source, record_id)
        return self._newer.get(key) or self._older.get(key)

    def _remember(self, source: str, record_id: str, seen: _Seen) -> None:
        if len(self._newer) >= REMEMBERED:
            self._older, self._newer = self._newer, {}
        self._newer[_key(source, record_id)] = seen

    # ── snapshots ───────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> bytes:
        """All of it."""
        waiting = [(seq, msgspec.json.encode(record)) for seq, record in self.quarantine.values()]
        return msgspec.msgpack.encode(_State(self.next_seq, self.sources, waiting, self._newer, self._older))

    def restore(self, state: bytes) -> None:
        """Begin with what `snapshot` returned."""
        found = msgspec.msgpack.decode(state, type=_State)
        self.next_seq, self.sources = found.next_seq, found.sources
        self._newer, self._older = found.newer, found.older
        for name, source in found.sources.items():
            self._shapes[name] = schemas.read(msgspec.json.decode(source.versions[-1].schema))
        for seq, record in found.quarantine:
            self._wait(seq, msgspec.json.decode(record, type=AltQuarantined))


def _recorded(given: AltQuarantined, version: int, now: int, *, released: bool) -> AltRecorded:
    return AltRecorded(
        source=given.source,
        record_id=given.record_id,
        version=version,
        symbol=given.symbol,
        ts_event=given.ts_event,
        # Nobody could have asked for it before now, unless its source says that it was known elsewhere.
        ts_available=given.ts_available or now,
        ts_received=given.ts_received,
        data=given.data,
        digest=given.digest,
        released=released,
    )


def _key(source: str, record_id: str) -> bytes:
    return xxhash.xxh3_128_digest(f"{source}\n{record_id}".encode())


def _digest(command: cmd.AcceptRecord) -> int:
    head = f"{command.symbol}\n{command.ts_event}\n{command.ts_available}\n".encode()
    return xxhash.xxh3_64_intdigest(head + command.data) % _DIGEST_MAX
