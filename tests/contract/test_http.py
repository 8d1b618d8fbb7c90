"""One contract for both ways through the web server: answered by the connection itself, or through ASGI."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn

from trade2026.kit.access import Access
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.identity import Keyring, new_key
from trade2026.kit.owner import Overloaded, Unavailable
from trade2026.kit.process import listen, web_server

DEADLINE = 60
HOST = b"Host: localhost\r\n"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class House:
    """An app with a route for every case, and what its handlers have seen."""

    def __init__(self, access: Access | None = None) -> None:
        self.ready = ""
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.entered = asyncio.Event()
        self.app = App("house", version="1", access=access, gate=lambda: self.ready)
        route = self.app.route

        async def echo(request: Request) -> Response:
            return json_response({"json": request.json(), "query": request.query, "by": request.principal.name})

        async def wait(request: Request) -> Response:
            self.entered.set()
            await self.gate
            return json_response("waited")

        async def fail(request: Request) -> Response:
            match request.query["how"]:
                case "overloaded":
                    raise Overloaded("full")
                case "unavailable":
                    raise Unavailable("away")
                case "problem":
                    raise Problem(409, "taken", "take another", field="name", retry_after=2)
                case "sleep":
                    await asyncio.sleep(0)
                case "header":
                    return Response(b"", headers=[(b"x-bad", b"one\r\ntwo: 2")])
            raise ZeroDivisionError

        for name, inline in (("", False), ("/inline", True)):
            route("POST", f"{name}/echo", role="trader", inline=inline, query={"a": "", "b": ""})(echo)
            route("GET", f"{name}/wait", role=None, inline=inline)(wait)
            route("GET", f"{name}/fail", role=None, inline=inline, query={"how": ""})(fail)

        @route("GET", "/hello", role=None, needs_ready=False)
        async def hello(request: Request) -> Response:
            return Response(b"hello", content_type="text/plain", headers=[(b"x-mark", b"1")])

        @route("GET", "/large", role=None)
        async def large(request: Request) -> Response:
            return Response(b"x" * 1_000_000, content_type="text/plain")

        @route("POST", "/long", role="trader", body_bytes_max=200_000)
        async def long(request: Request) -> Response:
            return json_response(len(request.body))

        @route("GET", "/things/{name}", role=None)
        async def thing(request: Request) -> Response:
            return json_response(request.params["name"])

        @route("GET", "/things/{name}/size", role=None)
        async def size(request: Request) -> Response:
            return json_response([request.params["name"]])


class Client:
    """Bytes out, answers in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = b"" if head_only else await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(lines[0].split(" ")[1]), headers, body

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        await self.send(data)
        return await self.answer()

    async def ended(self) -> bool:
        return await self.reader.read(1) == b""


class Served:
    """A house that listens."""

    def __init__(self, house: House, server: uvicorn.Server, port: int) -> None:
        self.house, self.server, self.port = house, server, port
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client


@contextlib.asynccontextmanager
async def serving(way: str, access: Access | None = None, **settings: Any) -> AsyncIterator[Served]:
    house = House(access)
    if way == "asgi":
        house.app.plain.clear()
    listener = listen("127.0.0.1", 0, "house")
    server = web_server(house.app, **{"timeout_graceful_shutdown": DEADLINE, **settings})
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    async with asyncio.timeout(DEADLINE):
        await server.startup(sockets=[listener])
        await server.on_tick(0)  # sets the headers that every answer has
        served = Served(house, server, listener.getsockname()[1])
        try:
            yield served
        finally:
            if not house.gate.done():
                house.gate.set_result(None)
            for client in served.clients:
                client.writer.close()
            for each in server.servers:  # at once: a graceful end takes a while, and one test is about it
                each.close()
            while server.server_state.connections or server.server_state.tasks:
                await asyncio.sleep(0.001)


