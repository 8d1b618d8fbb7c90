"""Positions with their lots, and what a venue's statement says against them.

Pure: a fold of the order log. The average-cost position is the shared one of `domain.positions`; lots are
first in, first out beside it, per account, instrument and strategy.
"""

from typing import Any, Literal

import msgspec

from trade2026.domain.events import Envelope, OrderFilled, PositionChanged
from trade2026.domain.lots import Lots
from trade2026.domain.positions import Position

FILLS_KEPT = 20_000
"""Newest fills per account that a statement is compared with."""

CAUSES_MAX = 100


class Holding(msgspec.Struct):
    """One account, instrument and strategy."""

    position: Position = msgspec.field(default_factory=Position)
    book: Lots = msgspec.field(default_factory=Lots)
    """The same fills as lots, first in first out; their quantities sum to the position's."""

    def apply_fill(self, fill: OrderFilled, signed_quantity: int, ts: int) -> None:
        """Fold one fill."""
        self.position.apply_fill(signed_quantity, fill.last_px, fill.fee, fill.multiplier)
        self.book.apply_fill(signed_quantity, fill.last_px, fill.exec_id, ts, multiplier=fill.multiplier)
        assert bool(self.book.lots) == bool(self.position.quantity), "open lots make up the position"


class Fill(msgspec.Struct, frozen=True):
    """What a statement is compared with."""

    seq: int
    instrument: str
    signed_quantity: int
    price: int


