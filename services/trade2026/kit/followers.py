"""Follows every partition of a topic that is split by account: each in its order, from its own position.

Nothing may depend on how the partitions interleave: no two of them have an account in common.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from trade2026.domain.events import Envelope
from trade2026.kit.bus.port import Bus, Record
from trade2026.kit.follower import Follower
from trade2026.kit.service import Health

AsOf = int | dict[int, int]
"""The newest position that an answer contains, -1 before the first; of several partitions, one of each."""


class Followers:
    """One follower for each partition; with one partition, no more than that.

    Args:
        fold: As of a `Follower`; the record says which partition it is of.
        from_seqs: Where to begin, by partition; each of them is followed.
        on_batch: As of a `Follower`. Batches of two partitions may be dealt with at the same time.
    """

    def __init__(
        self,
        bus: Bus,
        topic: str,
        fold: Callable[[Envelope, Record], None],
        *,
        from_seqs: Mapping[int, int],
        on_batch: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        assert from_seqs
        self.topic = topic
        self.each = {
            partition: Follower(bus, topic, fold, partition=partition, from_seq=from_seq, on_batch=on_batch)
            for partition, from_seq in sorted(from_seqs.items())
        }

    async def start(self) -> None:
        """Fold to the end of each partition, then go on in the background."""
        for follower in self.each.values():
            await follower.start()

    async def stop(self) -> None:
        """Stop between two batches. Idempotent."""
        for follower in self.each.values():
            await follower.stop()

    @property
    def positions(self) -> dict[int, int]:
        """The position after the last folded record, by partition."""
        return {partition: follower.next_seq for partition, follower in self.each.items()}

    @property
    def as_of(self) -> AsOf:
        """What a report is as of."""
        return as_of(self.positions)

    @property
    def caught_up(self) -> bool:
        """Whether the end of each was reached once."""
        return all(follower.caught_up for follower in self.each.values())

    @property
    def error(self) -> str:
        """Why one stopped, or waits; empty while all are well."""
        return "; ".join(follower.error for follower in self.each.values() if follower.error)

    @property
    def lag(self) -> int:
        """Records known to exist that are not folded yet, in all partitions."""
        return sum(follower.lag for follower in self.each.values())

    @property
    def progress(self) -> str:
        """How far recovery is, for a person."""
        followers = self.each.values()
        folded, ends = sum(each.next_seq for each in followers), sum(each.end_seen for each in followers)
        return f"{self.topic}: folded {folded} of {ends} events"

    async def measure_lag(self) -> int:
        """Look where each partition ends now, and return the lag."""
        return sum([await follower.measure_lag() for follower in self.each.values()])


def as_of(positions: Mapping[int, int] | Sequence[int]) -> AsOf:
    """What is as of these positions: each is the one after the newest record, by partition."""
    by_partition = dict(positions) if isinstance(positions, Mapping) else dict(enumerate(positions))
    newest = {partition: next_seq - 1 for partition, next_seq in by_partition.items()}
    return newest[0] if list(newest) == [0] else newest


def health_of(followers: Iterable[Follower]) -> dict[str, Health]:
    """How following is, by topic."""
    by_topic: dict[str, list[Follower]] = {}
    for follower in followers:
        by_topic.setdefault(follower.topic, []).append(follower)
    return {topic: _health_of(each) for topic, each in by_topic.items()}


def _health_of(followers: list[Follower]) -> Health:
    error = "; ".join(follower.error for follower in followers if follower.error)
    return Health(not error, error or f"{sum(follower.lag for follower in followers)} behind")
