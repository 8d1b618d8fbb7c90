"""A watch that dies without a word is missed: every piece that comes counts as a word, a bookmark too."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientResponse, ClientSession, web

from trade2026_operator.handlers.progress import SILENT_SECONDS_MAX, Progress, session_of
from trade2026_operator.handlers.watches import CHILDREN, WITH_KEDA, Children, settings
from trade2026_operator.kube import Access
from trade2026_operator.reconcile.objects import STACK_LABEL


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class ApiServer:
    """Answers a watch with what it is told to say, and then says nothing more."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[bytes] = asyncio.Queue()
        self.tokens: list[str] = []
        self.url = ""

    async def watch(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers.get("Authorization", ""))
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(await self.says.get())


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    made, app = ApiServer(), web.Application()
    app.add_routes([web.get("/api/v1/{plural}", made.watch)])
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def opened(session: ClientSession, server: ApiServer, query: str = "watch=true") -> ClientResponse:
    return await session.get(f"{server.url}/api/v1/pods?{query}")


async def test_a_watch_that_says_nothing_any_more_is_a_fault(server: ApiServer) -> None:
    clock = Clock()
    progress = Progress(clock)
    session = session_of(Access(server.url, token="t"), progress).aiohttp_session
    async with session, await opened(session, server) as answer:
        clock.now += SILENT_SECONDS_MAX - 1
        assert (progress.age, progress.fault) == (SILENT_SECONDS_MAX - 1, "")
        pieces = answer.content.iter_chunked(1 << 20)
        await server.says.put(b'{"type": "BOOKMARK"}\n')
        assert await anext(pieces) == b'{"type": "BOOKMARK"}\n'
        assert progress.age == 0
        clock.now += SILENT_SECONDS_MAX + 1
        assert progress.fault == "nothing was heard of the watch /api/v1/pods for 241 s"
        async with await opened(session, server):
            assert progress.fault == "", "it was opened anew"
    assert server.tokens == ["Bearer t", "Bearer t"]


async def test_what_is_no_watch_is_none(server: ApiServer) -> None:
    progress = Progress(Clock())
    session = session_of(Access(server.url), progress).aiohttp_session
    async with session, await opened(session, server, "limit=100"):
        assert progress.age == 0 and not progress._heard
    assert server.tokens == [""]


async def test_a_watch_that_was_never_opened_is_a_fault_until_it_is(server: ApiServer) -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.expect(["pods", "secrets"])
    clock.now += SILENT_SECONDS_MAX + 1
    progress.heard("/api/v1/namespaces/a/pods")
    progress.heard("/api/v1/namespaces/b/pods")
    assert progress.fault == "nothing was heard of the watch secrets for 241 s"
    progress.heard("/api/v1/namespaces/a/secrets")
    assert progress.fault == ""
    progress.forget()
    clock.now += 1_000
    assert progress.fault == ""


@pytest.mark.parametrize(("clusterwide", "children"), [(True, CHILDREN), (False, CHILDREN), (True, WITH_KEDA)])
def test_the_api_server_tells_of_nothing_that_is_no_stacks(clusterwide: bool, children: Children) -> None:
    found = settings(clusterwide=clusterwide, children=children)
    assert len(found.watching.label_selectors) == len(children)
    assert set(found.watching.label_selectors.values()) == {STACK_LABEL}
    assert found.scanning.disabled is not clusterwide


def test_a_watch_is_tried_for_ever_and_never_waits_long() -> None:
    waits = [wait for wait, _ in zip(settings(clusterwide=True).networking.error_backoffs, range(50), strict=False)]
    assert len(waits) == 50 and max(waits) <= 3
