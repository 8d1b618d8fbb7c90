"""How limits that span partitions are shared out again: from where little is used to where more is needed.

Nothing is given that anybody may still believe to have. A partition has a slice until its own log shows that it has
recorded a smaller one; the log has one writer, so from there on whoever owns it decides by the smaller one.

A strategy without limits of its own that nobody trades under any more gives back what it was granted: its slices become
those of the default, and then no book has an entry of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from trade2026.controls.exposure import Group
from trade2026.controls.limits import LimitBook, LimitSet, Slice, Slices
from trade2026.controls.slices import (
    DEFAULT,
    SLICED,
    Shortage,
    amount_of,
    home_of,
    redivide,
    slice_in,
    spanning,
    toward,
    used_of,
)
from trade2026.domain.events import Killed
from trade2026.risk.machine import Grants

_WANTED_NS = 2_000_000_000
"""A shortage that was told counts for so long."""
_IDLE_NS = 60_000_000_000
"""So long after its last order or position a strategy without limits of its own gives back what it was granted."""
STRATEGIES_MAX = 1_000
"""Strategies without limits of their own that have other slices than the default's at once; more keep to those."""
_NO_GRANTS = Grants()


class Seen(Protocol):
    """A partition as risk sees it in its log."""

    @property
    def book(self) -> LimitBook: ...
    @property
    def halts(self) -> dict[str, Killed]: ...
    @property
    def kills(self) -> dict[str, Killed]: ...
    def group(self, kind: str, name: str = "") -> Group: ...
    def scopes_known(self) -> list[str]: ...
    def last_message(self, scope: str) -> int: ...


@dataclass
class _Rate:
    """A partition's part of a rate: what was used of a larger one still counts for a while."""

    value: int
    held: int
    until: int


class Part(NamedTuple):
    """One limit of one partition."""

    current: int
    held: int
    used: int


class View(NamedTuple):
    """One limit that spans partitions, as it is shared out now."""

    scope: str
    field: str
    limit: int
    parts: list[Part]
    home: list[int] = []
    """What each has while nothing is granted, of a strategy without limits of its own."""

    @property
    def is_granted(self) -> bool:
        """Whether somebody has another slice than the default's."""
        return bool(self.home) and [part.current for part in self.parts] != self.home


