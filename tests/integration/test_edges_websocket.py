"""WebSockets: what is broken is refused or closed with its code, what is whole is answered in order, nothing is half done."""

import json
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from one_process import ORDER, SECONDS_MAX, OneProcess, read_answer
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@contextmanager
def orders(stack: OneProcess, path: str = "/ws/orders", **options: Any) -> Iterator[ClientConnection]:
    options = {"max_size": None, "open_timeout": SECONDS_MAX, **options}
    with connect(f"ws://127.0.0.1:{stack.settings.ports['oms']}{path}", **options) as ws:
        yield ws


def ask(ws: ClientConnection, message: Any) -> Any:
    ws.send(message if isinstance(message, str | bytes) else json.dumps(message))
    return json.loads(ws.recv(timeout=SECONDS_MAX))


def frame(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    first = (0x80 if fin else 0) | reserved | opcode
    size = len(payload)
    head = bytes([first])
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    return head + (b"\0\0\0\0" if masked else b"") + payload


@contextmanager
def raw(stack: OneProcess, path: str = "/ws/orders", service: str = "oms", extra: str = "") -> Iterator[socket.socket]:
    """A connection after the handshake, for frames made by hand."""
    with closing(stack.connect(service)) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n".encode()
        )
        assert read_answer(connection).status == 101
        yield connection


def close_code(connection: socket.socket) -> int:
    """Of the close frame; 0 if the connection ended without one."""
    data = b""
    while more := connection.recv(65536):
        data += more
    place = data.rfind(b"\x88")
    return struct.unpack("!H", data[place + 2 : place + 4])[0] if place >= 0 else 0


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/ws/nothing", 404, "not_found"),
        ("/orders", 404, "not_found"),
        ("/ws/events?acount=a", 422, "unknown_parameter"),
    ],
)
def test_a_handshake_that_asks_for_what_is_not_there_gets_a_problem(
    stack: OneProcess, path: str, status: int, code: str
) -> None:
    with pytest.raises(InvalidStatus) as refused, orders(stack, path):
        pass
    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body)["code"] == code


SUBMIT = json.dumps({"op": "submit", "id": 1, "order": ORDER}).encode()

BROKEN = {
    "unmasked": (frame(TEXT, SUBMIT, masked=False), {1002}),
    "a reserved opcode": (frame(5, SUBMIT), {1002}),
    "a reserved bit": (frame(TEXT, SUBMIT, reserved=0x20), {1002}),
    "text that is no UTF-8": (frame(TEXT, b'{"op": "\xff"}'), {1007}),
    "a continuation of nothing": (frame(0, SUBMIT), {1002}),
    "a new message inside another": (frame(TEXT, SUBMIT[:9], fin=False) + frame(TEXT, SUBMIT), {1002}),
    "a fragmented ping": (frame(PING, b"x", fin=False), {1002}),
    "a long ping": (frame(PING, b"x" * 126), {1002}),
    "a length without end": (b"\x81\xff" + b"\xff" * 8 + b"\0\0\0\0", {1002, 1009}),
    "two megabytes": (frame(TEXT, b"x" * 2_000_000), {1009}),
    "two megabytes in pieces": (
        frame(TEXT, b"x" * 500_000, fin=False) + frame(0, b"x" * 500_000, fin=False) * 3,
        {1009},
    ),
    "a close code that does not exist": (frame(CLOSE, struct.pack("!H", 999)), {1002}),
    "half a close code": (frame(CLOSE, b"\x03"), {1002}),
    "binary noise": (os.urandom(64) + b"\xff" * 64, {1002, 1009, 0}),
}


@pytest.mark.parametrize(("sent", "codes"), BROKEN.values(), ids=BROKEN)
def test_a_broken_frame_closes_the_socket_with_its_code(stack: OneProcess, sent: bytes, codes: set[int]) -> None:
    before = stack.decisions()
    with raw(stack) as connection:
        try:
            connection.sendall(sent)
        except OSError:
            assert 1009 in codes
        try:
            assert close_code(connection) in codes
        except ConnectionResetError:
            assert 1009 in codes
    assert stack.decisions() == before
    assert stack.call("oms", "GET", "/readyz").status == 200


