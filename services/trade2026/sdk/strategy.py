"""`Strategy`: what a user subclasses. Every method is optional; all that it needs of the world is `self.ctx`."""

from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from trade2026.sdk.context import Context
from trade2026.sdk.types import Bar, Book, Fill, Order, Quote, Timer, Trade


class Parameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of a strategy's parameters: typed fields with defaults, set by the manifest."""


P = TypeVar("P", bound=Parameters)


class Strategy(Generic[P]):
    """One trading strategy.

    The same class runs live, on paper, and over recorded days. What it decides may depend only on what it is
    given here: no clock, randomness, files, network or threads of its own (`trade2026 strategy check` looks).
    Attributes set on `self` are its memory; they are saved and restored as `save` says.

    Example:
        >>> from decimal import Decimal
        >>> class Size(Parameters):
        ...     quantity: Decimal = Decimal("0.01")
        >>> class BuyOnce(Strategy[Size]):
        ...     parameters = Size
        ...     def on_start(self) -> None:
        ...         self.ctx.buy(self.p.quantity)
    """

    parameters: ClassVar[type[Parameters]] = Parameters
    """The model of its parameters."""
    ctx: Context
    p: P
    """Its parameters, as the manifest sets them."""

    def bars(self) -> tuple[str, ...]:
        """Intervals of the bars it wants, such as `("1m", "100tick")`."""
        return ()

    def warm_up(self) -> int:
        """How many trades of the past it wants to see before `on_start`; orders are refused meanwhile."""
        return 0

    def warm_up_bars(self) -> int:
        """How many complete bars of the past it wants to see of each of its intervals, before those trades.

        They are those of `market.bars`; an interval that is not there begins with the trades of `warm_up`.
        """
        return 0

    def on_start(self) -> None:
        """It begins to trade; what `restore` brought back is there."""

    def on_stop(self) -> None:
        """It ends in order: cancel what should not work without it."""

    def on_trade(self, trade: Trade) -> None:
        """The market has traded."""

    def on_quote(self, quote: Quote) -> None:
        """The best bid or ask has changed."""

    def on_bar(self, bar: Bar) -> None:
        """A bar is complete. Over recorded days it comes before the trade that ended it, live at about that time."""

    def on_book(self, book: Book) -> None:
        """The book has changed."""

    def on_order(self, order: Order) -> None:
        """An order of ours has another status or other terms."""

    def on_fill(self, fill: Fill) -> None:
        """An order was filled, whole or in part; the position has changed already."""

    def on_timer(self, timer: Timer) -> None:
        """A timer that was set with `ctx.timer` is due."""

    def save(self) -> Any:
        """What to remember over a restart: by default every attribute. Plain data; see `trade2026.sdk.saving`."""
        return {name: value for name, value in vars(self).items() if name not in ("ctx", "p")}

    def restore(self, saved: Any) -> None:
        """Take back what `save` returned."""
        vars(self).update(saved)
