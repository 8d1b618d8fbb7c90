"""How partitions are shared: evenly, with few moves, and none that another still holds.

Pure: the leader of a group computes it from what all members say they hold.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

Shares = dict[str, frozenset[int]]
"""By member's name."""


def share(held: Mapping[str, AbstractSet[int]], partitions: int, before: Mapping[int, str]) -> Shares:
    """What each member has from now on. Two rounds settle it.

    A partition that is to go from one to another is nobody's in the first round: its holder lets it go, says so by
    joining again, and in the second it is free.

    Args:
        held: What each member holds, by name.
        before: Whose a partition was; it goes back there if it is free and there is room.
    """
    targets = _targets(held, partitions, before)
    return {name: frozenset(target - _held_by_others(held, name)) for name, target in targets.items()}


def _targets(held: Mapping[str, AbstractSet[int]], partitions: int, before: Mapping[int, str]) -> dict[str, set[int]]:
    quotas = _quotas(held, partitions)
    targets: dict[str, set[int]] = {}
    free = set(range(partitions))
    for name in sorted(held):
        targets[name] = set(sorted(held[name] & free)[: quotas[name]])
        free -= targets[name]
    for partition in sorted(free):
        wanting = [name for name in sorted(held) if len(targets[name]) < quotas[name]]
        owner = before.get(partition)
        chosen = owner if owner in wanting else min(wanting, key=lambda name: (len(targets[name]), name))
        targets[chosen].add(partition)
    return targets


def _quotas(held: Mapping[str, AbstractSet[int]], partitions: int) -> dict[str, int]:
    """How many each gets: one more for those that hold most, because what stays is not touched."""
    least, more = divmod(partitions, len(held))
    by_size = sorted(held, key=lambda name: (-len(held[name]), name))
    return {name: least + (n < more) for n, name in enumerate(by_size)}


def _held_by_others(held: Mapping[str, AbstractSet[int]], name: str) -> set[int]:
    return {partition for other, theirs in held.items() if other != name for partition in theirs}
