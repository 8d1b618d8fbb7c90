"""`positions` and `pnl`: what fills made of an account."""

from trade2026.domain.events.base import Event


class PositionChanged(Event, frozen=True, kw_only=True):
    """A position after one fill. Money is at `COST_SCALE`; `as_of` is the fill's position in the log."""

    account: str
    instrument: str
    strategy: str = ""
    quantity: int
    open_cost: int
    realized: int
    fees: int
    order_id: str
    exec_id: str
    as_of: int


class PnlRealized(Event, frozen=True, kw_only=True):
    """P&L that one fill realised, and the account's totals after it, at `COST_SCALE` of `currency`."""

    account: str
    instrument: str
    strategy: str = ""
    currency: str
    realized: int
    fee: int
    total_realized: int
    total_fees: int
    order_id: str
    exec_id: str
    as_of: int
