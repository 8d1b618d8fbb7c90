"""Whether watches still tell: when each of them was last heard, by the bytes that came, bookmarks among them.

A connection may die without a word, and then nothing is told any more, and nobody misses it: objects drift, and the
operator seems well. The API server sends a bookmark on every watch about once a minute. A watch without one for
longer is opened anew by kopf; one that makes no progress even so is a fault, and the process is started again.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import kopf

from trade2026_operator.kube import Access
from trade2026_operator.lists import Listed, Lists

SILENT_SECONDS_MAX = 240.0
"""Of a watch: bookmarks come once a minute, and it was opened anew in vain three times by then."""


class Progress:
    """When each watch has told something last.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}

    def expect(self, kinds: Iterable[str]) -> None:
        """Watches of these, by plural, are about to be opened: one that never is makes no progress either."""
        self._heard |= dict.fromkeys(kinds, self._clock())

    def heard(self, path: str) -> None:
        """The watch at a path was opened, or has told something, and if it was only a bookmark."""
        self._heard.pop(path.rpartition("/")[2], None)
        self._heard[path] = self._clock()

    def forget(self) -> None:
        """Nothing is watched any more."""
        self._heard.clear()

    @property
    def age(self) -> float:
        """Seconds since the most silent watch was heard; 0 without any."""
        return max((self._clock() - at for at in self._heard.values()), default=0.0)

    @property
    def fault(self) -> str:
        """Which watch makes no progress; empty while all do."""
        silent = min(self._heard, key=self._heard.__getitem__, default="")
        return f"nothing was heard of the watch {silent} for {self.age:.0f} s" if self.age > SILENT_SECONDS_MAX else ""


def session_of(
    access: Access, progress: Progress, listed: Callable[[Listed], None] = lambda listed: None
) -> kopf.AiohttpSession:
    """The way to the API server for kopf, which tells of every watch that it is heard, and of every list what is in it."""
    lists = Lists(listed)

    class Heard(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> "Heard":
            await super().start(connection)
            if self.status == 200 and "watch=true" in urlsplit(str(self.url)).query:
                path = self.url.path
                progress.heard(path)
                self.content = _Told(self.content, lambda: progress.heard(path))  # type: ignore[assignment]
            return self

        async def json(self, **words: Any) -> Any:
            answer, asked = await super().json(**words), urlsplit(str(self.url))
            if self.status == 200 and self.method == "GET" and "watch=true" not in asked.query:
                lists.page(asked.path, answer, is_first="continue=" not in asked.query)
            return answer

    async def signed(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:  # fmt: skip
        request.headers.update(access.headers)  # read each time: a token of a service account changes by the hour
        return await handler(request)

    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=access.tls if access.tls is not None else True),
        response_class=Heard,
        middlewares=[signed],
    )
    return kopf.AiohttpSession(server=access.url, aiohttp_session=session)


class _Told:
    """The content of a response, which tells of every piece that is read."""

    def __init__(self, content: aiohttp.StreamReader, told: Callable[[], None]) -> None:
        self._content, self._told = content, told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """See `StreamReader`."""
        async for piece in self._content.iter_chunked(size):
            self._told()
            yield piece