@pytest.fixture(params=["connection", "asgi"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with serving(request.param) as found:
        yield found


def get(path: str, *headers: str, version: str = "1.1", method: str = "GET") -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"{method} {path} HTTP/{version}\r\n".encode() + HOST + lines.encode() + b"\r\n"


def post(path: str, body: bytes = b"{}", *headers: str) -> bytes:
    return get(path, f"Content-Length: {len(body)}", *headers, method="POST") + body


async def test_an_answer_has_status_headers_and_body(served: Served) -> None:
    client = await served.connect()
    status, headers, body = await client.ask(get("/hello"))
    assert (status, body) == (200, b"hello")
    assert re.fullmatch(r"\w{3}, .* gmt", headers.pop("date"))
    assert headers == {"content-type": "text/plain", "content-length": "5", "x-mark": "1"}


@pytest.mark.parametrize("path", ["/echo", "/inline/echo"])
async def test_a_body_and_a_query_reach_the_handler(served: Served, path: str) -> None:
    client = await served.connect()
    for number in range(3):
        status, headers, body = await client.ask(post(f"{path}?a=1&b=%20x&a={number}", b'{"n": %d}' % number))
        assert status == 200
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == {"json": {"n": number}, "query": {"a": str(number), "b": " x"}, "by": "local"}


@pytest.mark.parametrize("path", ["/echo", "/inline/echo"])
async def test_a_parameter_that_is_not_declared_is_refused(served: Served, path: str) -> None:
    client = await served.connect()
    for query, advice in (("c=1", "known here: a, b"), ("a=1&A=2", "did you mean 'a'?")):
        status, _, body = await client.ask(post(f"{path}?{query}", b"{}"))
        assert (status, json.loads(body)["code"]) == (422, "unknown_parameter")
        assert advice in json.loads(body)["detail"]


async def test_a_request_may_come_in_any_pieces(served: Served) -> None:
    client = await served.connect()
    request = post("/inline/echo", b'{"n": 1}', "Content-Type: application/json")
    for size in (1, 7, len(request) - 3):
        for begin in range(0, len(request), size):
            await client.send(request[begin : begin + size])
            await asyncio.sleep(0)
        assert (await client.answer())[0] == 200


async def test_a_chunked_body_is_read(served: Served) -> None:
    client = await served.connect()
    head = get("/echo", "Transfer-Encoding: chunked", method="POST")
    assert (await client.ask(head + b'3\r\n{"a\r\n4\r\n": 1\r\n1\r\n}\r\n0\r\n\r\n'))[0] == 200


async def test_who_expects_to_be_asked_for_the_body_is_asked(served: Served) -> None:
    client = await served.connect()
    await client.send(get("/echo", "Content-Length: 2", "Expect: 100-continue", method="POST"))
    assert (await client.answer())[0] == 100
    assert (await client.ask(b"{}"))[0] == 200


async def test_head_has_the_headers_of_get_and_no_body(served: Served) -> None:
    client = await served.connect()
    await client.send(get("/hello", method="HEAD") + get("/hello"))
    status, headers, _ = await client.answer(head_only=True)
    assert (status, headers["content-length"]) == (200, "5")
    assert (await client.answer())[2] == b"hello"


@pytest.mark.parametrize("request_", [get("/hello", "Connection: close"), get("/hello", version="1.0")])
async def test_a_connection_that_shall_not_be_kept_is_closed(served: Served, request_: bytes) -> None:
    client = await served.connect()
    status, headers, body = await client.ask(request_)
    assert (status, headers["connection"], body) == (200, "close", b"hello")
    assert await client.ended()


@pytest.mark.parametrize("prefix", ["", "/inline"])
async def test_pipelined_requests_are_answered_in_order(served: Served, prefix: str) -> None:
    client = await served.connect()
    await client.send(get("/hello") + get(f"{prefix}/wait") + get("/hello") + get("/things/a") + post("/echo"))
    assert (await client.answer())[2] == b"hello"
    await served.house.entered.wait()
    served.house.gate.set_result(None)
    assert (await client.answer())[2] == b'"waited"'
    assert (await client.answer())[2] == b"hello"
    assert (await client.answer())[2] == b'"a"'
    assert json.loads((await client.answer())[2])["json"] == {}
    assert (await client.ask(get("/hello")))[2] == b"hello"


async def test_who_pipelines_and_reads_late_gets_every_answer(served: Served) -> None:
    client = await served.connect()
    await client.send(get("/large") * 40)
    await client.send(get("/hello"))
    for _ in range(40):
        assert len((await client.answer())[2]) == 1_000_000
    assert (await client.answer())[2] == b"hello"


@pytest.mark.parametrize("path", ["/fail", "/inline/fail"])
@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ("overloaded", 429, "overloaded"),
        ("unavailable", 503, "unavailable"),
        ("problem", 409, "taken"),
        ("other", 500, "internal_error"),
    ],
)
async def test_a_failure_is_a_problem_document(served: Served, path: str, how: str, status: int, code: str) -> None:
    client = await served.connect()
    found, headers, body = await client.ask(get(f"{path}?how={how}"))
    assert (found, headers["content-type"], json.loads(body)["code"]) == (status, "application/problem+json", code)
    assert headers.get("retry-after") == {"overloaded": "1", "unavailable": "1", "problem": "2"}.get(how)
    assert (await client.ask(get("/hello")))[0] == 200


