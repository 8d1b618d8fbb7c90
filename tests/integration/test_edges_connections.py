"""What is no HTTP, or arrives too slowly or without end, is refused in words, and nothing of it happens."""

import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from one_process import ORDER, SECONDS_MAX, OneProcess, read_answer

from trade2026.kit import bounded

HOST = b"Host: 127.0.0.1\r\n"
JSON = b"Content-Type: application/json\r\n"
BODY = b'{"symbol":"BTCUSDT","side":"buy","quantity":"0.001","price":"45000"}'
GOOD = b"POST /orders HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture(scope="module", autouse=True)
def short_patience() -> Iterator[None]:
    before = bounded.BoundedHttp.arrival_seconds_max
    bounded.BoundedHttp.arrival_seconds_max = 1.0
    yield
    bounded.BoundedHttp.arrival_seconds_max = before


MALFORMED = {
    "nonsense": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50,
    "no version": b"GET /\r\n\r\n",
    "another protocol": b"GET / HTCPCP/1.0\r\n" + HOST + b"\r\n",
    "no method": b" / HTTP/1.1\r\n" + HOST + b"\r\n",
    "an unknown method": b"BREW /orders HTTP/1.1\r\n" + HOST + b"\r\n",
    "a length that is no number": b"POST /orders HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: many\r\n\r\n" + BODY,
    "a negative length": b"POST /orders HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: -1\r\n\r\n" + BODY,
    "two lengths": b"POST /orders HTTP/1.1\r\n"
    + HOST
    + JSON
    + b"Content-Length: 5\r\nContent-Length: 70\r\n\r\n"
    + BODY,
    "a length beyond any": b"POST /orders HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n" + BODY,
    "length and chunks": b"POST /orders HTTP/1.1\r\n"
    + HOST
    + JSON
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk that lies": b"POST /orders HTTP/1.1\r\n"
    + HOST
    + JSON
    + b"Transfer-Encoding: chunked\r\n\r\n5\r\n"
    + BODY
    + b"\r\n0\r\n\r\n",
    "a chunk size that is no number": b"POST /orders HTTP/1.1\r\n"
    + HOST
    + JSON
    + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"
    + BODY,
    "a header without a colon": b"GET / HTTP/1.1\r\n" + HOST + b"Nonsense\r\n\r\n",
    "a header with a zero byte": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
    "a path with raw bytes": b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_http_is_answered_with_a_problem(stack: OneProcess, raw: bytes) -> None:
    before = stack.decisions()
    answer = stack.send("oms", raw)
    assert 400 <= answer.status < 500, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.code in ("malformed_request", "not_found", "body_too_long", "foreign_host"), answer
    assert stack.decisions() == before


def test_a_head_without_end_is_cut(stack: OneProcess) -> None:
    with closing(stack.connect("oms")) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + HOST)
        with suppress(OSError):
            for number in range(2_000):
                connection.sendall(b"X-%d: " % number + b"x" * 1_000 + b"\r\n")
        answer = read_answer(connection)
    assert answer.status == 431, answer
    assert answer.code == "head_too_long"


def test_a_url_without_end_is_cut(stack: OneProcess) -> None:
    with closing(stack.connect("oms")) as connection:
        connection.sendall(b"GET /")
        with suppress(OSError):
            for _ in range(300):
                connection.sendall(b"x" * 10_000)
        assert read_answer(connection).status in (400, 431)


@pytest.mark.parametrize(
    "sent", [GOOD[:20], GOOD[:-30], GOOD[: GOOD.index(b"\r\n\r\n") + 4]], ids=["half a head", "half a body", "no body"]
)
def test_half_a_request_is_given_up_and_nothing_of_it_happens(stack: OneProcess, sent: bytes) -> None:
    before = stack.decisions()
    with closing(stack.connect("oms")) as connection:
        connection.sendall(sent)
        answer = read_answer(connection)
    assert answer.status == 408
    assert answer.code == "request_too_slow"
    assert stack.decisions() == before


def test_a_connection_that_never_speaks_is_closed(stack: OneProcess) -> None:
    with closing(stack.connect("oms")) as connection:
        assert connection.recv(1) == b""


def test_a_slow_request_that_arrives_in_time_is_answered(stack: OneProcess) -> None:
    with closing(stack.connect("oms")) as connection:
        for piece in (GOOD[:30], GOOD[30:-10], GOOD[-10:]):
            connection.sendall(piece)
            time.sleep(0.05)
        assert read_answer(connection).status == 200


def test_whoever_hangs_up_before_the_body_has_ordered_nothing(stack: OneProcess) -> None:
    before = stack.decisions()
    for _ in range(20):
        with closing(stack.connect("oms")) as connection:
            connection.sendall(GOOD[:-5])
    assert stack.call("oms", "GET", "/orders").status == 200
    assert stack.decisions() == before


def test_pipelined_requests_are_answered_in_order(stack: OneProcess) -> None:
    with closing(stack.connect("oms")) as connection:
        connection.sendall(GOOD * 20 + GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = b""
        while more := connection.recv(65536):
            received += more
    ids = [int(part.split(b'"')[0]) for part in received.split(b'"order_id":"o0-')[1:]]
    assert len(ids) == 21
    assert ids == sorted(ids)


def test_garbage_behind_an_order_does_not_take_its_answer_away(stack: OneProcess) -> None:
    for behind in (b"\0\0garbage\r\n\r\n", b"POST /orders HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n"):
        with closing(stack.connect("oms")) as connection:
            connection.sendall(GOOD + behind)
            answer = read_answer(connection)
            assert answer.status == 200, answer
            assert connection.recv(65536) == b""
        order = stack.call("oms", "GET", f"/orders/{answer.json['order_id']}")
        assert order.status == 200


def test_an_endless_body_is_refused_before_it_fills_memory(stack: OneProcess) -> None:
    head = b"POST /orders HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    with closing(stack.connect("oms")) as connection:
        connection.sendall(head)
        deadline = time.monotonic() + SECONDS_MAX
        with suppress(OSError):
            for _ in range(200):
                connection.sendall(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                assert time.monotonic() < deadline
        answer = read_answer(connection)
    assert answer.status in (413, 0), answer


def test_many_half_open_connections_do_not_stop_others(stack: OneProcess) -> None:
    waiting = [stack.connect("oms") for _ in range(200)]
    try:
        for connection in waiting:
            connection.sendall(GOOD[:10])
        assert stack.call("oms", "POST", "/orders", ORDER).status == 200
    finally:
        for connection in waiting:
            connection.close()


def test_two_hosts_or_none_are_no_way_in(stack: OneProcess) -> None:
    for lines in (b"", b"Host: evil.example\r\nHost: 127.0.0.1\r\n", b"Host: 127.0.0.1\r\nHost: evil.example\r\n"):
        answer = stack.send("oms", b"GET /orders HTTP/1.1\r\n" + lines + b"Connection: close\r\n\r\n")
        assert answer.status in (400, 403), (lines, answer)
        assert answer.headers["content-type"] == "application/problem+json"
