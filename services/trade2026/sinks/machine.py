"""What one topic's sink knows between two commits: where it is, what it holds, what it has counted.

Pure. Everything that it counts is a position of its own in the commit, so the counts are as exact as the rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trade2026.domain.events import Envelope
from trade2026.stores.lake import TableSpec

Row = tuple[Any, ...]
"""A row of a table, in the order of its columns; the first is its day."""


@dataclass(frozen=True)
class Feed:
    """A topic, the table that it goes to, and how."""

    topic: str
    spec: TableSpec
    row: Callable[[Envelope], Row | None]
    """None for an event that is not for this table."""


class Unstorable(ValueError):
    """No row can be made of a record."""


class Intake:
    """Rows of one topic since the last commit.

    Args:
        offsets: What the table holds, by name; empty for a table without rows.
        newest_day: Of the rows in the table, days since 1970.
        begin: Where to begin when nothing was ever stored.
    """

    def __init__(self, feed: Feed, offsets: dict[str, int], newest_day: int, begin: int) -> None:
        self.feed = feed
        self.next_seq = offsets.get(position_name(feed.topic), begin)
        self.lost = offsets.get(f"{feed.topic}/0/lost", 0)
        """Records that the log dropped before they were stored, ever."""
        self.late = offsets.get(f"{feed.topic}/0/late", 0)
        """Rows of an earlier day than the newest before them, ever."""
        self.newest_day = newest_day
        self.rows: list[Row] = []

    def take(self, envelope: Envelope) -> None:
        """Take the next record.

        Raises:
            ValueError: it is not the next.
            Unstorable: nothing was taken; `pass_over` it, or stop.
        """
        if envelope.seq != self.next_seq:
            raise ValueError(f"{self.feed.topic}: {envelope.seq} follows {self.next_seq - 1}")
        try:
            row = self.feed.row(envelope)
        except Exception as error:
            raise Unstorable(f"no row of it: {error!r}") from error
        self.next_seq += 1
        if row is None:
            return
        day = row[0]
        if day < self.newest_day:
            self.late += 1
        self.newest_day = max(self.newest_day, day)
        self.rows.append(row)

    def pass_over(self) -> None:
        """Go on behind a record of which there is no row."""
        self.next_seq += 1

    def skip_to(self, seq: int) -> int:
        """Go on at a later record: those before it are gone. Returns how many they are."""
        gone = max(0, seq - self.next_seq)
        self.lost += gone
        self.next_seq += gone
        return gone

    def rewind_to(self, seq: int) -> None:
        """The log ends before what is stored: its end was lost, and new records get those positions."""
        self.next_seq = min(self.next_seq, seq)

    def columns(self) -> dict[str, tuple[object, ...]]:
        """The rows, column by column."""
        names = [column.name for column in self.feed.spec.columns]
        return dict(zip(names, zip(*self.rows, strict=True), strict=True))

    def offsets(self) -> dict[str, int]:
        """What is committed with the rows."""
        topic = self.feed.topic
        return {position_name(topic): self.next_seq, f"{topic}/0/lost": self.lost, f"{topic}/0/late": self.late}


def offset_names(topic: str) -> list[str]:
    """What a table is asked for."""
    return [position_name(topic), f"{topic}/0/lost", f"{topic}/0/late"]


def position_name(topic: str) -> str:
    """Under which name the position after the last stored record is kept."""
    return f"{topic}/0"
