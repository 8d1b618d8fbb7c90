"""Whatever somebody sends over a WebSocket, and however they leave: others trade on, and nothing stays behind.

`WEBSOCKET_EXAMPLES` says how many connections each route gets, `WEBSOCKET_SEED` which ones.
"""

import ctypes
import gc
import json
import logging
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from one_process import ORDER, SECONDS_MAX, OneProcess, read_answer
from websockets.sync.client import connect

EXAMPLES = int(os.environ.get("WEBSOCKET_EXAMPLES", "60"))
SEED = int(os.environ.get("WEBSOCKET_SEED", "0"))
RESIDENT_GROWTH_BYTES_MAX = 128 * 1024 * 1024
ORDER_BYTES_MAX = 16 * 1024
"""Of an order, in all services together: those of 10,000 visits take more than a few connections left behind."""
VISITS_TOGETHER = 100
"""Hypothesis remembers what it has drawn until these are over: hundreds of MB of 2,000, and memory is measured."""
SLOW_READERS_MAX = 16
"""That many connections at a time are open and never read from."""
SEND_SECONDS_MAX = 1.0
"""A service need not read more from who does not read its answers."""
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Visit:
    """One connection: what it sends, whether it reads meanwhile, and how it leaves."""

    sent: tuple[bytes, ...]
    reads: bool
    leaves: str
    """`hangs up` and waits for the end, `breaks off` (a reset), or `stays` and reads nothing."""


def frame(opcode: int, payload: bytes, fin: bool, mask: bytes, reserved: int, lie: int) -> bytes:
    """A frame; `lie` is added to the length that it says it has."""
    size = max(0, len(payload) + lie)
    if size < 126:
        length = bytes([size])
    elif size < 65_536:
        length = bytes([126]) + struct.pack("!H", size)
    else:
        length = bytes([127]) + struct.pack("!Q", size)
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode, (0x80 if mask else 0) | length[0]]) + length[1:]
    if mask.strip(b"\0"):
        payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return head + mask + payload


