"""What a strategy is written with: `from trade2026.sdk import Strategy, Parameters`."""

from trade2026.domain.orders import OrderType, OrdStatus, TimeInForce
from trade2026.sdk.context import Context, Request
from trade2026.sdk.indicators import ATR, EMA, RSI, SMA, Indicator, StdDev, ZScore
from trade2026.sdk.strategy import Parameters, Strategy
from trade2026.sdk.types import Account, Bar, Book, Fill, Instrument, Level, Order, Position, Quote, Timer, Trade

__all__ = [
    "ATR",
    "EMA",
    "RSI",
    "SMA",
    "Account",
    "Bar",
    "Book",
    "Context",
    "Fill",
    "Indicator",
    "Instrument",
    "Level",
    "OrdStatus",
    "Order",
    "OrderType",
    "Parameters",
    "Position",
    "Quote",
    "Request",
    "StdDev",
    "Strategy",
    "TimeInForce",
    "Timer",
    "Trade",
    "ZScore",
]
