"""What each event is as rows, and that a restart goes on where the rows end."""

from typing import Any

import pytest

from trade2026.domain import events as ev
from trade2026.domain.events import Envelope
from trade2026.domain.market import Bar, Book, Level, Trade
from trade2026.domain.numbers import COST_SCALE, SCALE
from trade2026.domain.orders import OrderSpec, OrderType
from trade2026.questdb_writer.machine import ORDERS, RowMachine, late_row, order_row
from trade2026.stores.timeseries.schema import TABLES, Row, misfit

SYMBOL = "BTCUSDT.SIM"
NOW = 1_700_000_000 * SCALE


def envelope(seq: int, data: Any) -> Envelope:
    return Envelope(seq, 1, NOW + seq, NOW + seq, "test", "ann", "", "", "", data)


def accepted(order_id: str, quantity: int = 2 * SCALE) -> ev.OrderAccepted:
    spec = OrderSpec(
        client_order_id=f"c-{order_id}",
        account="main",
        instrument=SYMBOL,
        side="BUY",
        order_type=OrderType.LIMIT,
        quantity=quantity,
        price=100 * SCALE,
    )
    return ev.OrderAccepted(order_id=order_id, spec=spec, reserved_price=spec.price)


def filled(order_id: str, cum: int, leaves: int) -> ev.OrderFilled:
    return ev.OrderFilled(
        order_id=order_id,
        exec_id=f"x-{order_id}-{cum}",
        account="main",
        instrument=SYMBOL,
        side="BUY",
        last_qty=SCALE,
        last_px=99 * SCALE,
        cum_qty=cum,
        leaves_qty=leaves,
        cum_cost=cum * 99 * SCALE,
    )


LIFE = (
    accepted("o1"),
    accepted("o2"),
    ev.OrderOpened(order_id="o1", venue_order_id="v1"),
    filled("o1", SCALE, SCALE),
    ev.CancelRequested(order_id="o2"),
    ev.CancelRejected(order_id="o2", reason="unknown"),
    ev.ReplaceRequested(order_id="o1", quantity=3 * SCALE, price=101 * SCALE),
    ev.OrderReplaced(order_id="o1", quantity=3 * SCALE, price=101 * SCALE),
    filled("o1", 3 * SCALE, 0),
    ev.OrderCanceled(order_id="o2", reason="user"),
)


def by_name(table: str, row: Row) -> dict[str, Any]:
    return dict(zip(TABLES[table].names, row, strict=True))


@pytest.mark.parametrize(
    ("topic", "data", "table"),
    [
        ("market.ticks", Trade(SYMBOL, "t-1", SCALE, SCALE, "SELL", 1, NOW, NOW), "ticks"),
        ("market.books", Book(SYMBOL, [], [Level(SCALE, SCALE)]), "quotes"),
        ("market.bars", Bar(SYMBOL, "1m", NOW, NOW, *[SCALE] * 5, COST_SCALE, 1), "bars"),
        (
            "positions",
            ev.PositionChanged(
                account="main", instrument=SYMBOL, quantity=-SCALE, open_cost=-COST_SCALE, realized=0, fees=0,
                order_id="o1", exec_id="x", as_of=3,
            ),
            "positions",
        ),
        (
            "pnl",
            ev.PnlRealized(
                account="main", instrument=SYMBOL, currency="USDT", realized=COST_SCALE, fee=0,
                total_realized=COST_SCALE, total_fees=0, order_id="o1", exec_id="x", as_of=3,
            ),
            "pnl",
        ),
        ("risk.events", ev.AlertRaised(alert_id="a", severity="info", scope="stack", message="m"), "risk_events"),
        ("risk.events", ev.AlertAcknowledged(alert_id="a", by="ann"), "risk_events"),
        ("risk.events", ev.Resumed(scope="stack", reason="over", by="ann"), "risk_events"),
    ],
)  # fmt: skip
def test_an_event_is_a_row_that_fits_its_table(topic: str, data: Any, table: str) -> None:
    [(name, row)] = RowMachine().rows(topic, envelope(7, data))
    assert (name, misfit(TABLES[name], row)) == (table, "")
    assert by_name(table, row)["seq"] == 7


def test_a_stop_is_a_row_where_it_was_asked_for_and_not_again_where_it_was_obeyed() -> None:
    stop = ev.Killed(scope="stack", reason="drill", by="ann")
    assert RowMachine().rows(ORDERS, envelope(0, stop)) == []


def test_an_order_is_one_row_as_it_is_now() -> None:
    machine = RowMachine()
    fills = [row for seq, data in enumerate(LIFE) for row in machine.rows(ORDERS, envelope(seq, data))]
    rows, state = machine.order_rows()
    assert [name for name, _ in fills] == ["fills", "fills"]
    first, second = (by_name("orders", row) for row in rows)
    assert (first["status"], first["cum_qty"], first["avg_px"], first["quantity"]) == (
        "Filled", 3 * SCALE, 99 * SCALE, 3 * SCALE,
    )  # fmt: skip
    assert (second["status"], second["reason"], second["seq"]) == ("Canceled", "user", 9)
    assert all(misfit(TABLES["orders"], row) == "" for row in rows)
    assert set(state.values()) == {None}, "what is closed need not be remembered"
    assert not machine.folds[0].orders


@pytest.mark.parametrize("cut", range(1, len(LIFE)))
def test_a_machine_that_goes_on_from_the_state_makes_the_same_rows(cut: int) -> None:
    kept: dict[str, bytes] = {}
    rows: dict[str, Row] = {}
    machine = RowMachine()
    for seq, data in enumerate(LIFE):
        if seq == cut:
            machine = RowMachine([seq], kept)
        machine.rows(ORDERS, envelope(seq, data))
        changed, state = machine.order_rows()
        rows |= {row[1]: row for row in changed}
        kept = {key: value for key, value in {**kept, **state}.items() if value is not None}
    whole = RowMachine()
    for seq, data in enumerate(LIFE):
        whole.rows(ORDERS, envelope(seq, data))
    assert list(rows.values()) == whole.order_rows()[0]
    assert kept == {}


def test_an_execution_of_an_order_that_has_closed_changes_its_row() -> None:
    machine = RowMachine()
    for seq, data in enumerate(LIFE):
        machine.rows(ORDERS, envelope(seq, data))
    rows, _ = machine.order_rows()
    machine.rows(ORDERS, envelope(len(LIFE), filled("o2", SCALE, 0)))
    assert machine.order_rows() == ([], {})
    row = by_name("orders", late_row(rows[1], machine.late["o2"]))
    assert (row["status"], row["cum_qty"], row["avg_px"]) == ("Canceled", SCALE, 99 * SCALE)


def test_an_order_without_an_execution_has_no_average_price() -> None:
    machine = RowMachine()
    machine.rows(ORDERS, envelope(0, accepted("o1")))
    assert by_name("orders", order_row(machine.changed["o1"]))["avg_px"] is None
