"""The way of decisions to the order service, when that is slow, gone, full, or says no."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from trade2026.domain import events as ev
from trade2026.domain.numbers import SCALE
from trade2026.domain.orders import OrderSpec, OrderType
from trade2026.kit.addresses import Addresses
from trade2026.kit.origin import NOWHERE, Origin
from trade2026.strategies.order_entry import Answered, OrderEntry

SECONDS_MAX = 60.0


class OrderService:
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answers: list[Callable[[dict[str, Any]], dict[str, Any] | None]] = []
        """How the next requests are answered, in order; None hangs up. Then: yes."""

    async def __call__(self, socket: ServerConnection) -> None:
        async for message in socket:
            request = json.loads(message)
            self.asked.append(request)
            answer = self.answers.pop(0)(request) if self.answers else yes(request)
            if answer is None:
                socket.transport.abort()
                return
            await socket.send(json.dumps({"id": request["id"], **answer}))


def yes(request: dict[str, Any]) -> dict[str, Any]:
    name = request["order"]["client_order_id"] if "order" in request else request["order_id"].removeprefix("o-")
    return {"result": {"client_order_id": name, "order_id": f"o-{name}"}}


def no(status: int, code: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda request: {"problem": {"status": status, "code": code, "detail": f"it says {code}"}}


def hang_up(request: dict[str, Any]) -> None:
    return None


def order(number: int) -> ev.OrderDecided:
    spec = OrderSpec(
        client_order_id=f"mm-{number}",
        account="main",
        instrument="BTCUSDT.SIM",
        side="BUY",
        order_type=OrderType.LIMIT,
        quantity=SCALE,
        price=100 * SCALE,
        strategy="mm",
    )
    return ev.OrderDecided(strategy="mm", number=number, spec=spec)


def cancel(number: int, of: int) -> ev.CancelDecided:
    return ev.CancelDecided(strategy="mm", number=number, client_order_id=f"mm-{of}")


@asynccontextmanager
async def sent(service: OrderService, *decisions: Any, origin: Origin = NOWHERE) -> AsyncIterator[list[Answered]]:
    """Send decisions, and wait until each is answered."""
    answers: list[Answered] = []
    async with serve(service, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        entry = OrderEntry(
            Addresses(lambda: [f"http://127.0.0.1:{port}"]), "", lambda strategy, name: "", answers.append
        )
        for decision in decisions:
            entry.send(decision, origin)
        entry.start()
        async with asyncio.timeout(SECONDS_MAX):
            await entry._idle.wait()
        yield answers
        await entry.stop()


def asked(service: OrderService) -> list[str]:
    """What the order service was asked, in short."""
    return [
        request["order"]["client_order_id"] if request["op"] == "submit" else f"{request['op']} {request['order_id']}"
        for request in service.asked
    ]


async def test_decisions_are_sent_in_order_and_a_cancel_after_its_order_has_an_id() -> None:
    service = OrderService()
    async with sent(service, order(0), order(1), cancel(2, of=0), order(3)) as answers:
        assert asked(service) == ["mm-0", "mm-1", "cancel o-mm-0", "mm-3"]
        assert [answer.decision.number for answer in answers] == [0, 1, 2, 3]
        assert not any(answer.code for answer in answers)


async def test_a_broken_connection_sends_again_what_was_not_answered() -> None:
    service = OrderService()
    service.answers = [yes, hang_up]
    async with sent(service, order(0), order(1), order(2)) as answers:
        assert asked(service)[:2] == ["mm-0", "mm-1"]
        assert asked(service)[-2:] == ["mm-1", "mm-2"]
        assert asked(service).count("mm-0") == 1
        assert [answer.decision.number for answer in answers] == [0, 1, 2]


async def test_later_means_later_and_keeps_the_order() -> None:
    service = OrderService()
    service.answers = [no(503, "not_ready"), no(503, "not_ready"), no(429, "overloaded")]
    async with sent(service, order(0), order(1)) as answers:
        assert asked(service)[-2:] == ["mm-0", "mm-1"]
        assert [(answer.decision.number, answer.code) for answer in answers] == [(0, ""), (1, "")]


async def test_what_is_refused_is_told_with_its_reason_and_the_rest_goes_on() -> None:
    service = OrderService()
    service.answers = [no(422, "off_tick")]
    async with sent(service, order(0), order(1), cancel(2, of=0)) as answers:
        assert [(answer.decision.number, answer.code) for answer in answers] == [
            (0, "off_tick"),
            (1, ""),
            (2, "unknown_order"),
        ]
        assert answers[0].reason == "it says off_tick"


async def test_a_decision_says_which_event_recorded_it_and_its_trace() -> None:
    service, origin = OrderService(), Origin(f"00-{'a' * 32}-{'b' * 16}-01", "strategies.events/0/7")
    async with sent(service, order(0), origin=origin):
        (request,) = service.asked
        assert (request["traceparent"], request["causation_id"]) == origin


async def test_many_decisions_all_arrive_once() -> None:
    service = OrderService()
    async with sent(service, *map(order, range(500))) as answers:
        assert asked(service) == [f"mm-{number}" for number in range(500)]
        assert len(answers) == 500
