"""Checks a whole audit log: of a stack that runs or not, beside the log that it was made of, or an exported file."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from trade2026.domain.events import decode
from trade2026.kit.bus.port import Bus, BusError
from trade2026.logger.machine import AuditRecord, Checkpoint, Entry, entry_of
from trade2026.logger.service import TOPICS
from trade2026.logger.signing import is_signed
from trade2026.logger.store import AuditReader
from trade2026.logger.verify import FAULTS_MAX, ChainVerifier, Fault, SourceVerifier

EXPORT_FORMAT = 1
_CATCH_UP_SECONDS_MAX = 15.0
_LOOK_SECONDS = 0.2
_EVENTS_PER_READ = 2_000


class Report(msgspec.Struct, kw_only=True):
    """What was found. Without `faults` everything is as it was written.

    Attributes:
        base: The first record that must be there; those before were deleted by retention.
        end: One past the last record.
        signed_to: One past the last record that a checkpoint has.
        events: Of the source log, compared with the records; None where there was none to compare with.
    """

    stack: str
    base: int
    end: int
    signed_to: int
    keys: list[str]
    events: int | None = None
    faults: list[Fault] = []


class Exported(msgspec.Struct):
    """What is at the head of an exported file."""

    trade2026_audit: int
    stack: str
    keys: dict[str, str]


class _Line(msgspec.Struct):
    record: AuditRecord | None = None
    checkpoint: Checkpoint | None = None


def export(reader: AuditReader) -> Iterator[bytes]:
    """Lines of a file that can be verified anywhere: what it is, then checkpoints and records."""
    with reader.at_one_moment():
        yield msgspec.json.encode(Exported(EXPORT_FORMAT, reader.stack, reader.keys()))
        for checkpoint in reversed(reader.checkpoints()):
            yield msgspec.json.encode({"checkpoint": checkpoint})
        for record in reader.records():
            yield msgspec.json.encode({"record": record})


def verify_file(lines: Iterable[bytes], keys: dict[str, str] | None, others: Iterable[Checkpoint] = ()) -> Report:
    """Check an exported file.

    Args:
        keys: Public keys that are trusted, by fingerprint; None trusts those that the file names.
        others: Checkpoints that were kept elsewhere.

    Raises:
        ValueError: it is no export.
    """
    rest = iter(lines)
    try:
        head = msgspec.json.decode(next(rest, b""), type=Exported)
    except msgspec.DecodeError as error:
        raise ValueError(f"this is no exported audit log: {error}") from error
    trusted = head.keys if keys is None else keys
    faults: list[Fault] = []
    records: list[AuditRecord] = []
    checkpoints = list(others)
    for number, line in enumerate(rest, 2):
        try:
            found = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            faults.append(Fault(-1, f"line {number} can't be read: {error}"))
            continue
        if found.record is not None:
            records.append(found.record)
        if found.checkpoint is not None:
            checkpoints.append(found.checkpoint)
    return _chain(head.stack, checkpoints, records, trusted, faults)[1]


def checkpoints_in(lines: Iterable[bytes]) -> list[Checkpoint]:
    """The checkpoints in an exported file, or in one that holds checkpoints only, a line each."""
    found: list[Checkpoint] = []
    for line in lines:
        try:
            parsed = msgspec.json.decode(line, type=_Line)
            found.append(parsed.checkpoint or msgspec.json.decode(line, type=Checkpoint))
        except msgspec.DecodeError:
            continue
    return found


async def verify_store(
    reader: AuditReader,
    bus: Bus,
    *,
    running: bool,
    stack: str = "",
    keys: dict[str, str] | None = None,
    others: Iterable[Checkpoint] = (),
) -> Report:
    """Check a store, and compare it with the log that it was made of.

    Args:
        running: Somebody writes it: what is in the log now is waited for.
        stack: Whose it must be.
    """
    unknown: list[Fault] = []
    ends: dict[tuple[str, int], int] = {}
    for topic, partition in _places(reader):
        try:
            ends[topic, partition] = await bus.end(topic, partition)
        except KeyError:
            unknown.append(Fault(-1, f"it tells of {topic}/{partition}, which the log does not have"))
    if running:
        await _wait_for(reader, ends)
    trusted = reader.keys() if keys is None else keys
    with reader.at_one_moment():
        checkpoints = [*reader.checkpoints(), *others]
        chain, report = _chain(stack or reader.stack, checkpoints, reader.records(), trusted, unknown)
        report.events = 0
        for (topic, partition), end in ends.items():
            begin = chain.base_positions.get(f"{topic}/{partition}", 0)
            faults, count = await _compare(reader, bus, topic, partition, begin, end)
            report.events += count
            report.faults += faults
    report.faults = report.faults[:FAULTS_MAX]
    return report


def _chain(
    stack: str,
    checkpoints: Iterable[Checkpoint],
    records: Iterable[AuditRecord],
    keys: dict[str, str],
    faults: list[Fault],
) -> tuple[ChainVerifier, Report]:
    chain = ChainVerifier(stack, checkpoints, lambda checkpoint: is_signed(checkpoint, keys))
    for record in records:
        chain.take(record)
    chain.finish()
    report = Report(
        stack=stack,
        base=chain.base,
        end=chain.n,
        signed_to=chain.signed_to,
        keys=sorted({checkpoint.key for checkpoint in chain.good.values()}),
        faults=faults + chain.faults,
    )
    return chain, report


def _places(reader: AuditReader) -> list[tuple[str, int]]:
    """The partitions that were followed, as the store, its records or a checkpoint say: one of them may be forged."""
    named = {*reader.positions(), *(f"{topic}/0" for topic in TOPICS)}
    for checkpoint in reader.checkpoints(limit=1):
        named |= checkpoint.positions.keys()
    found = {(topic, int(partition)) for topic, _, partition in (place.rpartition("/") for place in named)}
    return sorted({*found, *reader.places()})


async def _wait_for(reader: AuditReader, ends: dict[tuple[str, int], int]) -> None:
    deadline = asyncio.get_running_loop().time() + _CATCH_UP_SECONDS_MAX
    while asyncio.get_running_loop().time() < deadline:
        positions = reader.positions()
        if all(positions.get(f"{topic}/{partition}", 0) >= end for (topic, partition), end in ends.items()):
            return
        await asyncio.sleep(_LOOK_SECONDS)


async def _compare(
    reader: AuditReader, bus: Bus, topic: str, partition: int, begin: int, end: int
) -> tuple[list[Fault], int]:
    verifier = SourceVerifier(f"{topic}/{partition}", begin)
    # What came while we look is not compared; what lies far beyond the end was never there.
    records = iter(reader.records(topic, partition))
    found, count = next(records, None), 0
    try:
        async for expected in _expected(bus, topic, partition, begin, end):
            count += 1
            while expected is not None:
                entry_goes_on, record_goes_on = verifier.compare(expected, found)
                if record_goes_on:
                    found = next(records, None)
                if entry_goes_on:
                    break
    except BusError as error:
        return [*verifier.faults, Fault(verifier.last_n, f"the source log can't be read: {error}")], count
    now = await bus.end(topic, partition)
    while found is not None:
        if not end <= found.entry.seq < now:
            verifier.compare(None, found)
        found = next(records, None)
    return verifier.faults, count


async def _expected(bus: Bus, topic: str, partition: int, begin: int, end: int) -> AsyncIterator[Entry | None]:
    at = max(begin, await bus.start(topic, partition))
    while at < end and (records := await bus.read(topic, partition, at, min(_EVENTS_PER_READ, end - at))):
        for record in records:
            yield entry_of(topic, partition, decode(record.body), record.body)
        at = records[-1].seq + 1


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file without their ends."""
    with path.open("rb") as file:
        for line in file:
            yield line.rstrip(b"\n")


def as_json(report: Report) -> dict[str, Any]:
    """The report for scripts."""
    view = msgspec.to_builtins(report)
    view["faults"] = [{"n": fault.n, "what": fault.what} for fault in report.faults]
    return {"ok": not report.faults, **view}