class Cause(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why quantities may differ.

    `missing_fill`: the venue states it and our log does not have it. `unknown_fill`: we have it and the
    venue does not state it. `fill_differs`: both have it, with another quantity.
    """

    kind: Literal["missing_fill", "unknown_fill", "fill_differs"]
    exec_id: str
    signed_quantity: int
    """Nanos that our position would move by if the venue is right."""


class Break(msgspec.Struct, frozen=True):
    """A quantity or an execution on which the venue and we do not agree."""

    instrument: str
    ours: int
    theirs: int
    causes: list[Cause]
    explained: bool
    """The causes make up the whole difference."""


class StatedFill(msgspec.Struct, frozen=True):
    """An execution as the venue states it; quantity 0 where it states only the id."""

    exec_id: str
    instrument: str = ""
    signed_quantity: int = 0


class State(msgspec.Struct):
    """The machine as data; another `format` is not read, the log is folded instead."""

    format: Literal[2]
    next_seq: int
    last_fill_seq: int
    positions: list[tuple[str, str, Position]]
    holdings: list[tuple[str, str, str, Holding]]
    fills: dict[str, dict[str, Fill]]


class PositionMachine:
    """Folds fills into positions and lots."""

    def __init__(self) -> None:
        self.next_seq = 0
        self.last_fill_seq = -1
        self.positions: dict[tuple[str, str], Position] = {}
        """Account and instrument, over all strategies: the same numbers as the OMS's."""
        self.holdings: dict[tuple[str, str, str], Holding] = {}
        """Account, instrument and strategy."""
        self.fills: dict[str, dict[str, Fill]] = {}
        """Account → execution id → fill, oldest first, the newest `FILLS_KEPT`."""

    def apply(self, envelope: Envelope) -> PositionChanged | None:
        """Fold the next event; a fill answers with the position after it."""
        assert envelope.seq == self.next_seq, f"event {envelope.seq} follows {self.next_seq - 1}"
        self.next_seq += 1
        fill = envelope.data
        if not isinstance(fill, OrderFilled):
            return None
        self.last_fill_seq = envelope.seq
        signed = fill.last_qty if fill.side == "BUY" else -fill.last_qty
        self.positions.setdefault((fill.account, fill.instrument), Position()).apply_fill(
            signed, fill.last_px, fill.fee, fill.multiplier
        )
        holding = self.holdings.setdefault((fill.account, fill.instrument, fill.strategy), Holding())
        holding.apply_fill(fill, signed, envelope.ts_event)
        self._keep(fill, signed, envelope.seq)
        position = holding.position
        return PositionChanged(
            account=fill.account,
            instrument=fill.instrument,
            strategy=fill.strategy,
            quantity=position.quantity,
            open_cost=position.open_cost,
            realized=position.realized,
            fees=position.fees,
            order_id=fill.order_id,
            exec_id=fill.exec_id,
            as_of=envelope.seq,
        )

    def accounts(self) -> list[str]:
        """Every account that ever traded."""
        return sorted({account for account, _ in self.positions})

    def positions_of(self, account: str) -> dict[str, Position]:
        """Every position that the account ever had, by instrument."""
        return {name: position for (owner, name), position in sorted(self.positions.items()) if owner == account}

    def holdings_of(self, account: str) -> dict[str, list[tuple[str, Holding]]]:
        """Instrument → strategies with their holdings."""
        found: dict[str, list[tuple[str, Holding]]] = {}
        for (owner, instrument, strategy), holding in sorted(self.holdings.items(), key=_key):
            if owner == account:
                found.setdefault(instrument, []).append((strategy, holding))
        return found

    def holds_all_fills(self, account: str) -> bool:
        """Whether no fill of the account has left the window that statements are compared with."""
        return len(self.fills.get(account, {})) < FILLS_KEPT

    def reconcile(
        self, account: str, venue: str, positions: dict[str, int], fills: list[StatedFill] | None
    ) -> list[Break]:
        """Compare a venue's statement with what we hold there.

        Args:
            positions: instrument → signed quantity; one that is not stated is stated as flat.
            fills: The executions that the statement covers, None when it lists none. Ours that are older
                than the oldest one stated are outside of it.
        """
        ours = {
            instrument: position.quantity
            for (owner, instrument), position in self.positions.items()
            if owner == account and instrument.endswith(f".{venue}")
        }
        causes = self._causes(account, venue, fills) if fills is not None else {}
        breaks: list[Break] = []
        for instrument in sorted({*ours, *positions, *causes}):
            mine, stated = ours.get(instrument, 0), positions.get(instrument, 0)
            why = causes.get(instrument, [])
            if mine == stated and not why:
                continue
            explained = mine + sum(cause.signed_quantity for cause in why) == stated
            breaks.append(Break(instrument, mine, stated, why[:CAUSES_MAX], explained))
        return breaks

    def snapshot(self) -> bytes:
        """The machine as JSON, to go on from with `restore`."""
        return msgspec.json.encode(
            State(
                2,
                self.next_seq,
                self.last_fill_seq,
                [(*key, position) for key, position in self.positions.items()],
                [(*key, holding) for key, holding in self.holdings.items()],
                self.fills,
            )
        )

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot."""
        state = msgspec.json.decode(snapshot, type=State)
        self.next_seq, self.last_fill_seq, self.fills = state.next_seq, state.last_fill_seq, state.fills
        self.positions = {(account, instrument): position for account, instrument, position in state.positions}
        self.holdings = {
            (account, instrument, strategy): holding for account, instrument, strategy, holding in state.holdings
        }

    def _keep(self, fill: OrderFilled, signed: int, seq: int) -> None:
        kept = self.fills.setdefault(fill.account, {})
        kept[fill.exec_id] = Fill(seq, fill.instrument, signed, fill.last_px)
        if len(kept) > FILLS_KEPT:
            del kept[next(iter(kept))]

    def _causes(self, account: str, venue: str, stated: list[StatedFill]) -> dict[str, list[Cause]]:
        kept = self.fills.get(account, {})
        causes: dict[str, list[Cause]] = {}
        known: dict[str, int] = {}
        for theirs in {fill.exec_id: fill for fill in stated}.values():
            mine = kept.get(theirs.exec_id)
            if mine is None:
                cause = Cause("missing_fill", theirs.exec_id, theirs.signed_quantity)
                causes.setdefault(theirs.instrument, []).append(cause)
                continue
            known[theirs.exec_id] = mine.seq
            if theirs.signed_quantity and theirs.signed_quantity != mine.signed_quantity:
                difference = theirs.signed_quantity - mine.signed_quantity
                causes.setdefault(mine.instrument, []).append(Cause("fill_differs", theirs.exec_id, difference))
        oldest = min(known.values(), default=-1)
        for exec_id, mine in kept.items():
            if mine.seq >= oldest and exec_id not in known and mine.instrument.endswith(f".{venue}"):
                causes.setdefault(mine.instrument, []).append(Cause("unknown_fill", exec_id, -mine.signed_quantity))
        return causes


def _key(item: tuple[Any, Any]) -> Any:
    return item[0]