async def test_a_header_that_would_split_the_answer_is_never_sent(served: Served) -> None:
    client = await served.connect()
    status, headers, _ = await client.ask(get("/inline/fail?how=header"))
    assert status == 500
    assert "two" not in headers


async def test_a_handler_without_a_task_that_awaits_no_future_fails_in_words() -> None:
    async with serving("connection") as served:
        client = await served.connect()
        status, _, body = await client.ask(get("/inline/fail?how=sleep"))
        assert (status, json.loads(body)["code"]) == (500, "internal_error")
        assert (await client.ask(get("/hello")))[0] == 200


async def test_a_service_that_is_not_ready_says_why(served: Served) -> None:
    client = await served.connect()
    served.house.ready = "replaying"
    status, headers, body = await client.ask(post("/echo"))
    assert (status, headers["retry-after"], json.loads(body)["detail"]) == (503, "1", "replaying")
    assert (await client.ask(get("/hello")))[0] == 200


@pytest.mark.parametrize("path", ["/nothing", "/hello/", "/%68ello/x"])
async def test_what_is_not_there_is_a_404(served: Served, path: str) -> None:
    status, _, body = await (await served.connect()).ask(get(path))
    assert (status, json.loads(body)["code"]) == (404, "not_found")


async def test_an_escaped_path_finds_its_route(served: Served) -> None:
    assert (await (await served.connect()).ask(get("/%68ello")))[2] == b"hello"


@pytest.mark.parametrize("name", ["a/b", "a/size", "/", "main#1", "ü", "m a i n", "%69", "?", "a%2Fb"])
async def test_a_name_in_a_path_may_be_any_text(served: Served, name: str) -> None:
    client = await served.connect()
    assert json.loads((await client.ask(get(f"/things/{quote(name, safe='')}")))[2]) == name
    assert json.loads((await client.ask(get(f"/things/{quote(name, safe='')}/size")))[2]) == [name]


async def test_a_wrong_method_is_told_the_right_ones(served: Served) -> None:
    status, headers, body = await (await served.connect()).ask(get("/hello", method="DELETE"))
    assert (status, headers["allow"], json.loads(body)["code"]) == (405, "get", "method_not_allowed")


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [("/echo", 64 * 1024 + 1, 413), ("/long", 200_000, 200), ("/long", 200_001, 413), ("/long", 60_000, 200)],
)
async def test_a_body_is_bounded(served: Served, path: str, size: int, status: int) -> None:
    found, _, body = await (await served.connect()).ask(post(path, b" " * size))
    assert found == status
    assert json.loads(body) == size if status == 200 else json.loads(body)["code"] == "body_too_long"


@pytest.mark.parametrize(("size", "parts_read"), [(200_001, 3), (8 * 1024 * 1024 + 1, 0)])
async def test_a_refused_body_is_read_before_the_answer_so_that_the_client_gets_it_unless_it_is_huge(
    size: int, parts_read: int
) -> None:
    parts = [{"type": "http.request", "body": b" ", "more_body": more} for more in (True, True, False)]
    left, sent = list(parts), []

    async def receive() -> dict[str, Any]:
        return left.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append((message, len(parts) - len(left)))

    headers = [
        (b"host", b"127.0.0.1"),
        (b"content-type", b"application/json"),
        (b"content-length", str(size).encode()),
    ]
    scope = {"type": "http", "method": "POST", "path": "/long", "query_string": b"", "headers": headers}
    await House().app(scope, receive, send)
    assert (sent[0][0]["status"], sent[0][1]) == (413, parts_read)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (["Origin: https://evil.example"], "foreign_origin"),
        (["Content-Type: text/plain"], "not_json"),
    ],
)
async def test_what_may_not_come_in_is_refused(served: Served, headers: list[str], code: str) -> None:
    _, _, body = await (await served.connect()).ask(post("/echo", b"{}", *headers))
    assert json.loads(body)["code"] == code


