"""Where a service is asked that may have several replicas: each answers for all, so one that is there is enough."""

from collections.abc import Sequence


class Addresses:
    """The replicas of a service, one of which is meant.

    Args:
        urls: Base URLs, at least one.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls, self._at = list(urls), 0

    @property
    def url(self) -> str:
        """The base URL of the one that is meant."""
        return self._urls[self._at]

    def move_on(self) -> None:
        """It does not answer: mean the next one."""
        self._at = (self._at + 1) % len(self._urls)
