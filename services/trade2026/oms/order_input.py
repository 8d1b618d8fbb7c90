"""An order as a user writes it, and what is wrong with it: the edge where text becomes an `OrderSpec`."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, NamedTuple, NoReturn, get_args

import msgspec

from trade2026.domain.instruments import Instrument, Instruments, UnknownInstrument
from trade2026.domain.numbers import Amount, to_text
from trade2026.domain.orders import HELD_TYPES, OrderSpec, OrderType, Side, TimeInForce
from trade2026.kit.http import Problem

_DAY = 86_400 * 1_000_000_000
TEXT_MAX = 64
_TERMS_MAX = 1_024
_NS_MAX = 2**63 - 1
"""Times in ns are 64-bit integers: they end in the year 2262."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TYPES = {name.replace("_", ""): OrderType(name) for name in OrderType.__members__}


def _either(words: Iterable[str]) -> str:
    return "one of " + ", ".join(f"`{word}`" for word in words)


class OrderInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One order. Amounts are numbers or decimal strings; `side` and `order_type` in any case."""

    symbol: str
    side: Annotated[str, msgspec.Meta(description=_either(get_args(Side)))]
    quantity: Amount
    order_type: Annotated[str | None, msgspec.Meta(description=_either(OrderType))] = None
    type: Annotated[str | None, msgspec.Meta(description="the same as `order_type`")] = None
    price: Amount | None = None
    stop_price: Amount | None = None
    trailing_offset: Amount | None = None
    display_quantity: Amount | None = None
    time_in_force: Annotated[str, msgspec.Meta(description=_either(TimeInForce))] = "GTC"
    expire_at: str | None = None
    account: str | None = None
    client_order_id: str | None = None
    post_only: bool = False
    reduce_only: bool = False
    strategy: str = ""
    trader: str = ""
    desk: str = ""
    client: str = ""
    algo: str = ""
    parent_order_id: str = ""


class AmendInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """New terms of an order; what is absent stays as it is."""

    quantity: Amount | None = None
    price: Amount | None = None
    stop_price: Amount | None = None


def _bad(code: str, detail: str, field: str) -> NoReturn:
    raise Problem(422, code, detail, field=field)


def amount(value: Amount | None, field: str) -> int:
    """Return a positive amount in nanos, 0 where none was given."""
    if value is None:
        return 0
    if value.error is not None:
        _bad(value.error.fault, f"{field}: {value.error}", field)
    if value <= 0:
        _bad("not_positive", f"{field} must be above zero, not {to_text(value)}", field)
    return int(value)


def _step(nanos: int, step: int, code: str, field: str) -> None:
    if nanos % step:
        below = nanos - nanos % step
        nearest = f"the nearest are {to_text(below)} and {to_text(below + step)}" if below else "that is the least"
        _bad(code, f"{field} {to_text(nanos)} is no multiple of {to_text(step)}; {nearest}", field)


def _expiry(tif: TimeInForce, expire_at: str | None, now: int) -> int:
    if tif is TimeInForce.DAY:
        return now - now % _DAY + _DAY
    if tif is not TimeInForce.GTD:
        if expire_at is not None:
            _bad("unexpected_field", "expire_at goes with time_in_force GTD", "expire_at")
        return 0
    if expire_at is None:
        _bad("missing_field", "a GTD order needs expire_at, e.g. 2030-01-31T16:00:00Z", "expire_at")
    try:
        moment = datetime.fromisoformat(expire_at)
    except ValueError:
        _bad("bad_time", f"expire_at {expire_at!r} is no RFC 3339 time, e.g. 2030-01-31T16:00:00Z", "expire_at")
    if moment.tzinfo is None:
        _bad("bad_time", "expire_at needs an offset, e.g. a Z for UTC", "expire_at")
    since = moment - _EPOCH
    nanos = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
    if nanos > _NS_MAX:
        _bad("bad_time", "expire_at is after the year 2262; a GTC order does not expire", "expire_at")
    if nanos <= now:
        _bad("bad_time", "expire_at is in the past", "expire_at")
    return nanos


class _Terms(NamedTuple):
    """What the words of an order mean."""

    instrument: Instrument
    side: Side
    order_type: OrderType | None
    """None where the input leaves it to the price."""
    time_in_force: TimeInForce


class OrderReader:
    """Turns inputs into specs for one stack's instruments."""

    def __init__(self, instruments: Instruments, default_account: str) -> None:
        self.instruments, self.default_account = instruments, default_account
        self._terms: dict[tuple[str | None, ...], _Terms] = {}
        """Words that were understood before: a client says the same ones all day."""

    def read(self, order: OrderInput, client_order_id: str, now: int) -> OrderSpec:
        """Return the order's spec.

        Args:
            client_order_id: Used where the input names none.
            now: ns; for DAY and GTD.

        Raises:
            Problem: 422 with the field and what to do.
        """
        words = (order.symbol, order.side, order.order_type, order.type, order.time_in_force)
        instrument, side, order_type, tif = self._terms.get(words) or self._understand(*words)
        if order_type is None:
            order_type = OrderType.MARKET if order.price is None else OrderType.LIMIT
        quantity = amount(order.quantity, "quantity")
        _step(quantity, instrument.lot_size, "off_lot", "quantity")
        price = amount(order.price, "price")
        stop_price = display = trailing = 0
        if order_type is not OrderType.LIMIT or not price or _asks_for_more(order):
            stop_price = amount(order.stop_price, "stop_price")
            display = amount(order.display_quantity, "display_quantity")
            _check_prices(order_type, price, stop_price, order)
            _step(stop_price, instrument.tick_size, "off_tick", "stop_price")
            _check_display(order_type, display, quantity, instrument)
            trailing = amount(order.trailing_offset, "trailing_offset")
            if order.post_only and (order_type not in (OrderType.LIMIT, OrderType.ICEBERG) or tif in ("IOC", "FOK")):
                _bad("bad_post_only", "post_only goes with a resting LIMIT or ICEBERG order", "post_only")
        _step(price, instrument.tick_size, "off_tick", "price")
        if price and price * quantity // 1_000_000_000 < instrument.min_notional:
            _bad("below_min_notional", f"price × quantity must reach {to_text(instrument.min_notional)}", "quantity")
        strategy, trader, desk, client = order.strategy, order.trader, order.desk, order.client
        given_id, account, algo, parent = order.client_order_id, order.account, order.algo, order.parent_order_id
        if given_id == "":  # most likely a variable that was not set: sent twice, it would be two orders
            _bad("bad_text", "client_order_id is empty: give one, or leave it out", "client_order_id")
        if strategy or trader or desk or client or given_id or account or algo or parent:
            _check_names(order)
        timed = order.expire_at is not None or tif is TimeInForce.DAY or tif is TimeInForce.GTD
        return OrderSpec(
            client_order_id=given_id or client_order_id,
            account=account or self.default_account,
            instrument=instrument.instrument_id,
            side=side,
            order_type=order_type,
            quantity=quantity,
            price=price,
            stop_price=stop_price,
            trailing_offset=trailing,
            display_quantity=display,
            time_in_force=tif,
            expire_at=_expiry(tif, order.expire_at, now) if timed else 0,
            post_only=order.post_only,
            reduce_only=order.reduce_only,
            strategy=strategy,
            trader=trader,
            desk=desk,
            client=client,
            algo=algo,
            parent_order_id=parent,
        )

    def _understand(self, symbol: str, side: str, order_type: str | None, type: str | None, tif: str) -> _Terms:
        try:
            instrument = self.instruments.resolve(symbol)
        except UnknownInstrument as error:
            _bad("unknown_symbol", str(error), "symbol")
        side_word = side.upper()
        if side_word != "BUY" and side_word != "SELL":
            _bad("bad_side", f"side is buy or sell, not {side[:20]!r}", "side")
        found = _order_type(order_type, type)
        try:
            time_in_force = TimeInForce(tif.upper())
        except ValueError:
            _bad("bad_time_in_force", f"time_in_force is one of {', '.join(TimeInForce)}", "time_in_force")
        terms = _Terms(instrument, side_word, found, time_in_force)
        if len(f"{order_type}{type}") <= TEXT_MAX:
            if len(self._terms) >= _TERMS_MAX:
                self._terms.clear()
            self._terms[symbol, side, order_type, type, tif] = terms
        return terms


