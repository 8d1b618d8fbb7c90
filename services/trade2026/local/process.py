"""One release as a process: started, watched, started again when it dies, stopped in order."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trade2026.local.state import rotate

BACKOFF_SECONDS_MIN = 0.2
BACKOFF_SECONDS_MAX = 5.0
HEALTHY_AFTER_SECONDS = 30.0
"""A process that lived this long starts again at once when it dies."""
STOP_SECONDS_MAX = 12.0

Command = Callable[[Path], list[str]]
"""From a settings file to the command that serves it."""


class ReleaseProcess:
    """Keeps one release running until it is told to stop.

    Args:
        on_exit: Called with the exit code each time the process dies by itself.
    """

    def __init__(
        self, name: str, settings: Path, log: Path, command: Command, on_exit: Callable[["ReleaseProcess", int], None]
    ) -> None:
        self.name, self.settings, self.log = name, settings, log
        self.restarts = 0
        self.failures = 0
        """Deaths in a row without ever having been ready."""
        self.last_exit: int | None = None
        self.trouble = ""
        """Why no process could be made the last time; empty when one was."""
        self.started_at = 0.0
        self._command, self._on_exit = command, on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._stop_now = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Of the process while it lives."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def uptime(self) -> float:
        """Seconds since the process was started; 0 while there is none."""
        return time.monotonic() - self.started_at if self.pid is not None else 0.0

    async def start(self) -> None:
        """Start the process and keep it running; `trouble` says if there is none yet."""
        self._stopping = False
        self._stop_now.clear()
        await self._try_to_spawn()
        self._task = asyncio.create_task(self._keep(), name=f"keep-{self.name}")

    async def stop(self, *, at_once: asyncio.Event | None = None) -> None:
        """Ask the process to end; kill it after `STOP_SECONDS_MAX`, or as soon as `at_once` is set. Idempotent."""
        self._stopping = True
        self._stop_now.set()
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            waits = [asyncio.create_task(process.wait())]
            if at_once is not None:
                waits.append(asyncio.create_task(at_once.wait()))
            await asyncio.wait(waits, timeout=STOP_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            for wait in waits:
                wait.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def kill(self) -> None:
        """End the process at once, as if it had died: it is started again."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _spawn(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: it goes on growing
            rotate(self.log)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(self.settings),
                stdin=asyncio.subprocess.PIPE,  # held open: the process ends when we do, however we do
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "TRADE2026_PARENT_PIPE": "1"},
            )
        self.started_at = time.monotonic()

    async def _try_to_spawn(self) -> None:
        try:
            await self._spawn()
            self.trouble = ""
        except OSError as error:  # no process, file or room is left; there may be later
            self._process, self.trouble = None, f"can't be started: {error}"

    async def _keep(self) -> None:
        backoff = BACKOFF_SECONDS_MIN
        while True:
            code = await self._process.wait() if self._process is not None else None
            if self._stopping:
                return
            if self._process is not None and time.monotonic() - self.started_at >= HEALTHY_AFTER_SECONDS:
                backoff = BACKOFF_SECONDS_MIN
            self.failures += 1
            if code is not None:
                self.last_exit = code
                self._on_exit(self, code)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_now.wait(), backoff)
            if self._stopping:
                return
            backoff = min(backoff * 2, BACKOFF_SECONDS_MAX)
            self.restarts += 1
            await self._try_to_spawn()


def describe_exit(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def stats_of(body: Any) -> dict[str, Any]:
    """A service's numbers; empty where it answered something else."""
    return body if isinstance(body, dict) else {}


def unwell_of(body: Any) -> dict[str, str]:
    """The checks of a `/health` answer that failed, with their reasons; `ready` is told elsewhere."""
    checks = stats_of(stats_of(body).get("checks"))
    failed = {name: stats_of(check) for name, check in checks.items() if stats_of(check).get("status") != "ok"}
    return {name: str(check.get("detail", "")) for name, check in failed.items() if name != "ready"}
