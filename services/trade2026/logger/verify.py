"""Whether an audit log is what was signed, and what its source log says: which records were changed, removed, moved.

Pure: records and checkpoints come from a store or from an exported file, events from the source log.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from trade2026.logger.machine import AuditRecord, Checkpoint, Entry, genesis, seal

FAULTS_MAX = 100
"""More are not told one by one."""


class Fault(NamedTuple):
    """What is wrong: `n` is the record, or the first of those, that it is about."""

    n: int
    what: str


class ChainVerifier:
    """Reads a chain from its base to its end.

    Args:
        checkpoints: Every one there is, in any order.
        is_signed: Whether a checkpoint's signature is that of a key that is trusted.
    """

    def __init__(self, stack: str, checkpoints: Iterable[Checkpoint], is_signed: Callable[[Checkpoint], bool]) -> None:
        self.stack = stack
        self.faults: list[Fault] = []
        self.good: dict[int, Checkpoint] = {}
        """By the count of records that they speak of."""
        cut: Checkpoint | None = None
        for checkpoint in sorted(checkpoints, key=lambda each: (each.n, each.kind)):
            if checkpoint.stack != stack or not is_signed(checkpoint):
                self._fault(checkpoint.n, f"the checkpoint at {checkpoint.n} is not signed by a trusted key")
                continue
            before = self.good.setdefault(checkpoint.n, checkpoint)
            if before.head != checkpoint.head:
                self._fault(checkpoint.n, f"two signed checkpoints at {checkpoint.n} contradict each other")
            if checkpoint.kind == "cut":
                cut = checkpoint
        self.base = cut.n if cut is not None else 0
        self.base_positions = dict(cut.positions) if cut is not None else {}
        self.n = self.base
        """Of the record that comes next."""
        self.signed_to = self.base
        """Records before this one are what was signed."""
        self.records = 0
        self._head: str | None = cut.head if cut is not None else genesis(stack)
        self._missing: set[int] = set()
        self._gaps: list[tuple[int, int]] = []

    def take(self, record: AuditRecord) -> None:
        """Look at the next record as it lies there."""
        if record.n < self.base:
            return  # retention has not deleted it yet
        self.records += 1
        if record.n < self.n:
            moved = record.n in self._missing
            self._missing.discard(record.n)
            self._fault(record.n, f"record {record.n} is {'out of its place' if moved else 'there twice'}")
            return
        if record.n > self.n:
            self._gaps.append((self.n, record.n - 1))
            self._missing.update(range(self.n, min(record.n, self.n + FAULTS_MAX)))
            self._head = None
        if self._head is not None and seal(self._head, record.n, record.entry) != record.hash:
            self._fault(record.n, f"record {record.n} ({record.entry.event_id}) was changed")
        self._head, self.n = record.hash, record.n + 1
        checkpoint = self.good.get(self.n)
        if checkpoint is not None:
            if checkpoint.head != record.hash:
                self._fault(
                    self.signed_to,
                    f"records {self.signed_to} to {record.n} are not those that were signed at {self.n}",
                )
            self.signed_to = self.n

    def finish(self) -> None:
        """There is no other record."""
        for first, last in self._gaps:
            if last - first >= FAULTS_MAX or self._missing.intersection(range(first, last + 1)):
                self._fault(first, _missing(first, last))
        newest = max(self.good, default=self.base)
        if newest > self.n:
            self._fault(self.n, f"{_missing(self.n, newest - 1)} at the end: the checkpoint at {newest} has them")

    def _fault(self, n: int, what: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(Fault(n, what))


class SourceVerifier:
    """Compares the records of one partition with what its events say, both in order.

    Args:
        from_seq: Where the chain begins in this partition, after a cut.
    """

    def __init__(self, place: str, from_seq: int = 0) -> None:
        self.place, self.from_seq = place, from_seq
        self.faults: list[Fault] = []
        self.last_n = -1

    def compare(self, expected: Entry | None, found: AuditRecord | None) -> tuple[bool, bool]:
        """Compare the next of each side, None for none; returns which sides go on to their next."""
        if found is not None and found.entry.seq < self.from_seq:
            return False, True
        if found is None:
            assert expected is not None
            self._fault(self.last_n + 1, f"no record says what {expected.event_id} says ({expected.type})")
            return True, False
        if expected is None or found.entry.seq < expected.seq:
            self._fault(found.n, f"record {found.n} tells of {found.entry.event_id}, which the source does not have")
            return False, True
        if found.entry.seq > expected.seq:
            self._fault(found.n, f"no record says what {expected.event_id} says ({expected.type})")
            return True, False
        if found.entry != expected:
            self._fault(found.n, f"record {found.n} says another thing than {expected.event_id} does")
        self.last_n = found.n
        return True, True

    def _fault(self, n: int, what: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(Fault(n, what))


def _missing(first: int, last: int) -> str:
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
