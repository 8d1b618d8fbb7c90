"""Limits that span partitions, cut into a slice for each: together they are never more than the whole.

A partition's owner knows its own orders only. So what is limited for a scope with accounts in several partitions is
shared out: at first in equal parts, then as risk grants it, to where it is used. A slice is part of the limits that an
owner has recorded in its log, so that a partition has the slice that its log says, whoever owns it.

How much may be open or exposed is cut, and how many messages a second. |a + b| is at most |a| + |b|, so net exposure is
kept too, and more strictly: what is long in one partition does not make room for what is short in another.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from trade2026.controls.exposure import Group
from trade2026.controls.limits import LimitBook, LimitSet, Rate, Slice, Slices
from trade2026.domain.numbers import SCALE, to_text

SLICED = ("max_open_orders", "max_gross_exposure", "max_net_exposure", "order_rate")
SPANNING = ("stack", "strategy", "instrument", "trader", "desk")
"""Kinds of scope that may have accounts in every partition."""
DEFAULT = "strategy:"
"""The scope of strategies without limits of their own, each of which has such a slice."""
_COUNTED = ("max_open_orders", "order_rate")
_ADVICE = "orders wait for others to let go, and some are refused that would fit; raise it, or have fewer partitions"
_FIELDS = {"strategy": "strategies", "instrument": "instruments", "trader": "traders", "desk": "desks"}


class Shortage(msgspec.Struct, frozen=True):
    """An order that its partition's slice does not have room for, and the whole limit may."""

    scope: str
    field: str
    needed: int
    """What the slice would have to be."""

    @property
    def limit(self) -> tuple[str, str]:
        """The scope and the limit."""
        return self.scope, self.field


def amount_of(limits: LimitSet, field: str) -> int | None:
    """The number that is cut: of a rate its count."""
    value: int | Rate | None = getattr(limits, field)
    return value.count if isinstance(value, Rate) else value


def equal_share(limit: int, partition: int, partitions: int) -> int:
    """What a partition has of a limit before risk has said anything."""
    return limit // partitions + (partition < limit % partitions)


def spanning(book: LimitBook, named: Sequence[str] = ()) -> Iterator[tuple[str, LimitSet]]:
    """The limits of every scope that spans partitions.

    Args:
        named: Scopes that only the default of strategies covers.
    """
    yield "stack", book.stack
    yield DEFAULT, book.strategy_default
    for kind, field in _FIELDS.items():
        for name, limits in getattr(book, field).items():
            yield f"{kind}:{name}", limits
    for scope in named:
        kind, _, name = scope.partition(":")
        if kind == "strategy" and name and name not in book.strategies:
            yield scope, book.strategy_default


def too_small(book: LimitBook, partitions: int, orders: Mapping[str, int], scope: str = "") -> list[str]:
    """Say which limits are so small that an equal share of them is not enough for one order.

    Such a limit is kept, but much is refused that the whole would have room for: of one that is cut finer than an
    order, nobody may have enough at a time.

    Args:
        partitions: Among which they are cut.
        orders: What the smallest order of an instrument is worth, nanos of money, where that is known.
        scope: Only these limits; all of them by default.
    """
    found: list[str] = []
    for each, limits in spanning(book, [scope] if scope else []) if partitions > 1 else ():
        if scope not in ("", each):
            continue
        who = "strategies without limits of their own" if each == DEFAULT else each
        for field in SLICED:
            limit = amount_of(limits, field)
            if not limit:
                continue
            share = limit // partitions
            if field in _COUNTED:
                least, what = 1, "not one for each"
            else:
                instrument = max(
                    (name for name in orders if _may_concern(each, name)), key=orders.__getitem__, default=""
                )
                least, what = orders.get(instrument, 0), f"less than the smallest order of {instrument} for each"
            if share < least:
                shown = str(limit) if field in _COUNTED else to_text(limit)
                found.append(f"{field} of {who} is {shown} over {partitions} partitions, {what}: {_ADVICE}")
    return found


def _may_concern(scope: str, instrument: str) -> bool:
    return not scope.startswith("instrument:") or scope == f"instrument:{instrument}"


def slice_in(slices: Slices, scope: str, field: str) -> Slice | None:
    """What a partition has of a limit; of a strategy without limits of its own the default's."""
    found = slices.get(scope, {}).get(field)
    if found is None and scope.startswith(DEFAULT) and scope not in slices:
        return slices.get(DEFAULT, {}).get(field)
    return found


