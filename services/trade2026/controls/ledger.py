"""What counts against the limits: positions, open orders, rates, losses, stops; kept as running sums.

Everything that a check reads and that outlives it is here, so this is what a snapshot holds.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from trade2026.controls.exposure import Group, Leaf
from trade2026.controls.limits import LimitBook
from trade2026.domain.events import Killed
from trade2026.domain.instruments import Instrument
from trade2026.domain.numbers import SCALE
from trade2026.domain.orders import OrderSpec
from trade2026.domain.positions import Position

HOLDER_KINDS = ("strategy", "trader", "desk", "client")
"""Whose positions are kept beside the account's."""

LeafKey = tuple[str, str, str]
"""Holder (empty for the account itself), account, instrument."""


class _LeafState(msgspec.Struct):
    holder: str
    account: str
    instrument: str
    position: Position
    buy_quantity: int
    sell_quantity: int
    buys: int
    sells: int
    mark: int


class _GroupState(msgspec.Struct):
    scope: str
    open_orders: int
    day: int
    pnl: int
    forgiven: int


class _State(msgspec.Struct):
    book: LimitBook
    marks: dict[str, int]
    leaves: list[_LeafState]
    groups: list[_GroupState]
    message_times: dict[str, int]
    execution_times: dict[str, int]
    duplicates: list[tuple[list[Any], int]]
    kills: dict[str, Killed]
    halts: dict[str, Killed]
    tripped: dict[str, Killed]


Content = tuple[str, str, str, str, str, int, int, int]


def content_of(spec: OrderSpec) -> Content:
    """What two orders have in common if one may be a duplicate of the other."""
    return (
        spec.account,
        spec.strategy,
        spec.instrument,
        spec.side,
        spec.order_type,
        spec.quantity,
        spec.price,
        spec.stop_price,
    )


class Ledger:
    """The running sums.

    Args:
        instruments: By instrument id; one that is missing here counts with a multiplier of one.
    """

    def __init__(self, instruments: dict[str, Instrument]) -> None:
        self.instruments = instruments
        self.kills: dict[str, Killed] = {}
        self.halts: dict[str, Killed] = {}
        self.tripped: dict[str, Killed] = {}
        """Halts that are due: in force already, not in the log yet."""
        self.marks: dict[str, int] = {}
        self.leaves: dict[LeafKey, Leaf] = {}
        self.groups: dict[str, Group] = {}
        self.message_times: dict[str, int] = {}
        self.execution_times: dict[str, int] = {}
        self.duplicates: dict[tuple[Any, ...], int] = {}
        """When an order with this content was last accepted, oldest first."""
        self._holders: dict[str, list[Leaf]] = {}
        """Leaves by instrument, to be revalued when its mark moves."""

    def multiplier(self, instrument: str) -> int:
        """Return the multiplier of an instrument, nanos."""
        found = self.instruments.get(instrument)
        return found.multiplier if found is not None else SCALE

    def group(self, scope: str) -> Group:
        """Return the sums of a scope; they begin at zero."""
        group = self.groups.get(scope)
        if group is None:
            group = self.groups[scope] = Group(scope)
        return group

    def leaf(self, holder: str, account: str, instrument: str) -> Leaf:
        """Return what a holder has in one instrument of one account; it begins empty."""
        key = (holder, account, instrument)
        leaf = self.leaves.get(key)
        if leaf is None:
            scopes = (holder,) if holder else ("stack", f"account:{account}", f"instrument:{instrument}")
            groups = tuple(self.group(scope) for scope in scopes)
            leaf = Leaf(groups, self.multiplier(instrument), self.marks.get(instrument, 0))
            self.leaves[key] = leaf
            self._holders.setdefault(instrument, []).append(leaf)
        return leaf

    def leaves_of(self, spec: OrderSpec) -> list[Leaf]:
        """Return the leaves that an order counts in: its account's, and those of whoever it names."""
        named = (f"{kind}:{name}" for kind in HOLDER_KINDS if (name := getattr(spec, kind)))
        return [self.leaf(holder, spec.account, spec.instrument) for holder in ("", *named)]

    def holders(self, instrument: str) -> Iterable[Leaf]:
        """Every leaf in an instrument."""
        return self._holders.get(instrument, ())

    def remember(self, spec: OrderSpec, ts: int, window_ns: int) -> None:
        """An order with this content was accepted; forget what is older than the window."""
        duplicates, content = self.duplicates, content_of(spec)
        duplicates.pop(content, None)
        duplicates[content] = ts
        oldest = next(iter(duplicates))
        while duplicates[oldest] + window_ns <= ts and oldest != content:
            del duplicates[oldest]
            oldest = next(iter(duplicates))

    def trip(self, scope: str, reason: str, cause: str) -> None:
        """Halt a scope that is not stopped yet."""
        if scope not in self.halts and scope not in self.kills and scope not in self.tripped:
            self.tripped[scope] = Killed(scope=scope, reason=reason, by="controls", halt=True, cause=cause)

    # ── snapshot ────────────────────────────────────────────────────────────────────────────

    def snapshot(self, book: LimitBook) -> bytes:
        """Return the sums and the limits as JSON; equal states give equal bytes."""
        leaves = [
            _LeafState(*key, leaf.position, leaf.buy_quantity, leaf.sell_quantity, leaf.buys, leaf.sells, leaf.mark)
            for key, leaf in sorted(self.leaves.items())
            if not leaf.is_empty
        ]
        groups = [
            _GroupState(scope, group.open_orders, group.day, group.pnl, group.forgiven)
            for scope, group in sorted(self.groups.items())
            if group.open_orders or group.day
        ]
        state = _State(
            book,
            self.marks,
            leaves,
            groups,
            self.message_times,
            self.execution_times,
            [(list(content), ts) for content, ts in self.duplicates.items()],
            self.kills,
            self.halts,
            self.tripped,
        )
        return msgspec.json.encode(state, order="sorted")

    @classmethod
    def restored(cls, snapshot: bytes, instruments: dict[str, Instrument]) -> "tuple[Ledger, LimitBook]":
        """Return the sums and the limits of a snapshot.

        Raises:
            msgspec.DecodeError: it is no snapshot of controls.
        """
        state = msgspec.json.decode(snapshot, type=_State)
        ledger = cls(instruments)
        ledger.marks = state.marks
        ledger.message_times, ledger.execution_times = state.message_times, state.execution_times
        ledger.duplicates = {tuple(content): ts for content, ts in state.duplicates}
        ledger.kills, ledger.halts, ledger.tripped = state.kills, state.halts, state.tripped
        for each in state.leaves:
            leaf = ledger.leaf(each.holder, each.account, each.instrument)
            leaf.position, leaf.mark = each.position, each.mark
            leaf.buy_quantity, leaf.sell_quantity = each.buy_quantity, each.sell_quantity
            leaf.buys, leaf.sells = each.buys, each.sells
            leaf.revalue()
        for each in state.groups:
            group = ledger.group(each.scope)
            group.open_orders, group.day = each.open_orders, each.day
            group.pnl, group.forgiven = each.pnl, each.forgiven
        return ledger, state.book