class Slicing:
    """Decides on grants."""

    def __init__(self) -> None:
        self._wanted: dict[tuple[str, str, int], tuple[int, int]] = {}
        """What a partition asked for, and until when it counts (ns)."""
        self._rates: dict[tuple[str, int], _Rate] = {}
        self._traded: dict[str, int] = {}
        """When (ns) what a strategy was granted was last seen in use."""

    def want(self, views: Sequence[View], shortage: Shortage, partition: int, now: int) -> bool:
        """Take note of a shortage; whether there is as much to be had."""
        for view in views:
            if (view.scope, view.field) == (shortage.scope, shortage.field):
                others = sum(part.used for number, part in enumerate(view.parts) if number != partition)
                if others + shortage.needed > view.limit or not _has_room_for(view, _granted(views)):
                    return False
                self._wanted[shortage.scope, shortage.field, partition] = (shortage.needed, now + _WANTED_NS)
                return True
        return False

    def views(
        self, book: LimitBook, seen: Sequence[Seen], grants: Mapping[int, Grants], now: int, asked: str = ""
    ) -> list[View]:
        """Every limit that spans partitions and is in force in all of them; what only some have adopted is left out.

        Args:
            asked: A scope that nobody may have traded in yet.
        """
        if any(_is_unknown(each.book, grants.get(number, _NO_GRANTS), len(seen)) for number, each in enumerate(seen)):
            return []
        known = {scope for each in seen for scope in each.scopes_known()} | {scope for scope, _, _ in self._wanted}
        known |= {scope for each in seen for scope in each.book.slices}
        found: list[View] = []
        for scope, limits in spanning(book, sorted({*known, asked})):
            if scope == DEFAULT:
                continue
            for field in SLICED:
                if amount_of(limits, field) is not None:
                    view = self._view(book, scope, field, limits, seen, grants, now)
                    if view is not None:
                        found.append(view)
        self._note_use(found, seen, now)
        return found

    def _note_use(self, views: Sequence[View], seen: Sequence[Seen], now: int) -> None:
        traded: dict[str, int] = {}
        for view in views:
            if view.is_granted:
                in_use = any(part.used for part in view.parts)
                sent = max(each.last_message(view.scope) for each in seen)
                before = max(sent, traded.get(view.scope, 0), self._traded.get(view.scope, now))
                traded[view.scope] = now if in_use else before
        self._traded = traded

    def _view(
        self,
        book: LimitBook,
        scope: str,
        field: str,
        limits: LimitSet,
        seen: Sequence[Seen],
        grants: Mapping[int, Grants],
        now: int,
    ) -> View | None:
        limit = amount_of(limits, field)
        assert limit is not None
        kind, _, name = scope.partition(":")
        parts: list[Part] = []
        home: list[int] = []
        for number, each in enumerate(seen):
            adopted = slice_in(each.book.slices, scope, field)
            if adopted is None or adopted.of != limit:
                return None
            waiting = [
                found
                for _, slices in grants.get(number, _NO_GRANTS).waiting
                if (found := slices.get(scope, {}).get(field)) is not None
            ]
            used = used_of(each.group(kind, name), field)
            held = max(adopted.value, used, *(found.value for found in waiting))
            if field == "order_rate" and limits.order_rate is not None:
                held = max(held, self._rate_held(scope, number, adopted.value, limit, limits.order_rate.per_ns, now))
            current = waiting[-1].value if waiting and waiting[-1].of == limit else adopted.value
            parts.append(Part(current, held, used))
            default = home_of(book, each.book.slices, scope, field)
            if default is not None and default.of == limit:
                home.append(default.value)
        return View(scope, field, limit, parts, home if len(home) == len(parts) else [])

    def _rate_held(self, scope: str, number: int, value: int, limit: int, per_ns: int, now: int) -> int:
        """What a partition may have sent within the time of a rate: of a part that became smaller, the larger one.

        What was before this process began is not known, so all of it may have been sent.
        """
        rate = self._rates.get((scope, number))
        if rate is None:
            rate = self._rates[scope, number] = _Rate(value, limit, now + per_ns)
        elif value < rate.value:
            rate.held, rate.until = max(rate.value, rate.held if now < rate.until else 0), now + per_ns
        rate.value = value
        return rate.held if now < rate.until else value

    def proposals(self, views: Sequence[View], now: int) -> dict[int, Slices]:
        """What is to be granted now, by partition."""
        self._wanted = {key: wanted for key, wanted in self._wanted.items() if wanted[1] > now}
        asked_for = {scope for scope, _, _ in self._wanted}
        granted = _granted(views)
        found: dict[int, Slices] = {}
        for view in views:
            if now - self._traded.get(view.scope, now) > _IDLE_NS and view.scope not in asked_for:
                held = [part.held for part in view.parts]
                wanted = toward(view.limit, [part.current for part in view.parts], held, view.home)
                _propose(found, view, wanted, 1)
            elif _has_room_for(view, granted) and self._share_out(found, view) and view.home:
                granted.add(view.scope)
        return found

    def _share_out(self, found: dict[int, Slices], view: View) -> bool:
        """Propose more of a limit to where it is needed; whether there is something to propose."""
        needs = [
            max(part.used, self._wanted.get((view.scope, view.field, number), (0, 0))[0])
            for number, part in enumerate(view.parts)
        ]
        current = [part.current for part in view.parts]
        asked = any(
            (view.scope, view.field, number) in self._wanted and need > has
            for number, (need, has) in enumerate(zip(needs, current, strict=True))
        )
        if not asked and not any(need * 4 > now_has * 3 for need, now_has in zip(needs, current, strict=True)):
            return False
        held, used = [part.held for part in view.parts], [part.used for part in view.parts]
        wanted = redivide(view.limit, current, held, used, needs)
        return _propose(found, view, wanted, 1 if asked else max(1, view.limit // (8 * len(needs))))


def _granted(views: Sequence[View]) -> set[str]:
    return {view.scope for view in views if view.is_granted}


def _has_room_for(view: View, granted: set[str]) -> bool:
    """Whether a strategy may have slices of its own, too."""
    return not view.home or view.scope in granted or len(granted) < STRATEGIES_MAX


def _propose(found: dict[int, Slices], view: View, wanted: Sequence[int], least: int) -> bool:
    """Add what differs from what each has by at least so much; whether something does."""
    differs = False
    for number, (part, after) in enumerate(zip(view.parts, wanted, strict=True)):
        if abs(after - part.current) >= least:
            found.setdefault(number, {}).setdefault(view.scope, {})[view.field] = Slice(view.limit, after)
            differs = True
    return differs


def _is_unknown(book: LimitBook, grants: Grants, partitions: int) -> bool:
    """Whether a partition may have a slice that is not known here."""
    return book.partitions != partitions or book.grant < grants.forgotten
