"""What can be asked of the paper venue. Every command carries the time and its cause."""

import msgspec

from trade2026.domain.commands import Command
from trade2026.domain.market import Book, Trade
from trade2026.domain.orders import OrderSpec


class Kill(msgspec.Struct, frozen=True):
    """Why new orders of a scope are refused, since when (ns) and by whom."""

    reason: str
    by: str = ""
    ts: int = 0
    halt: bool = False
    """Orders that work are left alone, and reduce-only ones pass."""


class NewOrder(msgspec.Struct, frozen=True):
    """An order that arrives; `order_id` is its owner's."""

    order_id: str
    spec: OrderSpec


class PlaceOrders(Command, kw_only=True):
    """Orders that arrive with one event: all their reports become durable together."""

    orders: list[NewOrder]


class CancelWorking(Command, kw_only=True):
    """Cancel what is left of an order."""

    order_id: str


class CancelMany(Command, kw_only=True):
    """Cancel orders that nobody asked about one by one: a kill. What is not working is passed over."""

    order_ids: list[str]
    reason: str


class ExpireOrders(Command, kw_only=True):
    """Time has passed: end the orders whose time in force has run out."""


class ReplaceWorking(Command, kw_only=True):
    """Give an order another total quantity or price (nanos)."""

    order_id: str
    quantity: int
    price: int


class ObservePrint(Command, kw_only=True):
    """A trade of the market, and the book after it if that is known."""

    trade: Trade
    book: Book | None = None


class ObserveBook(Command, kw_only=True):
    """The book as it is: to a venue that was made again from its log, which knows no market."""

    book: Book
