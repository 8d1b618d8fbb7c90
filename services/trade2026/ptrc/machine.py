"""Positions with their lots, the fills behind them, and what is still to settle.

Pure: a fold of the order log. The average-cost position is the shared one of `domain.positions`; lots are
first in, first out beside it, per account, instrument and strategy.
"""

from typing import Any, Literal

import msgspec

from trade2026.domain.events import Envelope, OrderFilled, PositionChanged
from trade2026.domain.lots import Lots
from trade2026.domain.numbers import SCALE, cost_of
from trade2026.domain.positions import Position
from trade2026.ptrc.reconciliation import Break, Fill, StatedFill, reconcile
from trade2026.ptrc.settlement import Ledger

FILLS_KEPT = 20_000
"""Newest fills per account that a statement is compared with."""


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


class State(msgspec.Struct):
    """The machine as data; another `format` is not read, the log is folded instead."""

    format: Literal[3]
    next_seq: int
    last_fill_seq: int
    report_seq: int
    positions: list[tuple[str, str, Position]]
    holdings: list[tuple[str, str, str, Holding]]
    fills: dict[str, dict[str, Fill]]
    ledgers: dict[str, Ledger]


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
        self._of_account: dict[str, tuple[dict[str, Position], dict[tuple[str, str], Holding]]] = {}
        self.ledgers: dict[str, Ledger] = {}
        """Account → what its fills oblige to."""
        self.report_seq = -1
        """Position of the newest report of the venue that is in the log."""

    def apply(self, envelope: Envelope) -> list[tuple[int, PositionChanged]]:
        """Fold the next event; a fill answers with the position after it."""
        assert envelope.seq == self.next_seq, f"event {envelope.seq} follows {self.next_seq - 1}"
        self.next_seq += 1
        fill = envelope.data
        self.report_seq = max(self.report_seq, getattr(fill, "report_seq", -1))
        if not isinstance(fill, OrderFilled):
            return []
        self.last_fill_seq = envelope.seq
        signed = fill.last_qty if fill.side == "BUY" else -fill.last_qty
        whole, holding = self._place(fill.account, fill.instrument, fill.strategy)
        realized = whole.apply_fill(signed, fill.last_px, fill.fee, fill.multiplier)
        self._oblige(fill, signed, realized, envelope.ts_event)
        holding.apply_fill(fill, signed, envelope.ts_event)
        self._keep(fill, signed, envelope.seq)
        position = holding.position
        changed = PositionChanged(
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
        return [(envelope.ts_event, changed)]

    def last_seq(self, topic: str) -> int:
        """Position of the newest event from which something followed, whatever the topic: that of a fill."""
        return self.last_fill_seq

    def accounts(self) -> list[str]:
        """Every account that ever traded."""
        return sorted(self._of_account)

    def positions_of(self, account: str) -> dict[str, Position]:
        """Every position that the account ever had, by instrument."""
        return dict(sorted(self._of_account.get(account, _NOTHING)[0].items()))

    def holdings_of(self, account: str) -> dict[str, list[tuple[str, Holding]]]:
        """Instrument → strategies with their holdings."""
        found: dict[str, list[tuple[str, Holding]]] = {}
        for (instrument, strategy), holding in sorted(self._of_account.get(account, _NOTHING)[1].items(), key=_key):
            found.setdefault(instrument, []).append((strategy, holding))
        return found

    def holds_all_fills(self, account: str) -> bool:
        """Whether no fill of the account has left the window that statements are compared with."""
        return len(self.fills.get(account, {})) < FILLS_KEPT

    def fills_since(self, account: str) -> int:
        """The report of the oldest fill that is kept, -1 while all are."""
        if self.holds_all_fills(account):
            return -1
        return next(iter(self.fills[account].values())).report_seq

    def reconcile(
        self,
        account: str,
        venue: str,
        stated: dict[str, int] | None,
        stated_fills: list[StatedFill] | None,
        *,
        report_seq: int | None = None,
    ) -> list[Break]:
        """Compare a venue's statement with what we hold there; see `reconciliation.reconcile`.

        Args:
            report_seq: The last report of the venue that the statement contains; None means all.
        """
        suffix = f".{venue}"
        ours = {
            instrument: position.quantity
            for instrument, position in self.positions_of(account).items()
            if instrument.endswith(suffix)
        }
        fills: dict[str, Fill] = {}
        for exec_id, fill in self.fills.get(account, {}).items():
            if not fill.instrument.endswith(suffix):
                continue
            if report_seq is not None and fill.report_seq > report_seq:
                ours[fill.instrument] -= fill.signed_quantity
            else:
                fills[exec_id] = fill
        return reconcile(ours, fills, stated, stated_fills)

    def snapshot(self) -> bytes:
        """The machine as JSON, to go on from with `restore`."""
        return msgspec.json.encode(
            State(
                3,
                self.next_seq,
                self.last_fill_seq,
                self.report_seq,
                [(*key, position) for key, position in self.positions.items()],
                [(*key, holding) for key, holding in self.holdings.items()],
                self.fills,
                self.ledgers,
            )
        )

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot."""
        state = msgspec.json.decode(snapshot, type=State)
        self.next_seq, self.last_fill_seq, self.report_seq = state.next_seq, state.last_fill_seq, state.report_seq
        self.fills, self.ledgers = state.fills, state.ledgers
        self.positions = {(account, instrument): position for account, instrument, position in state.positions}
        self.holdings = {
            (account, instrument, strategy): holding for account, instrument, strategy, holding in state.holdings
        }
        self._of_account = {}
        for (account, instrument), position in self.positions.items():
            self._of_account.setdefault(account, ({}, {}))[0][instrument] = position
        for (account, instrument, strategy), holding in self.holdings.items():
            self._of_account[account][1][instrument, strategy] = holding

    def _place(self, account: str, instrument: str, strategy: str) -> tuple[Position, Holding]:
        """The account's position and the strategy's holding; flat ones if there were none."""
        holding = self.holdings.get((account, instrument, strategy))
        if holding is not None:
            return self.positions[account, instrument], holding
        positions, holdings = self._of_account.setdefault(account, ({}, {}))
        position = self.positions.setdefault((account, instrument), Position())
        holding = Holding()
        positions[instrument] = position
        holdings[instrument, strategy] = self.holdings[account, instrument, strategy] = holding
        return position, holding

    def _oblige(self, fill: OrderFilled, signed: int, realized: int, ts: int) -> None:
        """A contract with a multiplier settles what it realised; everything else is delivered against payment."""
        ledger = self.ledgers.setdefault(fill.account, Ledger())
        if fill.multiplier != SCALE:
            ledger.add(ts, fill.instrument, 0, realized - fill.fee)
            return
        cost = cost_of(fill.last_px, fill.last_qty)
        ledger.add(ts, fill.instrument, signed, (-cost if signed > 0 else cost) - fill.fee)

    def _keep(self, fill: OrderFilled, signed: int, seq: int) -> None:
        kept = self.fills.setdefault(fill.account, {})
        kept[fill.exec_id] = Fill(seq, fill.instrument, signed, fill.last_px, fill.report_seq)
        if len(kept) > FILLS_KEPT:
            del kept[next(iter(kept))]


_NOTHING: tuple[dict[str, Position], dict[tuple[str, str], Holding]] = ({}, {})


def _key(item: tuple[Any, Any]) -> Any:
    return item[0]
