"""Delta tables in a store of objects, asked so that a store that hangs holds up its questions and nothing else.

The library lets go of the GIL while it opens and writes a table, not while it reads rows and commits of one: a store that
takes a request and does not answer it would stop every thread of this process. So another process asks, one for all
lakes of this one. It starts with the first question, which costs half a second, ends a minute after the last, and is ended
by the kernel where an answer takes too long. A panic of the engine ends no more than it, too.
"""

import atexit
import contextlib
import pickle
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trade2026.stores.delta import DeltaLake
from trade2026.stores.lake import Answer, Commit, LakeError, Selection, TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

ANSWER_SECONDS_MAX = 60
"""Longer than a few requests that are all given up at their ends."""
_IDLE_SECONDS = 60.0

Place = tuple[str, tuple[tuple[str, str], ...], tuple[str, ...], int]
"""What makes a lake: its root, options, names, and the hours that versions are kept."""


class ObjectLake(DeltaLake):
    """See `DeltaLake`; `read`, `latest` and `history` raise `LakeError` where there is no answer in time."""

    def __init__(
        self, root: str, storage_options: Mapping[str, str], *, names: Collection[str] = (), retention_hours: int = 24
    ) -> None:
        super().__init__(root, storage_options, names=names, retention_hours=retention_hours)
        self._place: Place = self.root, tuple(storage_options.items()), tuple(names), retention_hours

    def read(self, spec: TableSpec, wanted: Selection) -> Answer:
        return _apart.ask(self._place, "read", spec, wanted)

    def latest(
        self, spec: TableSpec, by: str, asked: Sequence[tuple[str, int]], equal: Mapping[str, str]
    ) -> list[dict[str, Any] | None]:
        return _apart.ask(self._place, "latest", spec, by, asked, dict(equal)) if asked else []

    def history(self, table: str, limit: int) -> list[Commit]:
        return _apart.ask(self._place, "history", table, limit)

    def _set_properties(self, table: str, opened: "DeltaTable") -> "DeltaTable":
        _apart.ask(self._place, "offsets", table, ())  # which sets them
        return self._open(table)


class _Apart:
    """The process that asks, one question after the other."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        atexit.register(self._give_up)

    def ask(self, place: Place, question: str, *args: Any) -> Any:
        """Call that method of a lake, and return or raise what it does."""
        asked = pickle.dumps((ANSWER_SECONDS_MAX, place, question, args))
        with self._lock:
            answer = self._answer(asked) or self._answer(asked)  # the first may just have ended for want of questions
        if answer is None:
            raise LakeError("what asks the store ends before it has answered")
        well, found = answer
        if not well:
            raise found
        return found

    def _answer(self, asked: bytes) -> tuple[bool, Any] | None:
        """None if the process had just ended for want of questions."""
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError, EOFError, pickle.UnpicklingError):
            process.stdin.write(asked)
            process.stdin.flush()
            return pickle.load(process.stdout)
        code = self._end()
        if code == -signal.SIGALRM:
            raise LakeError(f"the store has not answered for {ANSWER_SECONDS_MAX} s")
        if code:
            raise LakeError(f"what asks the store has ended ({code}); its last words are in this process's log")
        return None

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        return self._process

    def _end(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        return process.wait()

    def _give_up(self) -> None:
        """At the end of this process, which an answer can't matter to."""
        if self._process is not None:
            self._process.kill()
            self._end()


_apart = _Apart()


def _answer_questions() -> None:
    """In the other process: until nobody asks for a while, or whoever asks has ended."""
    lakes: dict[Place, DeltaLake] = {}
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    while select.select([questions], [], [], _IDLE_SECONDS)[0]:
        seconds_max, place, question, args = pickle.load(questions)
        signal.setitimer(signal.ITIMER_REAL, seconds_max)  # the kernel ends us also while the GIL is held
        root, options, names, hours = place
        lake = lakes.setdefault(place, DeltaLake(root, dict(options), names=names, retention_hours=hours))
        try:
            answer = True, getattr(lake, question)(*args)
        except LakeError as error:
            answer = False, error
        signal.setitimer(signal.ITIMER_REAL, 0)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(EOFError, BrokenPipeError):
        _answer_questions()
