"""A strategy in the shadow is run, and none of its orders is sent; what takes risk away is."""

import asyncio
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from trade2026.domain import events as ev
from trade2026.kit.origin import NOWHERE
from trade2026.strategies.drawdown import HighestProfits
from trade2026.strategies.service import SHADOW_CODE, StrategiesService


def service_with_a_shadow() -> Any:
    """One whose strategy `quiet` is in the shadow."""
    service: Any = object.__new__(StrategiesService)
    service.shadows = frozenset({"quiet"})
    service.sent, service.refused = [], []
    service.entry = SimpleNamespace(send=lambda decision, origin: service.sent.append(decision))
    service.runner = SimpleNamespace(refuse=lambda decision, code, reason: service.refused.append((decision, code)))
    return service


async def test_orders_and_amendments_are_refused_with_a_code_of_their_own_and_cancels_leave() -> None:
    service = service_with_a_shadow()
    amend = ev.AmendDecided(strategy="quiet", number=1, client_order_id="quiet-0", quantity=1)
    cancel = ev.CancelDecided(strategy="quiet", number=2, client_order_id="quiet-0")
    loud = ev.AmendDecided(strategy="loud", number=1, client_order_id="loud-0", quantity=1)
    for decision in (amend, cancel, loud):
        service._send(decision, NOWHERE)
    await asyncio.sleep(0)
    assert service.sent == [cancel, loud] and service.refused == [(amend, SHADOW_CODE)]


def test_a_drawdown_is_from_the_highest_profit_and_from_nothing_at_first() -> None:
    highest = HighestProfits()
    told = [highest.drawdown("maker", Decimal(pnl)) for pnl in (-5, 10, 4, 12)]
    assert told == [5, 0, 6, 0]
    assert highest.drawdown("other", Decimal(-1)) == 1
