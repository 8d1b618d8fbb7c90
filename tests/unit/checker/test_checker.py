"""The checker must itself see what is wrong: each broken log here has one fault."""

import msgspec
import pytest
from tests.checker import Broken, OrderLog, check_venue, compare_positions, follow_orders, read_partition

from trade2026.domain import events as ev
from trade2026.domain.orders import OrderSpec, OrderType
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import TopicConfig

UNIT = 10**9
SPEC = OrderSpec(
    client_order_id="c0",
    account="main",
    instrument="BTCUSDT.SIM",
    side="BUY",
    order_type=OrderType.LIMIT,
    quantity=10,
    price=5,
)


def accepted(order_id: str = "o0-0", client_order_id: str = "c0") -> ev.OrderAccepted:
    spec = msgspec.structs.replace(SPEC, client_order_id=client_order_id)
    return ev.OrderAccepted(order_id=order_id, spec=spec, reserved_price=5)


def fill(
    exec_id: str = "x0", qty: int = 4, cum: int = 4, leaves: int = 6, cost: int = 20, **terms: object
) -> ev.OrderFilled:
    return ev.OrderFilled(
        order_id="o0-0",
        exec_id=exec_id,
        account="main",
        instrument="BTCUSDT.SIM",
        side="BUY",
        last_qty=qty,
        last_px=5,
        cum_qty=cum,
        leaves_qty=leaves,
        cum_cost=cost,
        **terms,  # type: ignore[arg-type]
    )


def enveloped(*events: ev.AnyEvent) -> list[ev.Envelope]:
    return [ev.Envelope(seq, 1, seq, seq, "desk", "local", "", "", "", event) for seq, event in enumerate(events)]


def test_a_sound_life_has_no_faults() -> None:
    orders, faults = follow_orders(
        enveloped(
            accepted(),
            ev.OrderOpened(order_id="o0-0", report_seq=0),
            fill(report_seq=1),
            fill("x1", 6, 10, 0, 50, report_seq=2),
            accepted("o0-1", "c1"),
            ev.OrderCanceled(order_id="o0-1"),
        )
    )
    assert faults == []
    assert [orders[order_id].closed for order_id in ("o0-0", "o0-1")] == ["Filled", "Canceled"]


@pytest.mark.parametrize(
    "events",
    [
        [accepted(), accepted()],
        [accepted(), accepted("o0-1")],
        [ev.OrderOpened(order_id="o0-0")],
        [accepted(), fill(cum=5)],
        [accepted(), fill(leaves=5)],
        [accepted(), fill(cost=21)],
        [accepted(), fill(), fill(cum=8, leaves=2, cost=40)],
        [accepted(), ev.OrderCanceled(order_id="o0-0"), ev.OrderCanceled(order_id="o0-0")],
        [accepted(), ev.OrderCanceled(order_id="o0-0"), fill()],
        [accepted(), fill(report_seq=3), fill("x1", 2, 6, 4, 30, report_seq=3)],
    ],
    ids=[
        "order_twice",
        "client_order_id_twice",
        "unknown_order",
        "cum_qty",
        "leaves_qty",
        "cum_cost",
        "exec_id_twice",
        "closed_twice",
        "leaves_after_close",
        "report_twice",
    ],
)
def test_a_fault_is_seen(events: list[ev.AnyEvent]) -> None:
    assert follow_orders(enveloped(*events))[1]


async def logged(envelopes: list[ev.Envelope]) -> MemoryBus:
    bus = MemoryBus([TopicConfig(name="orders.events")])
    writer = await bus.claim("orders.events", 0, "test")
    await writer.append([ev.encode(envelope) for envelope in envelopes])
    return bus


async def test_a_partition_in_order_is_read_whole() -> None:
    envelopes = enveloped(accepted(), fill())
    assert await read_partition(await logged(envelopes), "orders.events") == envelopes


@pytest.mark.parametrize("change", [{"seq": 5}, {"epoch": 0}, {"ts_init": -1}])
async def test_a_gap_and_what_falls_are_seen(change: dict[str, int]) -> None:
    first, second = enveloped(accepted(), fill())
    bus = await logged([first, msgspec.structs.replace(second, **change)])
    with pytest.raises(Broken):
        await read_partition(bus, "orders.events")


def position_log() -> OrderLog:
    buy = msgspec.structs.replace(fill(), last_qty=3 * UNIT, last_px=100 * UNIT, fee=UNIT * UNIT)
    sell = msgspec.structs.replace(buy, exec_id="x1", side="SELL", last_qty=UNIT, last_px=110 * UNIT)
    envelopes = enveloped(accepted(), buy, sell)
    return OrderLog(envelopes, {})


def answer(as_of: int = 2, **line: str) -> dict[str, object]:
    shown = {"symbol": "BTCUSDT.SIM", "quantity": "2", "average_price": "100", "realized": "10", "fees": "2"}
    return {"account": "main", "as_of": as_of, "positions": [shown | line]}


def test_positions_that_agree_pass_at_every_point_in_the_log() -> None:
    compare_positions(position_log(), answer())
    compare_positions(position_log(), answer(1, quantity="3", realized="0", fees="1"))
    compare_positions(position_log(), {"account": "main", "as_of": 0, "positions": []})


@pytest.mark.parametrize(
    "wrong",
    [
        {"quantity": "3"},
        {"realized": "10.00000001"},
        {"fees": "2.000000001"},
        {"average_price": "101"},
        {"symbol": "X"},
    ],
)
def test_positions_that_differ_do_not_pass(wrong: dict[str, str]) -> None:
    with pytest.raises(Broken):
        compare_positions(position_log(), answer(**wrong))  # type: ignore[arg-type]


def test_an_answer_from_beyond_the_log_does_not_pass() -> None:
    with pytest.raises(Broken):
        compare_positions(position_log(), answer(3))


PLACED = ev.VenueAccepted(order_id="o0-0", venue_order_id="v0")
EXECUTED = ev.VenueFilled(order_id="o0-0", exec_id="x0", last_qty=4, last_px=5)


def venue_log(*fills: ev.AnyEvent) -> OrderLog:
    envelopes = enveloped(accepted(), ev.OrderOpened(order_id="o0-0", report_seq=0), *fills)
    return OrderLog(envelopes, follow_orders(envelopes)[0])


def test_a_venue_that_reported_what_the_log_tells_passes_also_while_the_log_is_behind() -> None:
    check_venue(venue_log(fill(report_seq=1)), enveloped(PLACED, EXECUTED))
    check_venue(venue_log(), enveloped(PLACED, EXECUTED))
    check_venue(venue_log(fill(report_seq=1)), enveloped(PLACED))


@pytest.mark.parametrize(
    "reports",
    [
        [PLACED, EXECUTED, PLACED],
        [PLACED, EXECUTED, EXECUTED],
        [PLACED, EXECUTED, msgspec.structs.replace(PLACED, order_id="o0-9")],
        [PLACED, PLACED],
        [PLACED, msgspec.structs.replace(EXECUTED, last_px=6)],
        [EXECUTED, EXECUTED],
    ],
    ids=["order_twice", "execution_twice", "unknown_order", "no_execution", "another_price", "execution_not_told"],
)
def test_a_venue_that_disagrees_does_not_pass(reports: list[ev.AnyEvent]) -> None:
    with pytest.raises(Broken):
        check_venue(venue_log(fill(report_seq=1)), enveloped(*reports))
