"""Which of a strategy's symbols each of its processes trades, and how they hand symbols over. Pure.

A process claims symbols in its own partition of `strategies.shards`, and trades them when no other partition has a
claim of any of them: whoever claims looks after its own claim is durable, so of two that claim at once at least one
sees the other, and lets go. A claim is released when nothing of the strategy is open in those symbols and its holder
can send no more of them. So a symbol is never traded twice, and by nobody for as long as a handover takes.
"""

from collections.abc import Iterable, Mapping, Sequence

from trade2026.domain import events as ev

Held = dict[str, frozenset[str]]
"""By strategy: instruments."""


def assignment(symbols: Sequence[str], shards: int) -> list[list[str]]:
    """The symbols of each shard: all of them, each once, and no shard has two more than another.

    One shard more takes symbols from the largest and moves no other; one less gives them back.

    Args:
        symbols: In the order of the manifest; the first stays where it is.
    """
    assert 0 < shards <= len(symbols)
    found = [list(symbols)]
    for count in range(2, shards + 1):
        new: list[str] = []
        for _ in range(len(symbols) // count):
            new.append(max(found, key=len).pop())
        found.append(new[::-1])
    return found


class Claims:
    """What one partition of `strategies.shards` says is claimed."""

    def __init__(self) -> None:
        self.held: Held = {}

    def apply(self, event: ev.AnyEvent) -> None:
        """Fold the next event; what is none of claims changes nothing."""
        if isinstance(event, ev.SymbolsClaimed):
            self.held[event.strategy] = self.of(event.strategy) | {*event.instruments}
        elif isinstance(event, ev.SymbolsReleased):
            self.held[event.strategy] = self.of(event.strategy) - {*event.instruments}
            if not self.held[event.strategy]:
                del self.held[event.strategy]

    def of(self, strategy: str) -> frozenset[str]:
        """What is claimed of a strategy."""
        return self.held.get(strategy, frozenset())


def conflicts(strategy: str, wanted: Iterable[str], others: Mapping[int, Claims]) -> dict[int, frozenset[str]]:
    """What other partitions have claimed of it, by partition."""
    found = {partition: claims.of(strategy) & {*wanted} for partition, claims in others.items()}
    return {partition: claimed for partition, claimed in found.items() if claimed}
