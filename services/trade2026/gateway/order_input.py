"""A paper order as a user writes it, placed directly at the venue."""

from typing import NoReturn

import msgspec

from trade2026.domain.instruments import Instrument, Instruments, UnknownInstrument
from trade2026.domain.numbers import Amount, to_text
from trade2026.domain.orders import OrderSpec, OrderType, TimeInForce
from trade2026.kit.http import Problem

_TEXT_MAX = 64
_TYPES = (OrderType.MARKET, OrderType.LIMIT, OrderType.ICEBERG)
_TIMES = (TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK)


class PaperOrderInput(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One order; amounts are numbers or decimal strings. `client_order_id` makes a repeated request safe."""

    symbol: str
    side: str
    quantity: Amount
    order_type: str | None = None
    price: Amount | None = None
    display_quantity: Amount | None = None
    time_in_force: str = "GTC"
    post_only: bool = False
    account: str | None = None
    client_order_id: str | None = None


def _bad(code: str, detail: str, field: str) -> NoReturn:
    raise Problem(422, code, detail, field=field)


def find_instrument(instruments: Instruments, symbol: str) -> Instrument:
    """Return what a symbol means here, or raise the 404 that lists what is known."""
    try:
        return instruments.resolve(symbol)
    except UnknownInstrument as error:
        raise Problem(404, "unknown_symbol", str(error), field="symbol") from error


def read_order(order: PaperOrderInput, instruments: Instruments, default_account: str, unique: str) -> OrderSpec:
    """Return the order's spec.

    Args:
        unique: Client order id of an order that names none.

    Raises:
        Problem: 422 with the field and what to do.
    """
    instrument = find_instrument(instruments, order.symbol)
    side = order.side.upper()
    if side not in ("BUY", "SELL"):
        _bad("bad_side", f"side is buy or sell, not {order.side[:20]!r}", "side")
    word = order.order_type or ("MARKET" if order.price is None else "LIMIT")
    order_type = next((kind for kind in _TYPES if kind == word.upper()), None)
    if order_type is None:
        _bad("bad_order_type", f"order_type is one of {', '.join(_TYPES)}; others go through the OMS", "order_type")
    tif = next((kind for kind in _TIMES if kind == order.time_in_force.upper()), None)
    if tif is None:
        _bad(
            "bad_time_in_force",
            f"time_in_force is one of {', '.join(_TIMES)}; others go through the OMS",
            "time_in_force",
        )
    if (order.price is None) != (order_type is OrderType.MARKET):
        _bad("bad_price", "a LIMIT or ICEBERG order has a price, a MARKET order has none", "price")
    if (order.display_quantity is None) != (order_type is not OrderType.ICEBERG):
        _bad("bad_display_quantity", "an ICEBERG order, and only that, has a display_quantity", "display_quantity")
    if order.post_only and (order_type is OrderType.MARKET or tif is not TimeInForce.GTC):
        _bad("bad_post_only", "post_only goes with a resting LIMIT or ICEBERG order", "post_only")
    for field in ("account", "client_order_id"):
        text = getattr(order, field)
        if text is not None and (not text or len(text) > _TEXT_MAX or not text.isprintable() or "/" in text):
            _bad("bad_text", f"{field} has 1 to {_TEXT_MAX} printable characters, no slash", field)
    return OrderSpec(
        client_order_id=order.client_order_id or unique,
        account=order.account or default_account,
        instrument=instrument.instrument_id,
        side="BUY" if side == "BUY" else "SELL",
        order_type=order_type,
        quantity=_amount(order.quantity, "quantity", instrument.lot_size),
        price=_amount(order.price, "price", instrument.tick_size) if order.price is not None else 0,
        display_quantity=_amount(order.display_quantity, "display_quantity", instrument.lot_size)
        if order.display_quantity is not None
        else 0,
        time_in_force=tif,
        post_only=order.post_only,
    )


def _amount(value: Amount, field: str, step: int) -> int:
    if value.error is not None:
        _bad(value.error.fault, f"{field}: {value.error}", field)
    if value <= 0 or value % step:
        _bad("bad_amount", f"{field} is a multiple of {to_text(step)} above zero, not {to_text(value)}", field)
    return int(value)
