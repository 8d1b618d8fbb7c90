"""The one position fold: every service that speaks of a position has folded it here.

Average cost, exact. `open_cost` is the signed cost of what is still open, at `COST_SCALE`; what a
reducing fill releases is floored, and the remainder stays in `open_cost`, so over the life of a
position realised P&L plus open cost always equals minus the cash that moved.
"""

import msgspec


class Position(msgspec.Struct, gc=False):
    """The position of one account in one instrument. Quantities are nanos, money is at `COST_SCALE`."""

    quantity: int = 0
    """Signed: long is positive."""
    open_cost: int = 0
    """Signed cost of the open quantity."""
    realized: int = 0
    """Realised P&L before fees."""
    fees: int = 0
    """Fees paid, positive, at `COST_SCALE`."""
    bought: int = 0
    sold: int = 0
    fills: int = 0

    def apply_fill(self, signed_quantity: int, price: int, fee: int = 0) -> int:
        """Fold one fill and return the P&L that it realised (`COST_SCALE`, before fees).

        Args:
            signed_quantity: nanos; positive for a buy. Zero is a broken caller.
            price: nanos per unit.
            fee: at `COST_SCALE`, positive when paid.
        """
        assert signed_quantity != 0, "a fill moves a quantity"
        before = self.quantity
        self.fills += 1
        self.fees += fee
        if signed_quantity > 0:
            self.bought += signed_quantity
        else:
            self.sold -= signed_quantity
        if before == 0 or (before > 0) == (signed_quantity > 0):
            self.quantity = before + signed_quantity
            self.open_cost += signed_quantity * price
            return 0
        closing = min(abs(signed_quantity), abs(before))
        if closing == abs(before):
            released = self.open_cost
        else:
            released = abs(self.open_cost) * closing // abs(before) * (1 if before > 0 else -1)
        proceeds = closing * price if before > 0 else -closing * price
        realized = proceeds - released
        self.open_cost -= released
        self.realized += realized
        self.quantity = before + signed_quantity
        opening = abs(signed_quantity) - closing
        if opening:
            self.open_cost += (opening if signed_quantity > 0 else -opening) * price
        return realized

    @property
    def average_price(self) -> int:
        """Average cost of the open quantity, nanos per unit, rounded down; 0 when flat."""
        return abs(self.open_cost) // abs(self.quantity) if self.quantity else 0

    def unrealized(self, mark: int) -> int:
        """P&L of the open quantity at `mark` (nanos per unit), at `COST_SCALE`."""
        return self.quantity * mark - self.open_cost
