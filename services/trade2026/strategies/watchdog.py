"""Notices a strategy that does not return, and takes its call away from it: one loop must not hold all the others up.

A strategy runs on the thread of the event loop, so while it computes nothing else does. A thread looks what is being
called; a call that has used too much processor time is ended by a signal, whose handler raises `TakesTooLong` in the
strategy's own frame, and only if it is still there. A call that does not end even so (it hangs in foreign code) ends
the process, and the strategy is named in a file, so that the next process does not begin it again.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import msgspec

from trade2026.sdk.hosted import Hosted, TakesTooLong

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
_WAIT_FACTOR = 6
"""A call that waits, and uses no processor, may take so many times longer."""
_HUNG_FACTOR = 3
"""So many times longer after it was to end, the process ends."""
_SIGNAL = signal.SIGUSR1
EXIT_CODE = 70


class Call(NamedTuple):
    """One call of a strategy."""

    hosted: Hosted
    number: int


class Watchdog:
    """Watches the calls of the strategies that live on this thread.

    Args:
        hosted: Every strategy, at this moment.
        seconds_max: Of processor time that one call may use.
        hung: Told the strategy of a call that can't be ended; does not return.
    """

    def __init__(
        self, hosted: Callable[[], Iterable[Hosted]], seconds_max: float, hung: Callable[[Hosted], None]
    ) -> None:
        self._hosted, self._seconds_max, self._hung = hosted, seconds_max, hung
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._before: object = None
        self._to_end: Call | None = None

    def start(self) -> None:
        """Watch from now on. Call it on the thread of the event loop; only the main thread's calls can be ended."""
        if threading.current_thread() is not threading.main_thread():
            log.warning("strategies are not on the main thread: one that does not return is not ended")
            return
        self._before = signal.signal(_SIGNAL, self._end)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more. Idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            signal.signal(_SIGNAL, self._before)  # type: ignore[arg-type]

    def _watch(self) -> None:
        """Time is counted in looks, so that what was stopped (SIGSTOP) or starved as a whole is not held against it."""
        main = threading.main_thread().ident
        assert main is not None
        clock = time.pthread_getcpuclockid(main)
        call: Call | None = None
        asked: Call | None = None
        began, looks, wait_max = 0.0, 0, self._seconds_max * _WAIT_FACTOR
        while not self._stopping.wait(LOOK_SECONDS):
            now = _call_of(self._hosted())
            used = time.clock_gettime(clock)
            if now is None or now != call:
                call, began, looks, wait_max = now, used, 0, self._seconds_max * _WAIT_FACTOR
                continue
            looks += 1
            waited = looks * LOOK_SECONDS
            if used - began > self._seconds_max * (1 + _HUNG_FACTOR) or waited > wait_max * (1 + _HUNG_FACTOR):
                self._hung(now.hosted)
            elif now != asked and (used - began > self._seconds_max or waited > wait_max):
                self._to_end = asked = now  # once: another signal might meet the answer to the first
                signal.pthread_kill(main, _SIGNAL)

    def _end(self, signum: int, frame: FrameType | None) -> None:
        """On the main thread, between two steps of whatever runs there: end the call, if it is still the same."""
        call, self._to_end = self._to_end, None
        if call is not None and call.hosted.calling and call.hosted.calls == call.number:
            raise TakesTooLong(f"{call.hosted.calling} did not return within {self._seconds_max:g} s")


def _call_of(hosted: Iterable[Hosted]) -> Call | None:
    return next((Call(one, one.calls) for one in hosted if one.calling), None)


class Hung(msgspec.Struct):
    """A strategy that could not be ended: its code, and what is said of it."""

    code: str
    reason: str


class HungStrategies:
    """The file that names strategies which ended a process, until their code is another."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Hung]:
        """By name; nothing if there is no file, or none that can be read."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=dict[str, Hung])
        except (OSError, msgspec.MsgspecError):
            return {}

    def end_process(self, name: str, code: str, method: str) -> None:
        """Name a strategy in the file and end this process at once."""
        reason = f"{method} did not return and could not be ended, so all strategies had to begin again; mend its code"
        log.critical("strategy %s: %s", name, reason)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(msgspec.json.encode({**self.read(), name: Hung(code, reason)}))
        finally:
            os._exit(EXIT_CODE)
