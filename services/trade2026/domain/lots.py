"""Lots: what each opening fill left behind, closed first in first out or last in first out.

The quantities of the lots sum to the position's, and realised P&L plus the cost of the lots always equals
minus the cash that moved, exactly as for average cost in `domain.positions`.
"""

from typing import Literal

import msgspec

from trade2026.domain.numbers import SCALE, cost_of

LOTS_MAX = 10_000
"""Lots of one book; beyond it a fill joins the newest lot, exactly."""

Matching = Literal["fifo", "lifo"]


class Lot(msgspec.Struct):
    """What one opening fill left behind. `cost` is at `COST_SCALE`; both are positive, the side is the position's."""

    exec_id: str
    quantity: int
    cost: int
    ts: int
    fills: int = 1
    multiplier: int = SCALE

    @property
    def price(self) -> int:
        """Nanos per unit, rounded down where fills were joined."""
        return self.cost * SCALE // (self.quantity * self.multiplier)


class Lots(msgspec.Struct):
    """The open lots of one position, and what closing lots has realised."""

    matching: Matching = "fifo"
    long: bool = True
    """The side of the lots, if there are any."""
    lots: list[Lot] = []
    """Oldest first."""
    realized: int = 0
    """P&L before fees, at `COST_SCALE`."""

    def apply_fill(
        self, signed_quantity: int, price: int, exec_id: str = "", ts: int = 0, *, multiplier: int = SCALE
    ) -> int:
        """Close lots of the other side, open one with what is left; return the P&L that was realised.

        Args:
            signed_quantity: nanos; positive for a buy. Zero is a broken caller.
            price: nanos per unit.
            ts: when it happened, ns.
            multiplier: of the instrument, nanos.
        """
        assert signed_quantity != 0, "a fill moves a quantity"
        buys, quantity = signed_quantity > 0, abs(signed_quantity)
        value = cost_of(price, quantity, multiplier)
        rest, rest_value, before = quantity, value, self.realized
        if self.lots and self.long != buys:
            rest, rest_value = self._close(quantity, value)
        if rest:
            self.long = buys
            self._open(Lot(exec_id, rest, rest_value, ts, multiplier=multiplier))
        return self.realized - before

    @property
    def quantity(self) -> int:
        """Signed: long is positive."""
        return (1 if self.long else -1) * sum(lot.quantity for lot in self.lots)

    @property
    def open_cost(self) -> int:
        """Signed cost of the open lots, at `COST_SCALE`."""
        return (1 if self.long else -1) * sum(lot.cost for lot in self.lots)

    def _close(self, quantity: int, value: int) -> tuple[int, int]:
        """Close lots for a fill of this value; return what is left of both."""
        side = 1 if self.long else -1
        while quantity and self.lots:
            lot = self.lots[0 if self.matching == "fifo" else -1]
            part = min(lot.quantity, quantity)
            cost = lot.cost * part // lot.quantity
            proceeds = value * part // quantity
            self.realized += side * (proceeds - cost)
            quantity, value = quantity - part, value - proceeds
            if part == lot.quantity:
                self.lots.pop(0 if self.matching == "fifo" else -1)
            else:
                lot.quantity, lot.cost = lot.quantity - part, lot.cost - cost
        return quantity, value

    def _open(self, lot: Lot) -> None:
        if len(self.lots) >= LOTS_MAX:
            newest = self.lots[-1]
            newest.quantity += lot.quantity
            newest.cost += lot.cost
            newest.fills += 1
        else:
            self.lots.append(lot)