def test_half_a_frame_orders_nothing(stack: OneProcess) -> None:
    before = stack.decisions()
    whole = frame(TEXT, SUBMIT)
    for size in (1, 2, 5, len(whole) // 2, len(whole) - 1):
        with raw(stack) as connection:
            connection.sendall(whole[:size])
    with raw(stack) as connection:
        connection.sendall(frame(TEXT, SUBMIT[:20], fin=False))
    assert stack.call("oms", "GET", "/orders").status == 200
    assert stack.decisions() == before


def test_a_message_in_pieces_with_a_ping_between_is_one_order(stack: OneProcess) -> None:
    with raw(stack) as connection:
        connection.sendall(frame(TEXT, SUBMIT[:10], fin=False) + frame(PING, b"?"))
        connection.sendall(frame(0, SUBMIT[10:20], fin=False) + frame(0, SUBMIT[20:]))
        received = b""
        while b"order_id" not in received:
            received += connection.recv(65536)
        assert frame(PONG, b"?", masked=False) in received


WRONG: dict[str, tuple[Any, str, str | None]] = {
    "nothing": ("", "malformed_json", None),
    "no JSON": ("submit", "malformed_json", None),
    "noise": (b"\x00\xff\xfe" * 30, "malformed_json", None),
    "a list": ([], "bad_field", None),
    "no operation": ({"id": 7}, "missing_field", "op"),
    "an unknown operation": ({"id": 7, "op": "steal"}, "bad_operation", "op"),
    "an operation without its order": ({"id": 7, "op": "submit"}, "bad_operation", "op"),
    "an unknown field": ({"id": 7, "op": "submit", "ordre": ORDER}, "unknown_field", "ordre"),
    "a wrong id": ({"id": [7], "op": "submit", "order": ORDER}, "bad_field", "id"),
    "a wrong side": ({"id": 7, "op": "submit", "order": {**ORDER, "side": "up"}}, "bad_side", "side"),
    "no number": ({"id": 7, "op": "submit", "order": {**ORDER, "price": "1_000"}}, "not_a_number", "price"),
    "too many decimals": (
        {"id": 7, "op": "submit", "order": {**ORDER, "quantity": "0.0000000001"}},
        "too_many_decimals",
        "quantity",
    ),
    "an unknown order": ({"id": 7, "op": "cancel", "order_id": "none"}, "unknown_order", None),
    "an amendment of nothing": ({"id": 7, "op": "amend", "order_id": "none", "amend": {}}, "unknown_order", None),
    "too many orders": ({"id": 7, "op": "batch", "orders": [ORDER] * 1_001}, "bad_operation", "op"),
    "a key twice": ('{"id": 7, "op": "submit", "op": "batch"}', "duplicate_key", "op"),
    "too deep": ("[" * 40 + "]" * 40, "too_deep", None),
}


def test_a_wrong_request_gets_a_problem_with_its_id_and_the_socket_lives(stack: OneProcess) -> None:
    before = stack.decisions()
    with orders(stack) as ws:
        for what, (message, code, field) in WRONG.items():
            answer = ask(ws, message)
            assert answer["problem"]["code"] == code, f"{what}: {answer}"
            assert answer["problem"].get("field") == field, f"{what}: {answer}"
            if isinstance(message, dict) and message.get("id") == 7:
                assert answer["id"] == 7, what
        assert stack.decisions() == before
        assert ask(ws, {"op": "submit", "id": "last", "order": ORDER})["id"] == "last"


def test_requests_in_a_row_are_answered_in_their_order(stack: OneProcess) -> None:
    with orders(stack) as ws:
        for number in range(300):
            wrong = {"side": "up"} if number % 7 == 0 else {}
            ws.send(json.dumps({"op": "submit", "id": number, "order": {**ORDER, **wrong}}))
        answers = [json.loads(ws.recv(timeout=SECONDS_MAX)) for _ in range(300)]
    assert [answer["id"] for answer in answers] == list(range(300))
    assert [number for number, answer in enumerate(answers) if "problem" in answer] == list(range(0, 300, 7))


def test_a_batch_has_one_answer_for_each_order(stack: OneProcess) -> None:
    batch = [{**ORDER, "price": price} for price in ("30000", "30000.001", "NaN", "-1", "1e400", "30001")]
    with orders(stack) as ws:
        results = ask(ws, {"op": "batch", "id": 1, "orders": batch})["result"]
    codes = [result.get("code", "") for result in results]
    assert codes == ["", "off_tick", "not_finite", "not_positive", "too_large", ""]


def test_whoever_leaves_in_the_middle_of_a_batch_leaves_whole_orders_behind(stack: OneProcess) -> None:
    ids = [f"left-{number}" for number in range(1_000)]
    batch = [{**ORDER, "price": "30000", "client_order_id": name} for name in ids]
    message = frame(TEXT, json.dumps({"op": "batch", "id": 1, "orders": batch}).encode())
    with raw(stack) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(message)
    answers = stack.call("oms", "POST", "/orders/batch", {"orders": batch}).json["results"]
    assert [answer["client_order_id"] for answer in answers] == ids
    accepted = [event.data.spec.client_order_id for event in stack.events() if hasattr(event.data, "spec")]
    assert sorted(name for name in accepted if name.startswith("left-")) == sorted(ids)
    seqs = [event.seq for event in stack.events()]
    assert seqs == list(range(len(seqs)))


def test_a_flood_of_pings_is_not_answered_beyond_what_is_read(stack: OneProcess) -> None:
    pings = frame(PING, b"x" * 125) * 1_000
    sent = 0
    with raw(stack) as connection:
        connection.settimeout(2)
        try:
            while sent < 64 * 1024 * 1024:
                connection.sendall(pings)
                sent += len(pings)
        except TimeoutError:
            pass
        assert sent < 64 * 1024 * 1024, "the service went on reading, so its answers wait in memory"
        connection.settimeout(SECONDS_MAX)
        assert connection.recv(10) == frame(PONG, b"x" * 8, masked=False)[:1] + b"\x7d" + b"x" * 8
    assert stack.call("oms", "POST", "/orders", ORDER).status == 200


def test_a_small_message_that_inflates_is_cut(stack: OneProcess) -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -12)
    bomb = deflate.compress(b'"' + b"a" * 50_000_000) + deflate.flush(zlib.Z_SYNC_FLUSH)
    with raw(stack, extra="Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=12\r\n") as connection:
        connection.sendall(frame(TEXT, bomb[:-4], reserved=0x40))
        assert close_code(connection) == 1009


