"""What is to be done to each partition of the log, decided from what lies here and there. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trade2026.kit.bus.kafka_copy import CopyFound
    from trade2026.stack.stores import Store, Stores

FILES, MOVED, SAME, ANEW = "files", "moved", "same server", "made anew"
"""What becomes of a store: its files are copied, its rows are, nothing need be, or services fill another from the log."""


class MigrationRefused(Exception):
    """It can't be moved as things are; the message says what to do. Nothing that was there was changed."""


@dataclass(frozen=True)
class Extent:
    """A partition of the embedded log: from `start` to before `end`.

    Attributes:
        epoch: Of its last owner; 0 where nobody ever was.
        bytes: What it takes on the disk.
        bounded: Its topic drops what is oldest once it is large.
    """

    topic: str
    partition: int
    start: int
    end: int
    epoch: int
    bytes: int = 0
    bounded: bool = False

    @property
    def label(self) -> str:
        """TOPIC/PARTITION."""
        return f"{self.topic}/{self.partition}"

    @property
    def records(self) -> int:
        """How many there are."""
        return self.end - self.start


@dataclass(frozen=True)
class Step:
    """What is to be done to one partition.

    Attributes:
        begin: Nothing is there yet.
        from_seq: The first position that is missing there.
        finished: All is there, and the epoch of the last owner.
        in_use: A stack runs, or ran, on what is there: it is only compared.
    """

    extent: Extent
    begin: bool
    from_seq: int
    finished: bool = False
    in_use: bool = False

    @property
    def missing(self) -> int:
        """How many records."""
        return max(self.extent.end - self.from_seq, 0)


def step_of(extent: Extent, found: "CopyFound") -> Step:
    """Decide for one partition.

    Raises:
        MigrationRefused: what is there is no beginning of this log, or went on by itself.
    """
    if found.empty:
        return Step(extent, begin=True, from_seq=extent.start, finished=extent.epoch == 0 and extent.end == 0)
    if found.owned or found.end > extent.end or found.epoch > extent.epoch:
        if found.end < extent.end:
            raise MigrationRefused(
                f"{extent.label}: a stack has run on Kafka since it was moved, and this one has gone on to "
                f"{extent.end}, too: both can't be kept; use the topics of another stack name, or delete those there"
            )
        return Step(extent, begin=False, from_seq=extent.end, finished=True, in_use=True)
    if found.end < extent.start:
        raise MigrationRefused(
            f"{extent.label}: on Kafka it ends at {found.end}, but this log has dropped what is before "
            f"{extent.start} since: delete the topic there, then start the move again"
        )
    finished = found.end == extent.end and found.epoch == extent.epoch
    return Step(extent, begin=False, from_seq=found.end, finished=finished)


def require_partitions(
    here: dict[str, int], there: dict[str, int], filled: set[tuple[str, int]], grows: Collection[str] = ()
) -> None:
    """Refuse where the target's manifest splits a topic otherwise, or has none of that name.

    Args:
        here: Partitions of each topic as the source was planned.
        there: As the target is.
        filled: Partitions with anything in them.
        grows: Topics whose partitions are somebody's by their number, so that the target may have more.

    Raises:
        MigrationRefused: an account's events would lie elsewhere than it is looked for.
    """
    for topic, count in there.items():
        if here.get(topic, count) != count and not (topic in grows and here[topic] < count):
            raise MigrationRefused(
                f"{topic} has {here[topic]} partition(s) and would have {count}: a log can't be split anew; "
                f"change spec.bus.partitions of the manifest to what the stack has"
            )
    for topic, partition in sorted(filled):
        if partition >= there.get(topic, 0):
            raise MigrationRefused(
                f"{topic}/{partition} holds events, and no such partition is known here: use the version of the platform "
                "that wrote it"
            )


def fate_of_stores(here: "Stores", there: "Stores") -> dict[str, str]:
    """What becomes of each store.

    Raises:
        MigrationRefused: one can't be moved so.
    """
    names = ("timeseries", "cache", "lake", "analytics")
    return {name: _fate(name, getattr(here, name), getattr(there, name)) for name in names}


def _fate(name: str, here: "Store", there: "Store") -> str:
    embedded = here.type in ("embedded", "none")
    if here.type == there.type and here.url == there.url:
        return FILES if embedded else SAME
    if name == "cache":
        return ANEW  # it is a fold of the log
    if name == "analytics" and here.type != "clickhouse":
        return ANEW  # alt.records is kept whole, and each store of its rows keeps its own position
    if (name, here.type, there.type) in (("timeseries", "embedded", "questdb"), ("lake", "embedded", "s3")):
        return MOVED
    raise MigrationRefused(
        f"spec.stores.{name} can't be moved from {here.type} {here.url or 'files'} to {there.type} "
        f"{there.url or 'files'}: leave it in the manifest as the stack has it"
    )