def _asks_for_more(order: OrderInput) -> bool:
    """Whether a limit order has more than a price."""
    return (
        order.post_only
        or order.stop_price is not None
        or order.display_quantity is not None
        or order.trailing_offset is not None
    )


def _order_type(word: str | None, other: str | None) -> OrderType | None:
    """Return the type that one of the two names of the field says; None if neither is given."""
    if word is not None and other is not None and word != other:
        _bad("contradiction", "order_type and type are two names of one field; give one", "type")
    said = word if word is not None else other
    if said is None:
        return None
    found = _TYPES.get(said.upper().replace("_", "").replace("-", "").replace(" ", ""))
    if found is None:
        _bad("bad_order_type", f"order_type is one of {', '.join(OrderType)}", "order_type")
    return found


def _check_prices(order_type: OrderType, price: int, stop_price: int, order: OrderInput) -> None:
    needs_price = order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.ICEBERG)
    if needs_price and not price:
        _bad("missing_field", f"a {order_type} order needs a price", "price")
    if price and not needs_price:
        _bad("unexpected_field", f"a {order_type} order has no price", "price")
    needs_stop = order_type in HELD_TYPES
    if needs_stop and not stop_price:
        _bad("missing_field", f"a {order_type} order needs a stop_price (where it starts, if it trails)", "stop_price")
    if stop_price and not needs_stop:
        _bad("unexpected_field", f"a {order_type} order has no stop_price", "stop_price")
    if (order_type is OrderType.TRAILING_STOP) != (order.trailing_offset is not None):
        _bad("bad_trailing_offset", "a TRAILING_STOP order, and only that, has a trailing_offset", "trailing_offset")


def _check_display(order_type: OrderType, display: int, quantity: int, instrument: Instrument) -> None:
    _step(display, instrument.lot_size, "off_lot", "display_quantity")
    if order_type is OrderType.ICEBERG and display > quantity:
        shown, whole = to_text(display), to_text(quantity)
        _bad("bad_display_quantity", f"it can't show {shown} of {whole}: give less", "display_quantity")
    if order_type is OrderType.ICEBERG and not display:
        _bad("bad_display_quantity", "an iceberg shows part of its quantity: give display_quantity", "display_quantity")
    if display and order_type is not OrderType.ICEBERG:
        _bad("unexpected_field", "display_quantity goes with order_type ICEBERG", "display_quantity")


def _check_names(order: OrderInput) -> None:
    for field in ("strategy", "trader", "desk", "client", "algo", "parent_order_id", "account", "client_order_id"):
        value = getattr(order, field)
        if value and (len(value) > TEXT_MAX or not value.isprintable()):
            _bad("bad_text", f"{field} has at most {TEXT_MAX} printable characters", field)
    if order.account and ("/" in order.account or order.account.strip(". ") != order.account):
        _bad("bad_text", "account has no slash, and no dot or space at its ends: it is part of paths", "account")
