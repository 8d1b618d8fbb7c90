"""Limits in a manifest: ceilings of a stack, and of whoever trades on it."""

from typing import Annotated

from pydantic import Field

from trade2026.stack.strict import Model
from trade2026.stack.written import Amount, Bps, Duration, Text, Window

NAMES_MAX = 64
"""In one list of instruments or venues."""
SCOPES_MAX = 256
"""Accounts, strategies, traders … that have limits of their own."""

Names = Annotated[list[Text], Field(max_length=NAMES_MAX)]


class Rate(Model):
    """So many in a sliding window."""

    count: int = Field(ge=1, le=2**31, description="How many at most.")
    per: Window = Field(default="1s", description="Length of the window.")


class LimitSet(Model):
    """Limits of one scope. What is omitted is not limited here; every scope that applies must pass."""

    max_order_quantity: Amount | None = Field(default=None, description="Largest quantity of one order.")
    max_order_value: Amount | None = Field(
        default=None, description="Largest value of one order, in the base currency."
    )
    max_open_orders: int | None = Field(default=None, ge=0, le=2**31, description="Most orders open at once.")
    max_gross_exposure: Amount | None = Field(default=None, description="Positions and open orders, long plus short.")
    max_net_exposure: Amount | None = Field(default=None, description="Positions and open orders, long less short.")
    max_position: Amount | None = Field(
        default=None, description="Largest position in one instrument, open orders included."
    )
    max_daily_loss: Amount | None = Field(
        default=None,
        description="Realised loss after fees since midnight UTC at which new risk is refused; open positions do not count.",
    )
    order_rate: Rate | None = Field(default=None, description="Submissions, amendments and cancellations.")
    price_collar: Bps | None = Field(
        default=None, description="How far a price may lie on the aggressive side of the last one: 500bps or 5%."
    )
    passive_collar: Bps | None = Field(default=None, description="The same on the passive side.")
    price_window: Bps | None = Field(
        default=None, description="How far a price may lie outside the lowest and highest of the last while."
    )
    duplicate_window: Duration | None = Field(
        default=None, description="The same content from the same account within this time is refused; 0s allows it."
    )
    max_executions: Rate | None = Field(
        default=None, description="Executions of one strategy before it waits for a named person to release it."
    )
    allowed_instruments: Names | None = Field(default=None, description="Only these may be traded; empty means none.")
    allowed_venues: Names | None = Field(default=None, description="Only these venues may be used; empty means none.")
    restricted: Names | None = Field(default=None, description="Instruments that must not be traded.")


class Risk(Model):
    """Ceilings. The API may tighten them for a time, never widen them."""

    limits: LimitSet = Field(default_factory=LimitSet, description="For the stack as a whole.")
    account_defaults: LimitSet = Field(default_factory=LimitSet, description="For every account not named below.")
    accounts: dict[str, LimitSet] = Field(
        default_factory=dict, max_length=SCOPES_MAX, description="By account, over the defaults."
    )
    strategy_defaults: LimitSet = Field(default_factory=LimitSet, description="For every strategy not named below.")
    strategies: dict[str, LimitSet] = Field(
        default_factory=dict, max_length=SCOPES_MAX, description="By strategy, over the defaults."
    )
    instruments: dict[str, LimitSet] = Field(default_factory=dict, max_length=SCOPES_MAX, description="By instrument.")
    traders: dict[str, LimitSet] = Field(default_factory=dict, max_length=SCOPES_MAX, description="By trader.")
    desks: dict[str, LimitSet] = Field(default_factory=dict, max_length=SCOPES_MAX, description="By desk.")
    reference_age_max: Duration = Field(
        default="10s", description="A collar does not trust a last price that is older."
    )
