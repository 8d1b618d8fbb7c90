"""Values as clients read them: decimal text, RFC 3339 times, and with each how old it is and which event made it."""

from typing import Any

import msgspec

from trade2026.domain.market import Bar, Book, Level, Trade
from trade2026.domain.numbers import cost_to_nanos, to_text
from trade2026.hot_cache.machine import TICKS, Change, Holding, Pnl
from trade2026.kit.views import time_text
from trade2026.stores.cache import Entry

_MILLISECOND = 10**6


def entry_of(change: Change) -> Entry:
    """Make what is kept of a change."""
    value = msgspec.json.encode(_value(change.data))
    return Entry(value, change.ts, _event_id(change.topic, change.seq), restored=change.restored)


def entry_view(key: str, entry: Entry, now: int) -> dict[str, Any]:
    """Show a value at a time (ns)."""
    shown: dict[str, Any] = {
        "key": key,
        "value": msgspec.Raw(entry.value),
        "as_of": entry.as_of or None,
        "ts": time_text(entry.ts),
        "age_ms": max(0, now - entry.ts) // _MILLISECOND,
    }
    if entry.restored:
        shown["restored"] = True
    if entry.expires_at:
        shown["expires_at"] = time_text(entry.expires_at)
    return shown


def _value(data: Trade | Book | Bar | Holding | Pnl) -> dict[str, Any]:
    if isinstance(data, Trade):
        return _trade(data)
    if isinstance(data, Book):
        return {
            "symbol": data.instrument,
            "bids": _levels(data.bids),
            "asks": _levels(data.asks),
            "venue_seq": data.venue_seq,
        }
    if isinstance(data, Bar):
        return _bar(data)
    return _holding(data) if isinstance(data, Holding) else _pnl(data)


def _trade(trade: Trade) -> dict[str, Any]:
    return {
        "symbol": trade.instrument,
        "trade_id": trade.trade_id,
        "price": to_text(trade.price),
        "quantity": to_text(trade.quantity),
        "aggressor": trade.aggressor,
        "venue_seq": trade.venue_seq,
        "ts_source": time_text(trade.ts_source),
    }


def _bar(bar: Bar) -> dict[str, Any]:
    return {
        "symbol": bar.instrument,
        "interval": bar.interval,
        "time": time_text(bar.ts_open),
        "end": time_text(bar.ts_close),
        "open": to_text(bar.open),
        "high": to_text(bar.high),
        "low": to_text(bar.low),
        "close": to_text(bar.close),
        "volume": to_text(bar.volume),
        "value": _money(bar.value),
        "trades": bar.trades,
        "missing": bar.missing,
        "shifted": bar.shifted,
    }


def _holding(holding: Holding) -> dict[str, Any]:
    position = holding.position
    return {
        "account": holding.account,
        "symbol": holding.instrument,
        **({} if holding.strategy is None else {"strategy": holding.strategy}),
        "quantity": to_text(position.quantity),
        "average_price": to_text(position.average_price),
        "realized": _money(position.realized),
        "fees": _money(position.fees),
    }


def _pnl(pnl: Pnl) -> dict[str, Any]:
    shown: dict[str, Any] = {"account": pnl.account, "currency": pnl.currency}
    if pnl.instrument:
        shown["symbol"] = pnl.instrument
        shown["mark"] = to_text(pnl.mark) if pnl.mark is not None else None
        shown["mark_as_of"] = _event_id(TICKS, pnl.mark_seq) or None
    else:
        shown["not_converted"] = pnl.not_converted
    return {
        **shown,
        "realized": _money(pnl.realized),
        "unrealized": _money(pnl.unrealized),
        "fees": _money(pnl.fees),
        "total": _money(pnl.realized + pnl.unrealized - pnl.fees),
    }


def _levels(levels: list[Level]) -> list[list[str]]:
    return [[to_text(level.price), to_text(level.quantity)] for level in levels]


def _event_id(partition: str, seq: int) -> str:
    topic, _, number = partition.partition("/")
    return f"{topic}/{number or 0}/{seq}" if seq >= 0 else ""


def _money(cost: int) -> str:
    return to_text(cost_to_nanos(cost))
