"""The one position fold: every service that speaks of a position has folded it here.

Average cost, exact. `open_cost` is the signed cost of what is still open, at `COST_SCALE`; what a
reducing fill releases is floored, and the remainder stays in `open_cost`, so over the life of a
position realised P&L plus open cost always equals minus the cash that moved.
"""

import msgspec

from trade2026.domain.numbers import SCALE, cost_of


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
    multiplier: int = SCALE
    """Of the instrument at the last fill, nanos: money per point and unit of quantity."""

    def apply_fill(self, signed_quantity: int, price: int, fee: int = 0, multiplier: int = SCALE) -> int:
        """Fold one fill and return the P&L that it realised (`COST_SCALE`, before fees).

        Args:
            signed_quantity: nanos; positive for a buy. Zero is a broken caller.
            price: nanos per unit.
            fee: at `COST_SCALE`, positive when paid.
            multiplier: of the instrument, nanos.
        """
        assert signed_quantity != 0, "a fill moves a quantity"
        before, quantity = self.quantity, abs(signed_quantity)
        value = cost_of(price, quantity, multiplier)
        side = 1 if signed_quantity > 0 else -1
        self.multiplier = multiplier
        self.fills += 1
        self.fees += fee
        if side > 0:
            self.bought += quantity
        else:
            self.sold += quantity
        self.quantity = before + signed_quantity
        if before == 0 or (before > 0) == (side > 0):
            self.open_cost += side * value
            return 0
        held = abs(before)
        if quantity >= held:
            released, proceeds = self.open_cost, value * held // quantity
        else:
            released, proceeds = -side * (abs(self.open_cost) * quantity // held), value
        realized = -side * proceeds - released
        self.realized += realized
        self.open_cost += side * (value - proceeds) - released
        return realized

    @property
    def average_price(self) -> int:
        """Average cost of the open quantity, nanos per unit, rounded down; 0 when flat."""
        if not self.quantity:
            return 0
        return abs(self.open_cost) * SCALE // (abs(self.quantity) * self.multiplier)

    def unrealized(self, mark: int) -> int:
        """P&L of the open quantity at `mark` (nanos per unit), at `COST_SCALE`."""
        return self.value(mark) - self.open_cost

    def value(self, mark: int) -> int:
        """The signed value of the open quantity at `mark` (nanos per unit), at `COST_SCALE`."""
        value = cost_of(mark, abs(self.quantity), self.multiplier)
        return value if self.quantity > 0 else -value
