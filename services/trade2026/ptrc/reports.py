"""Transaction reports: one row per execution, with the fields of MiFID II RTS 22 that we know."""

import csv
import io
from collections.abc import Iterable

import msgspec

from trade2026.domain.events import Envelope, OrderFilled
from trade2026.domain.instruments import Instrument
from trade2026.domain.numbers import cost_of, cost_to_nanos, to_text
from trade2026.kit.views import time_text

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Transaction(msgspec.Struct, frozen=True):
    """One execution. Amounts are decimal text; buyer and seller are our account or the venue."""

    report_status: str
    transaction_reference_number: str
    trading_venue_transaction_id: str
    executing_entity: str
    buyer: str
    seller: str
    trading_date_time: str
    trading_capacity: str
    quantity: str
    price: str
    price_currency: str
    price_multiplier: str
    net_amount: str
    fee: str
    venue: str
    instrument_id: str
    investment_decision_within_firm: str
    execution_within_firm: str
    client: str
    desk: str
    order_id: str
    client_order_id: str
    event_id: str


def transaction(
    envelope: Envelope, tenant: str, instruments: dict[str, Instrument], partition: int = 0
) -> Transaction | None:
    """Report an event; None when it is no execution."""
    fill = envelope.data
    if not isinstance(fill, OrderFilled):
        return None
    instrument = instruments.get(fill.instrument)
    venue = fill.instrument.rpartition(".")[2]
    sides = (fill.account, venue) if fill.side == "BUY" else (venue, fill.account)
    return Transaction(
        report_status="NEWT",
        transaction_reference_number=f"{tenant}-{partition}-{envelope.seq}"
        if partition
        else f"{tenant}-{envelope.seq}",
        trading_venue_transaction_id=fill.exec_id,
        executing_entity=tenant,
        buyer=sides[0],
        seller=sides[1],
        trading_date_time=time_text(envelope.ts_event),
        trading_capacity="DEAL",
        quantity=to_text(fill.last_qty),
        price=to_text(fill.last_px),
        price_currency=instrument.quote if instrument is not None else "",
        price_multiplier=to_text(fill.multiplier),
        net_amount=to_text(cost_to_nanos(cost_of(fill.last_px, fill.last_qty, fill.multiplier))),
        fee=to_text(cost_to_nanos(fill.fee)),
        venue=venue,
        instrument_id=fill.instrument,
        investment_decision_within_firm=fill.strategy or fill.trader,
        execution_within_firm=fill.trader or fill.strategy,
        client=fill.client,
        desk=fill.desk,
        order_id=fill.order_id,
        client_order_id=fill.client_order_id,
        event_id=f"orders.events/{partition}/{envelope.seq}",
    )


def as_csv(rows: Iterable[Transaction]) -> bytes:
    """The rows with a header line; text that a spreadsheet would run as a formula is quoted with `'`."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    names = Transaction.__struct_fields__
    writer.writerow(names)
    for row in rows:
        writer.writerow([_inert(getattr(row, name)) if name not in _NUMBERS else getattr(row, name) for name in names])
    return out.getvalue().encode()


_NUMBERS = frozenset({"quantity", "price", "price_multiplier", "net_amount", "fee"})


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