def sliced(book: LimitBook, partition: int, partitions: int, held: LimitBook, granted: Slices, grant: int) -> LimitBook:
    """The limits of one partition.

    What was granted of another limit than the one in force is no grant of this one. Until risk grants again, a
    partition then keeps the smaller of what it had and its equal share: so the parts are never more than the whole,
    whichever of the partitions hears of the change first.

    A strategy without limits of its own that has of everything what the default has needs no entry: without one it has
    the same, now and after every change. So a book does not grow with every name that was ever traded under.

    Args:
        book: The whole limits in force.
        held: What the partition has recorded.
        granted: What risk has granted since, or before.
        grant: The newest grant in it.
    """
    if partitions == 1:
        return book
    slices: Slices = {}
    cut = book
    for scope, limits in spanning(book, list(dict.fromkeys([*granted, *held.slices]))):
        mine: dict[str, Slice] = {}
        for field in SLICED:
            limit = amount_of(limits, field)
            if limit is not None:
                mine[field] = _slice_of(limit, scope, field, equal_share(limit, partition, partitions), held, granted)
            elif (before := slice_in(held.slices, scope, field)) is not None:
                mine[field] = before  # not in force: it is what this partition had, should there be a limit again
        if mine and not (_has_default(book, scope) and mine == slices.get(DEFAULT)):
            slices[scope] = mine
            cut = _with_slices(cut, scope, limits, mine)
    gone = {scope: had for scope, had in held.slices.items() if scope not in slices and not _has_default(book, scope)}
    return msgspec.structs.replace(cut, partitions=partitions, slices={**gone, **slices}, grant=grant)


def home_of(book: LimitBook, slices: Slices, scope: str, field: str) -> Slice | None:
    """What a partition has of a limit of a strategy without limits of its own when nothing is granted of it."""
    return slices.get(DEFAULT, {}).get(field) if _has_default(book, scope) else None


def granted_of(book: LimitBook, granted: Slices) -> Slices:
    """Those grants that are of the limits in force."""
    found: Slices = {}
    for scope, slices in granted.items():
        kind, _, name = scope.partition(":")
        limits = book.of(kind, name)
        if kept := {field: each for field, each in slices.items() if each.of == amount_of(limits, field)}:
            found[scope] = kept
    return found


def _has_default(book: LimitBook, scope: str) -> bool:
    """Whether it is a strategy that only the default covers."""
    return scope.startswith(DEFAULT) and scope != DEFAULT and scope.removeprefix(DEFAULT) not in book.strategies


def _slice_of(limit: int, scope: str, field: str, share: int, held: LimitBook, granted: Slices) -> Slice:
    grant = granted.get(scope, {}).get(field)
    if grant is not None and grant.of == limit:
        return grant
    before = slice_in(held.slices, scope, field)
    if before is None:
        return Slice(limit, share)
    return before if before.of == limit else Slice(limit, min(before.value, share))


def _with_slices(book: LimitBook, scope: str, limits: LimitSet, mine: dict[str, Slice]) -> LimitBook:
    changes: dict[str, Any] = {}
    for field, part in mine.items():
        whole: int | Rate | None = getattr(limits, field)
        if whole is None:
            continue
        changes[field] = msgspec.structs.replace(whole, count=part.value) if isinstance(whole, Rate) else part.value
    cut = msgspec.structs.replace(limits, **changes)
    if scope == DEFAULT:
        return msgspec.structs.replace(book, strategy_default=cut)
    kind, _, name = scope.partition(":")
    return book.replaced(kind, name, cut)


def used_of(group: Group, field: str) -> int:
    """What a scope uses of a limit in one partition, rounded up; of a rate nothing is said here."""
    match field:
        case "max_open_orders":
            return group.open_orders + group.waiting
        case "max_gross_exposure":
            return -(-group.gross // SCALE)
        case "max_net_exposure":
            return -(-max(abs(group.long), abs(group.short)) // SCALE)
        case _:
            return 0


def redivide(
    limit: int, current: Sequence[int], held: Sequence[int], used: Sequence[int], needs: Sequence[int]
) -> list[int]:
    """New slices, more to where more is needed.

    A slice grows only by what nobody holds: first others have to let go, and to be known to have done so.

    Args:
        current: What each was granted last.
        held: The most that each may still believe to have, or uses; never less than `current`.
        used: What each uses.
        needs: What each uses, or asks for if that is more.

    Returns:
        Slices with `sum(max(held, new)) <= max(limit, sum(held))`.
    """
    count, total = len(current), sum(needs)
    targets: list[int] = []
    if sum(used) > limit:
        targets = [limit * each // sum(used) for each in used]
    elif total > limit:  # not all can have what they ask for: the first ones, whole
        left = limit - sum(used)
        for has, need in zip(used, needs, strict=True):
            given = min(need - has, left)
            targets.append(has + given)
            left -= given
    else:
        # Half of what is left goes to all alike, half to where much is used.
        left = limit - total
        targets = [
            need + left // 2 // count + ((left // 2) * need // total if total else left // 2 // count) for need in needs
        ]
    targets[needs.index(max(needs))] += limit - sum(targets)
    return toward(limit, current, held, targets)


def toward(limit: int, current: Sequence[int], held: Sequence[int], targets: Sequence[int]) -> list[int]:
    """Slices on the way to others: what is to become smaller does so, and only what nobody holds is given.

    Args:
        current: What each was granted last.
        held: The most that each may still believe to have, or uses.

    Returns:
        Slices with `sum(max(held, new)) <= max(limit, sum(held))`.
    """
    is_over = sum(held) > limit
    free = max(0, limit - sum(held))
    found: list[int] = []
    for now, kept, target in zip(current, held, targets, strict=True):
        if target <= now:
            found.append(target)
            continue
        grown = now if is_over else min(target, kept + free)
        free -= max(0, grown - kept)
        found.append(grown)
    return found
