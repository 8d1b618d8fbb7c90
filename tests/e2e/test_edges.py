"""Bad input against a running stack: the processes, servers and sockets that a user has."""

import json
import re
import socket
from contextlib import closing

import pytest
from tests.e2e.stack import WAIT_SECONDS, Stack
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

SERVICES = ("oms", "risk", "exeq", "gateway", "normalizer", "ptrc", "pnl", "archive")
ORDER = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "price": "45000", "account": "edges"}
WRONG = {
    "unknown symbol": ({"symbol": "DOGEUSDT"}, "unknown_symbol", "symbol"),
    "negative": ({"quantity": -1}, "not_positive", "quantity"),
    "zero": ({"price": 0}, "not_positive", "price"),
    "NaN": ({"price": "NaN"}, "not_finite", "price"),
    "infinite": ({"price": "-Infinity"}, "not_finite", "price"),
    "huge": ({"quantity": "1e400"}, "too_large", "quantity"),
    "another script's digits": ({"quantity": "١"}, "not_a_number", "quantity"),
    "underscores": ({"quantity": "1_000"}, "not_a_number", "quantity"),
    "wrong type": ({"quantity": True}, "bad_field", "quantity"),
    "a list": ({"price": [1]}, "bad_field", "price"),
    "too many decimals": ({"price": "45000.0000000001"}, "too_many_decimals", "price"),
    "off the tick": ({"price": "45000.001"}, "off_tick", "price"),
    "off the lot": ({"quantity": "0.000001"}, "off_lot", "quantity"),
    "an end of the world": (
        {"time_in_force": "GTD", "expire_at": "9999-12-31T23:59:59-14:00"},
        "bad_time",
        "expire_at",
    ),
    "a field too many": ({"colour": "red"}, "unknown_field", "colour"),
}


@pytest.mark.parametrize(("terms", "code", "field"), WRONG.values(), ids=WRONG)
def test_a_wrong_order_is_refused_with_its_field(
    running_stack: Stack, terms: dict[str, object], code: str, field: str
) -> None:
    answer = running_stack.http("oms").post("/orders", json={**ORDER, **terms})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["field"]) == (code, field)
    assert running_stack.get("oms", "/orders", account="edges")["orders"] == []


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\x16\x03\x01 nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://evil.example\r\n\r\n", 403),
        (b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
        (b"DELETE /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 405),
    ],
)
def test_what_no_client_should_send_is_a_problem_on_every_port(
    running_stack: Stack, service: str, raw: bytes, status: int
) -> None:
    with closing(socket.create_connection(("127.0.0.1", running_stack.port(service)), WAIT_SECONDS)) as connection:
        connection.sendall(raw)
        head, body = read_answer(connection)
    assert head.startswith(b"HTTP/1.1 %d " % status), head
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == status


def read_answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head and the whole body of one answer, in however many pieces they come."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))  # type: ignore[union-attr]
    while len(body) < length:
        body += _more(connection)
    return head, body


def _more(connection: socket.socket) -> bytes:
    piece = connection.recv(65_536)
    assert piece, "the service closed in the middle of its answer"
    return piece


def test_a_megabyte_and_a_body_that_is_too_deep_are_refused(running_stack: Stack) -> None:
    client = running_stack.http("oms")
    headers = {"Content-Type": "application/json"}
    assert client.post("/orders", content=b'"' + b"x" * 1_000_000 + b'"', headers=headers).status_code == 413
    deep = client.post("/orders", content=b"[" * 10_000 + b"]" * 10_000, headers=headers)
    assert deep.json()["code"] == "too_deep"
    twice = client.post("/orders", content=b'{"symbol":"A","symbol":"B"}', headers=headers)
    assert twice.json()["code"] == "duplicate_key"


def test_a_broken_frame_closes_one_socket_and_no_other(running_stack: Stack) -> None:
    url = running_stack.url("oms", "/ws/orders", scheme="ws")
    with connect(url) as other:
        with connect(url) as ws:
            ws.socket.sendall(b"\x85\x80\0\0\0\0")
            with pytest.raises(ConnectionClosed) as caught:
                ws.recv(timeout=WAIT_SECONDS)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1002
        other.send(json.dumps({"op": "cancel", "id": 1, "order_id": "none"}))
        assert json.loads(other.recv(timeout=WAIT_SECONDS))["problem"]["code"] == "unknown_order"
