"""How partitions are shared: evenly, with few moves, and none that another still holds.

Pure: the leader of a group computes it from what all members say they hold.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

Shares = dict[str, frozenset[int]]
"""By member's name."""
_Sets = Mapping[str, AbstractSet[int]]
_NOTHING: frozenset[int] = frozenset()


def share(held: _Sets, partitions: int, had: _Sets) -> Shares:
    """What each member has from now on. Two rounds settle it.

    A partition that is to go from one to another is nobody's in the first round: its holder lets it go, says so by
    joining again, and in the second it is free.

    Args:
        held: What each member holds, by name.
        had: What each held last: where something has to move, it goes back there.
    """
    targets = _targets(held, partitions, had)
    return {name: frozenset(target - _of_others(held, name)) for name, target in targets.items()}


def _targets(held: _Sets, partitions: int, had: _Sets) -> dict[str, set[int]]:
    quotas = _quotas(held, partitions)
    targets: dict[str, set[int]] = {}
    free = set(range(partitions))
    for name in sorted(held):
        awaited = _of_others(had, name) - had.get(name, _NOTHING)
        best = sorted(held[name] & free, key=lambda partition: (partition in awaited, partition))
        targets[name] = set(best[: quotas[name]])
        free -= targets[name]
    for partition in sorted(free):
        wanting = [name for name in sorted(held) if len(targets[name]) < quotas[name]]
        back = [name for name in wanting if partition in had.get(name, _NOTHING)]
        targets[min(back or wanting, key=lambda name: (len(targets[name]), name))].add(partition)
    return targets


def _quotas(held: _Sets, partitions: int) -> dict[str, int]:
    """How many each gets: one more for those that hold most, because what stays is not touched."""
    least, more = divmod(partitions, len(held))
    by_size = sorted(held, key=lambda name: (-len(held[name]), name))
    return {name: least + (n < more) for n, name in enumerate(by_size)}


def _of_others(sets: _Sets, name: str) -> set[int]:
    return {partition for other, theirs in sets.items() if other != name for partition in theirs}
