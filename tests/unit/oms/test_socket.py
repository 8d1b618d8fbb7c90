"""Order entry over WebSocket: many under way, answers in order, bounded for who does not read."""

import asyncio
from typing import Any

import msgspec
import pytest
from starlette.websockets import WebSocketDisconnect
from tests.waiting import until

from trade2026.kit.http import Problem
from trade2026.kit.identity import LOCAL
from trade2026.oms.socket import REQUESTS_UNDER_WAY_MAX, OrderSocket, WsMessage

DEADLINE = 60


class FakeSocket:
    """What a client sends and gets; `taken` counts the messages that were read."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[Any] = []
        self.news = asyncio.Condition()
        self.reads = asyncio.Event()
        self.reads.set()
        self.taken = 0
        self.scope: dict[str, Any] = {"headers": []}

    def put(self, **request: Any) -> None:
        self.inbox.put_nowait({"type": "websocket.receive", "bytes": msgspec.json.encode(request)})

    def leave(self) -> None:
        self.inbox.put_nowait({"type": "websocket.disconnect"})

    async def receive(self) -> dict[str, Any]:
        message = await self.inbox.get()
        self.taken += 1
        return message

    async def send_text(self, data: str) -> None:
        await self.reads.wait()
        async with self.news:
            self.sent.append(msgspec.json.decode(data))
            self.news.notify_all()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE), self.news:
            await self.news.wait_for(lambda: len(self.sent) >= count)


class Entry(OrderSocket):
    """Answers a request when its gate opens."""

    def __init__(self, socket: FakeSocket) -> None:
        super().__init__(socket, LOCAL, None)  # type: ignore[arg-type]
        self.begun: list[Any] = []
        self.done: list[Any] = []
        self.gates: dict[Any, asyncio.Event] = {}

    def gate(self, identifier: Any) -> asyncio.Event:
        return self.gates.setdefault(identifier, asyncio.Event())

    async def _perform(self, request: WsMessage, body: bytes) -> Any:
        self.begun.append(request.id)
        if request.op == "refuse":
            raise Problem(422, "no", "no")
        if request.op == "break":
            raise ZeroDivisionError
        if request.op == "wait":
            await self.gate(request.id).wait()
        self.done.append(request.id)
        return request.op


async def test_requests_are_begun_as_they_come_and_answered_in_order() -> None:
    socket = FakeSocket()
    entry = Entry(socket)
    running = asyncio.create_task(entry.run())
    socket.put(op="wait", id=1)
    socket.put(op="quick", id="two")
    socket.put(op="refuse", id=3)
    await until(lambda: entry.begun == [1, "two", 3], "they are begun")
    assert socket.sent == []
    entry.gate(1).set()
    await socket.until(3)
    assert [answer["id"] for answer in socket.sent] == [1, "two", 3]
    assert socket.sent[1]["result"] == "quick"
    assert socket.sent[2]["problem"]["code"] == "no"
    socket.leave()
    await running


async def test_who_does_not_read_is_not_read_from() -> None:
    socket = FakeSocket()
    entry = Entry(socket)
    socket.reads.clear()
    running = asyncio.create_task(entry.run())
    for number in range(3 * REQUESTS_UNDER_WAY_MAX):
        socket.put(op="quick", id=number)
    await until(lambda: len(entry.begun) >= REQUESTS_UNDER_WAY_MAX, "they are begun")
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert socket.taken <= REQUESTS_UNDER_WAY_MAX + 2
    socket.reads.set()
    await socket.until(3 * REQUESTS_UNDER_WAY_MAX)
    assert [answer["id"] for answer in socket.sent] == list(range(3 * REQUESTS_UNDER_WAY_MAX))
    socket.leave()
    await running


async def test_what_had_arrived_is_done_when_the_client_leaves() -> None:
    socket = FakeSocket()
    entry = Entry(socket)
    socket.put(op="wait", id=1)
    socket.put(op="quick", id=2)
    socket.leave()
    await entry.run()
    entry.gate(1).set()
    await until(lambda: sorted(entry.done) == [1, 2], "they are begun")


@pytest.mark.parametrize(
    ("raw", "identifier", "code"),
    [
        (b"{", 0, "malformed_json"),
        (b'{"op": "x", "id": 7, "id": 8}', 0, "duplicate_key"),
        (b'{"op": 1, "id": 7}', 7, "bad_field"),
        (b'{"id": "a"}', "a", "missing_field"),
        (b'{"id": [], "op": "x"}', 0, "bad_field"),
    ],
)
async def test_a_broken_message_gets_a_problem_with_the_id_that_can_be_read(
    raw: bytes, identifier: Any, code: str
) -> None:
    socket = FakeSocket()
    socket.inbox.put_nowait({"type": "websocket.receive", "text": raw.decode()})
    running = asyncio.create_task(Entry(socket).run())
    await socket.until(1)
    assert (socket.sent[0]["id"], socket.sent[0]["problem"]["code"]) == (identifier, code)
    socket.leave()
    await running


async def test_a_mistake_of_ours_ends_the_connection() -> None:
    socket = FakeSocket()
    socket.put(op="break", id=1)
    with pytest.raises(ZeroDivisionError):
        await Entry(socket).run()


async def test_a_client_that_is_gone_ends_the_connection() -> None:
    socket = FakeSocket()

    async def receive() -> Any:
        raise WebSocketDisconnect

    socket.receive = receive  # type: ignore[method-assign]
    await asyncio.wait_for(Entry(socket).run(), DEADLINE)