def well_formed(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A frame as a client should send it; its mask changes nothing."""
    return frame(opcode, payload, fin, b"\0\0\0\0", 0, 0)


# ── what they send ──────────────────────────────────────────────────────────────────────────────────

_WORDS = st.sampled_from(["submit", "batch", "cancel", "amend", "subscribe", "unsubscribe", "steal", "", "\0"])
_VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.floats(allow_nan=False) | _WORDS
_ORDERS = st.dictionaries(st.sampled_from([*ORDER, "account", "tags", "x"]), _VALUES, max_size=3).map(
    lambda wrong: {**ORDER, "account": "fuzz", **wrong}
)
_REQUESTS = st.fixed_dictionaries(
    {"op": _WORDS},
    optional={
        "id": _VALUES,
        "order": _ORDERS,
        "orders": st.lists(_ORDERS, max_size=5),
        "order_id": _VALUES,
        "amend": st.dictionaries(st.sampled_from(["price", "quantity"]), _VALUES),
        "channels": st.lists(st.sampled_from(["trades", "books", "tickers", "x"]), max_size=4),
        "symbols": st.lists(st.sampled_from(["BTCUSDT", "ETHUSDT", "NONE"]), max_size=3),
    },
).map(lambda request: json.dumps(request).encode())
_NESTED = st.integers(1, 5_000).map(lambda depth: b"[" * depth)
_PAYLOADS = _REQUESTS | st.binary(max_size=200) | _NESTED

_REQUEST_FRAMES = _REQUESTS.map(lambda payload: well_formed(TEXT, payload))
_FRAMES = st.builds(
    frame,
    opcode=st.integers(0, 15),
    payload=_PAYLOADS,
    fin=st.booleans(),
    mask=st.sampled_from([b"", b"\0\0\0\0"]) | st.binary(min_size=4, max_size=4),
    reserved=st.sampled_from([0, 0, 0, 1, 2, 4, 7]),
    lie=st.sampled_from([0, 0, 0, 0, -1, 1, 1_000, 2**40]),
)
_PINGS = st.builds(
    lambda payload, count: well_formed(PING, payload) * count, st.binary(max_size=125), st.integers(1, 900)
)
_PONGS = st.builds(
    lambda payload, count: well_formed(PONG, payload) * count, st.binary(max_size=125), st.integers(1, 50)
)
_CLOSES = st.builds(
    lambda code, reason: well_formed(CLOSE, struct.pack("!H", code) + reason),
    st.integers(0, 65_535) | st.sampled_from([1000, 1001, 1005, 1006, 1012, 3000, 4000, 4999]),
    st.binary(max_size=123),
)
_HUGE = st.builds(
    lambda opcode, size: well_formed(opcode, b"x" * size),
    st.sampled_from([TEXT, BINARY]),
    st.integers(60_000, 3_000_000),
)
_CRUMBS = st.builds(
    lambda payload, count: well_formed(TEXT, b"", fin=False) + well_formed(0, payload, fin=False) * count,
    st.binary(max_size=3),
    st.integers(1, 3_000),
)
_PIECES = st.one_of(
    _REQUEST_FRAMES, _REQUEST_FRAMES, _FRAMES, _FRAMES, st.binary(max_size=64), _PINGS, _PONGS, _CLOSES, _HUGE, _CRUMBS
)


@st.composite
def _visits(draw: Any) -> Visit:
    pieces = draw(st.lists(_PIECES, max_size=6))
    if pieces and draw(st.booleans()):
        cut = draw(st.integers(0, len(pieces[-1])))
        pieces[-1] = pieces[-1][:cut]
    return Visit(
        tuple(pieces), draw(st.booleans()), draw(st.sampled_from(["hangs up", "hangs up", "breaks off", "stays"]))
    )


# ── how they are received ───────────────────────────────────────────────────────────────────────────


class Others:
    """Somebody who trades meanwhile, over a WebSocket too."""

    def __init__(self, stack: OneProcess) -> None:
        url = f"ws://127.0.0.1:{stack.settings.ports['oms']}/ws/orders"
        self._leaving = ExitStack()
        self._ws = self._leaving.enter_context(connect(url, open_timeout=SECONDS_MAX))
        self.order_ids: list[str] = []

    def trade(self) -> None:
        """Place an order, and cancel the one before: not a market of orders that stay."""
        number = len(self.order_ids)
        if self.order_ids:
            assert self._ask({"op": "cancel", "id": f"cancel {number}", "order_id": self.order_ids[-1]})["order_id"]
        order = {**ORDER, "price": "30000", "account": "others", "client_order_id": f"others-{number}"}
        self.order_ids.append(self._ask({"op": "submit", "id": number, "order": order})["order_id"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self._ws.send(json.dumps(request))
        answer = json.loads(self._ws.recv(timeout=SECONDS_MAX))
        assert answer["id"] == request["id"], answer
        return answer["result"]

    def close(self) -> None:
        self._leaving.close()


@contextmanager
def joined(stack: OneProcess, service: str, path: str) -> Iterator[socket.socket]:
    """A connection after the handshake, with little room for what is not read."""
    with closing(stack.connect(service)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert read_answer(connection).status == 101
        yield connection


def pay_visit(stack: OneProcess, service: str, path: str, visit: Visit, staying: list[ExitStack]) -> None:
    """Send all of it, and leave; whoever stays is let go of once others have stayed after them."""
    with ExitStack() as opened:
        connection = opened.enter_context(joined(stack, service, path))
        connection.settimeout(SEND_SECONDS_MAX)
        with suppress(TimeoutError, ConnectionError):
            for piece in visit.sent:
                connection.sendall(piece)
                if visit.reads:
                    connection.setblocking(False)
                    with suppress(BlockingIOError):
                        connection.recv(65_536)
                    connection.settimeout(SEND_SECONDS_MAX)
        match visit.leaves:
            case "hangs up":
                wait_for_the_end(connection)
            case "breaks off":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case _:
                staying.append(opened.pop_all())
                if len(staying) > SLOW_READERS_MAX:
                    staying.pop(0).close()


def wait_for_the_end(connection: socket.socket) -> None:
    """Who hangs up is hung up on, in good time."""
    connection.settimeout(SECONDS_MAX)
    with suppress(ConnectionError, OSError):
        connection.shutdown(socket.SHUT_WR)
    with suppress(ConnectionError):
        while connection.recv(65_536):
            pass


def test_no_visitor_harms_others_or_stays_behind(stack: OneProcess, caplog: pytest.LogCaptureFixture) -> None:
    routes = [(service, socket.path) for service, app in stack.apps.items() for socket in app.sockets]
    assert len(routes) >= 3
    others = Others(stack)
    staying: list[ExitStack] = []
    before = resident_bytes()

    for number, (service, path) in enumerate(routes):
        for first in range(0, EXAMPLES, VISITS_TOGETHER):
            seed_of_these = SEED + 1_000_000 * number + first
            receive_visits(stack, service, path, min(VISITS_TOGETHER, EXAMPLES - first), seed_of_these, others, staying)
        assert stack.call(service, "GET", "/readyz").status == 200
    for stayed in staying:
        stayed.close()
    others.close()
    for service, path in routes:
        if "listeners" in stack.call(service, "GET", "/stats").json:
            stack.wait_until(
                lambda service=service: not stack.call(service, "GET", "/stats").json["listeners"],
                f"nobody is thought to listen to {service}{path}",
            )
    grown = resident_bytes() - before
    orders = sum(type(event.data).__name__ == "OrderAccepted" for event in stack.events())
    allowed = RESIDENT_GROWTH_BYTES_MAX + orders * ORDER_BYTES_MAX
    assert grown < allowed, f"memory grew by {grown / 1e6:.0f} MB with {orders} orders"
    check_the_log(stack, others)
    records = [record for record in caplog.records if record.name.startswith("trade2026")]
    errors = [record.getMessage() for record in records if record.levelno >= logging.ERROR]
    assert not errors, errors[:3]


def resident_bytes() -> int:
    """Memory of this process, and so of the stack in it, without what is free already."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss


def receive_visits(
    stack: OneProcess,
    service: str,
    path: str,
    count: int,
    seed_of_these: int,
    others: Others,
    staying: list[ExitStack],
) -> None:
    """Some visits of a route; others trade after each."""

    @seed(seed_of_these)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(visit=_visits())
    def visits(visit: Visit) -> None:
        pay_visit(stack, service, path, visit, staying)
        others.trade()

    visits()


def check_the_log(stack: OneProcess, others: Others) -> None:
    """It has no gap, and of the others exactly what they sent."""
    events = stack.events()
    assert [event.seq for event in events] == list(range(len(events)))
    specs = {event.data.order_id: event.data.spec for event in events if hasattr(event.data, "spec")}
    theirs = {order_id: spec for order_id, spec in specs.items() if spec.account == "others"}
    assert list(theirs) == others.order_ids
    assert [spec.client_order_id for spec in theirs.values()] == [f"others-{n}" for n in range(len(theirs))]
