"""Which processes hang: they listen, and answer nothing, for so long that only a new one can help."""

import time
from collections.abc import Callable

SECONDS_MAX = 60.0
"""An event loop that has not turned for so long does not turn any more; recovery lets it turn."""


class Liveness:
    """Hears whether each process answers, and says when one has been silent for too long.

    Args:
        now: Seconds on a clock that never goes back.
    """

    def __init__(self, seconds_max: float = SECONDS_MAX, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds_max, self._now = seconds_max, now
        self._silent: dict[str, tuple[int, float]] = {}
        """Of each release the process that does not answer, and since when."""

    def is_hung(self, release: str, pid: int | None, answers: bool) -> bool:
        """Take a reading; whether the process is to be ended. A new process begins anew."""
        if answers or pid is None:
            self._silent.pop(release, None)
            return False
        known, since = self._silent.setdefault(release, (pid, self._now()))
        if known != pid:
            self._silent[release] = (pid, self._now())
            return False
        return self._now() - since > self._seconds_max
