"""Where a service is asked that may have several replicas: each answers for all, so one that is there is enough."""

from collections.abc import Callable

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def reachable(host: str) -> str:
    """Where to ask who listens on this address, on the same machine or in the same pod."""
    return _EVERYWHERE.get(host, host)


class Addresses:
    """The replicas of a service, one of which is meant.

    Args:
        urls: Base URLs of those that run now, the first replica's first.
    """

    def __init__(self, urls: Callable[[], list[str]]) -> None:
        self._urls = urls
        self.url = urls()[0]
        """Base URL of the one that is meant."""

    def move_on(self, failed: str) -> None:
        """It did not answer: mean the one after it, unless another is meant by now."""
        if failed != self.url:
            return
        urls = self._urls()
        self.url = urls[(urls.index(self.url) + 1) % len(urls)] if self.url in urls else urls[0]