async def test_a_foreign_host_is_refused(served: Served) -> None:
    status, _, _ = await (await served.connect()).ask(b"GET /hello HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert status == 403


@pytest.mark.parametrize(
    "garbage", [b"\x00\x01\x02\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
)
async def test_what_is_no_http_gets_a_400_and_the_end(served: Served, garbage: bytes) -> None:
    client = await served.connect()
    status, headers, body = await client.ask(garbage)
    assert (status, headers["content-type"], json.loads(body)["code"]) == (
        400,
        "application/problem+json",
        "malformed_request",
    )
    assert await client.ended()


@pytest.mark.parametrize("path", ["/wait", "/inline/wait"])
async def test_a_client_that_leaves_harms_nobody(served: Served, path: str) -> None:
    client, other = await served.connect(), await served.connect()
    await client.send(get(path))
    await served.house.entered.wait()
    client.writer.close()
    await client.writer.wait_closed()
    served.house.gate.set_result(None)
    assert (await other.ask(get("/hello")))[0] == 200


async def test_answers_are_counted_and_timed_with_their_trace(served: Served) -> None:
    client = await served.connect()
    await client.ask(get("/hello", f"traceparent: {TRACE}"))
    await client.ask(get("/hello"))
    await client.ask(get("/things/a"))
    await client.ask(get("/inline/fail?how=problem"))
    text = served.house.app.metrics.text()
    assert '_requests_total{method="GET",route="/hello",service="house",status="200"} 2' in text
    assert '_requests_total{method="GET",route="/things/{name}",service="house",status="200"} 1' in text
    assert '_requests_total{method="GET",route="/inline/fail",service="house",status="409"} 1' in text
    assert '_seconds_count{method="GET",route="/hello",service="house"} 2' in text


@pytest.mark.parametrize("way", ["connection", "asgi"])
async def test_a_key_says_who_asks(way: str, tmp_path: Any) -> None:
    clear, entry = new_key("ann", "trader")
    seen, viewer = new_key("bob", "viewer")
    keys = tmp_path / "keys.json"
    keys.write_text(
        json.dumps({"keys": [{"principal": e.principal, "role": e.role, "sha256": e.sha256} for e in (entry, viewer)]})
    )
    async with serving(way, Access(Keyring(str(keys), "0.0.0.0"))) as served:
        client = await served.connect()
        status, headers, _ = await client.ask(post("/inline/echo"))
        assert (status, headers["www-authenticate"]) == (401, "bearer")
        assert (await client.ask(post("/echo", b"{}", "Authorization: Bearer wrong")))[0] == 401
        assert (await client.ask(post("/echo", b"{}", f"Authorization: Bearer {seen}")))[0] == 403
        status, _, body = await client.ask(post("/inline/echo", b"{}", f"Authorization: Bearer {clear}"))
        assert (status, json.loads(body)["by"]) == (200, "ann")


@pytest.mark.parametrize("way", ["connection", "asgi"])
@pytest.mark.parametrize("path", ["/wait", "/inline/wait"])
async def test_a_server_that_stops_answers_what_is_under_way(way: str, path: str) -> None:
    async with serving(way) as served:
        busy, idle = await served.connect(), await served.connect()
        assert (await idle.ask(get("/hello")))[0] == 200
        await busy.send(get(path))
        await served.house.entered.wait()
        stopping = asyncio.create_task(served.server.shutdown())
        assert await idle.ended()
        served.house.gate.set_result(None)
        status, headers, body = await busy.answer()
        assert (status, headers["connection"], body) == (200, "close", b'"waited"')
        assert await busy.ended()
        await stopping


@pytest.mark.parametrize("way", ["connection", "asgi"])
async def test_an_idle_connection_is_closed_but_not_a_waiting_one(way: str) -> None:
    async with serving(way, timeout_keep_alive=0.05) as served:
        idle, busy = await served.connect(), await served.connect()
        await busy.send(get("/hello") + get("/inline/wait"))
        assert (await idle.ask(get("/hello")))[0] == 200
        assert await idle.ended()
        served.house.gate.set_result(None)
        assert (await busy.answer())[2] == b"hello"
        assert (await busy.answer())[2] == b'"waited"'
        assert await busy.ended()


async def test_a_websocket_begins_on_the_same_port(served: Served) -> None:
    from websockets.asyncio.client import connect

    @served.house.app.websocket("/ws")
    async def talk(ws: Any, principal: Any) -> None:
        await ws.send_text(principal.name)

    async with connect(f"ws://localhost:{served.port}/ws") as socket:
        assert await socket.recv() == "local"


def test_a_plain_route_is_one_without_parameters() -> None:
    app = App("house")

    async def handler(request: Request) -> Response:
        return json_response(1)

    app.route("GET", "/a")(handler)
    app.route("GET", "/a/{b}")(handler)
    assert {method: list(routes) for method, routes in app.plain.items()} == {b"GET": [b"/a"]}
