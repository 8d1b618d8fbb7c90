"""What the venue itself has recorded: a fold of `venue.reports`, apart from ours, to compare ours with. Pure."""

from typing import Any

import msgspec

from trade2026.domain import events as ev
from trade2026.domain.orders import DIRECT_ORDER_PREFIX
from trade2026.ptrc.reconciliation import StatedFill

EXECUTIONS_KEPT = 20_000
"""Newest executions per account."""


class _Working(msgspec.Struct):
    """An order that the venue has."""

    account: str
    instrument: str
    buys: bool
    leaves_qty: int
    quantity: int


class VenueRecord:
    """Folds the venue's reports into what it says that each account holds there."""

    def __init__(self) -> None:
        self.next_seq = 0
        self.positions: dict[str, dict[str, int]] = {}
        """Account → instrument → signed quantity, nanos."""
        self.executions: dict[str, dict[str, tuple[int, StatedFill]]] = {}
        """Account → execution id → report and execution, oldest first, the newest `EXECUTIONS_KEPT`."""
        self._working: dict[str, _Working] = {}

    def apply(self, envelope: ev.Envelope) -> None:
        """Fold the next report."""
        assert envelope.seq == self.next_seq, f"report {envelope.seq} follows {self.next_seq - 1}"
        self.next_seq += 1
        report: Any = envelope.data
        if isinstance(report, ev.VenueAccepted) and report.spec is not None:
            spec = report.spec
            self._working[report.order_id] = _Working(
                spec.account, spec.instrument, spec.side == "BUY", spec.quantity, spec.quantity
            )
            return
        order = self._working.get(getattr(report, "order_id", ""))
        if order is None:
            return
        if isinstance(report, ev.VenueFilled):
            self._fill(order, report, envelope.seq)
        elif isinstance(report, ev.VenueReplaced):
            order.leaves_qty += report.quantity - order.quantity
            order.quantity = report.quantity
        if isinstance(report, ev.VenueCanceled) or order.leaves_qty <= 0:
            del self._working[report.order_id]

    def _fill(self, order: _Working, report: ev.VenueFilled, seq: int) -> None:
        order.leaves_qty -= report.last_qty
        signed = report.last_qty if order.buys else -report.last_qty
        held = self.positions.setdefault(order.account, {})
        held[order.instrument] = held.get(order.instrument, 0) + signed
        kept = self.executions.setdefault(order.account, {})
        direct = report.order_id.startswith(DIRECT_ORDER_PREFIX)
        kept[report.exec_id] = seq, StatedFill(report.exec_id, order.instrument, signed, report.last_px, direct)
        if len(kept) > EXECUTIONS_KEPT:
            del kept[next(iter(kept))]

    def statement(self, account: str, venue: str, since: int = -1) -> tuple[dict[str, int], list[StatedFill]]:
        """What the venue says of an account: quantities, and the executions that it still lists.

        Args:
            since: The first report whose execution is listed.
        """
        suffix = f".{venue}"
        held, executions = self.positions.get(account, {}), self.executions.get(account, {})
        return (
            {instrument: quantity for instrument, quantity in held.items() if instrument.endswith(suffix)},
            [fill for seq, fill in executions.values() if seq >= since and fill.instrument.endswith(suffix)],
        )
