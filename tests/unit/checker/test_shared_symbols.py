"""The check of symbols that processes share finds what it is there to find."""

from typing import Any

import pytest
from tests.shared_symbols import check_halt, check_handovers, check_orders


def event(seq: int, kind: str, **data: Any) -> dict[str, Any]:
    return {"seq": seq, "type": kind, "data": data}


def accepted(seq: int, order: str, instrument: str = "A") -> dict[str, Any]:
    spec = {"strategy": "maker", "client_order_id": order, "instrument": instrument}
    return event(seq, "OrderAccepted", order_id=f"o-{order}", spec=spec)


def decided(order: str) -> dict[str, Any]:
    return event(0, "OrderDecided", number=int(order.rpartition("-")[2]), spec={"client_order_id": order})


FIRST, SECOND = accepted(0, "maker-0"), accepted(2, "maker.1-0")
LOGS = {"maker": [decided("maker-0")], "maker.1": [decided("maker.1-0")]}


def test_who_takes_a_symbol_when_the_last_order_is_over_may() -> None:
    over = event(1, "OrderCanceled", order_id="o-maker-0")
    assert check_handovers([FIRST, over, SECOND], "maker") == {"A": ["maker", "maker.1"]}


@pytest.mark.parametrize("between", [[], [event(1, "OrderFilled", order_id="o-maker-0", leaves_qty="1")]])
def test_who_takes_it_before_is_found(between: list[dict[str, Any]]) -> None:
    with pytest.raises(AssertionError, match=r"A is traded by maker.1 at 2"):
        check_handovers([FIRST, *between, SECOND], "maker")


def test_each_decision_has_one_answer() -> None:
    check_orders([FIRST, SECOND], LOGS, "maker")
    refused = [decided("maker-1"), event(0, "DecisionRefused", number=1)]
    check_orders([FIRST, SECOND], {**LOGS, "maker": [*LOGS["maker"], *refused]}, "maker")


@pytest.mark.parametrize(
    ("orders", "why"),
    [
        ([FIRST, SECOND, SECOND], "an order was doubled"),
        ([FIRST], "decided and never seen"),
        ([FIRST, SECOND, accepted(3, "maker-7")], "seen and never decided"),
    ],
)
def test_an_order_that_is_doubled_lost_or_nobodys_is_found(orders: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        check_orders(orders, LOGS, "maker")


def test_an_order_after_the_halt_is_found_and_a_late_halt() -> None:
    fill = event(1, "OrderFilled", order_id="o-maker-0", strategy="maker", leaves_qty="0")
    halt = event(2, "Killed", scope="strategy:maker")
    check_halt([FIRST, fill, halt], "maker")
    with pytest.raises(AssertionError, match="accepted after the halt"):
        check_halt([FIRST, fill, halt, accepted(3, "maker-1")], "maker")
    with pytest.raises(AssertionError):
        check_halt([FIRST, fill, accepted(2, "maker-1"), event(3, "Killed", scope="strategy:maker")], "maker")