def test_a_socket_that_is_not_there_or_no_handshake_is_a_problem(stack: OneProcess) -> None:
    with pytest.raises(InvalidStatus) as caught, orders(stack, "/ws/nothing"):
        pass
    assert caught.value.response.status_code in (403, 404)
    upgrade = "GET /ws/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
    for lines in ("", "Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: x\r\n"):
        assert 400 <= stack.send("oms", f"{upgrade}{lines}\r\n".encode()).status < 500
    plain = stack.call("oms", "GET", "/ws/orders")
    assert 400 <= plain.status < 500
    assert plain.headers["content-type"] == "application/problem+json"


def test_the_event_stream_ignores_what_it_is_told_and_names_a_wrong_start(stack: OneProcess) -> None:
    for start in ("x", "-1", "1.5", "9" * 30):
        with orders(stack, f"/ws/events?from={start}") as ws, pytest.raises(ConnectionClosed) as caught:
            ws.recv(timeout=SECONDS_MAX)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008
        assert "from is the seq" in caught.value.rcvd.reason
    with orders(stack, "/ws/events?from=0") as ws:
        for noise in ("hello", b"\xff\x00", "[" * 100):
            ws.send(noise)
        order_id = stack.call("oms", "POST", "/orders", ORDER).json["order_id"]
        seen = 0
        while True:
            event = json.loads(ws.recv(timeout=SECONDS_MAX))
            assert event["seq"] == seen
            seen += 1
            if event["data"].get("order_id") == order_id:
                break


def test_the_market_stream_says_what_is_wrong_and_goes_on(stack: OneProcess) -> None:
    url = f"ws://127.0.0.1:{stack.settings.ports['gateway']}/ws/market"
    with connect(url) as ws:
        for message in (
            "x",
            "{}",
            {"op": "subscribe", "channels": ["gossip"]},
            {"op": "steal", "channels": ["trades"]},
            {"op": "subscribe", "channels": ["trades"], "symbols": ["NONE"]},
            {"op": "subscribe", "channels": "trades"},
            "[" * 1_000,
        ):
            assert "error" in ask(ws, message), message
        assert ask(ws, {"op": "subscribe", "channels": ["trades"]})["op"] == "subscribe"
        assert json.loads(ws.recv(timeout=SECONDS_MAX))["channel"] == "trades"


def test_many_listeners_are_refused_in_words(stack: OneProcess) -> None:
    url = f"ws://127.0.0.1:{stack.settings.ports['oms']}/ws/events"
    with ExitStack() as opened:
        listeners = [opened.enter_context(connect(url)) for _ in range(101)]
        with pytest.raises(ConnectionClosed) as caught:
            listeners[-1].recv(timeout=SECONDS_MAX)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1013
