"""An event loop without time, threads or I/O: a seed decides who runs next, and the same seed runs the same.

Several processes live in one loop. Each keeps asyncio's promise to itself (first called, first run); between
processes any order may happen. A handle belongs to the process in whose context it was made, so a process can
be killed between any two of its steps, or paused like one that got SIGSTOP: it just gets no more turns.
"""

import asyncio
import contextvars
import heapq
import warnings
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

_STEP_NS_MAX = 20_000
"""A step takes up to this much virtual time."""
_STEPS_PER_TURN_MAX = 6
_EXECUTOR_SECONDS_MAX = 0.05


class SimulationStuck(Exception):
    """Nothing is left to run, or the virtual time is over."""


class Handle:
    """One callback that is to run, in the manner of `asyncio.Handle` and `asyncio.TimerHandle`."""

    __slots__ = ("args", "callback", "context", "is_cancelled", "ns", "process")

    def __init__(
        self,
        process: "Process",
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: contextvars.Context,
        ns: int = 0,
    ) -> None:
        self.process, self.callback, self.args, self.context, self.ns = process, callback, args, context, ns
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.ns / 1e9


class Process:
    """Who owns a part of the handles. `name` is for people."""

    def __init__(self, loop: "SimLoop", name: str) -> None:
        self.loop, self.name = loop, name
        self.queue: deque[Handle] = deque()
        self.alive = True
        self.paused = False
        self.steps = 0
        self.steps_left = -1
        """Until it dies by itself; -1 for never."""
        self.on_death: Callable[[], None] = _nothing
        self._context = contextvars.copy_context()
        self._context.run(PROCESS.set, self)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str = "") -> "asyncio.Task[Any]":
        """Run a coroutine as this process."""
        return self.loop.create_task(coroutine, name=name or None, context=self._context.copy())

    def call_later(self, seconds: float, callback: Callable[..., Any], *args: Any) -> Handle:
        """Call something as this process."""
        return self.loop.call_later(seconds, callback, *args, context=self._context)

    def kill(self) -> None:
        """No step of it ever runs again; whatever waits in its memory is gone."""
        if not self.alive:
            return
        self.alive = False
        self.queue.clear()
        self.loop.refresh(self)
        self.on_death()

    def pause(self, paused: bool) -> None:
        """Take its turns away, or give them back."""
        self.paused = paused
        self.loop.refresh(self)


PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


def _nothing() -> None:
    """Nobody needs to know."""


class SimLoop(asyncio.AbstractEventLoop):
    """Virtual time in nanoseconds, from 0."""

    def __init__(self, rng: Random) -> None:
        self.ns = 0
        self.ns_max = 3_600 * 10**9
        self.failures: list[str] = []
        """Callbacks that raised: nobody else would hear of it."""
        self._rng = rng
        self._timers: list[tuple[int, int, Handle]] = []
        self._count = 0
        self._runnable: list[Process] = []
        self._tasks: list[asyncio.Task[Any]] = []
        """Kept until the end: a task of a killed process must not be finalized, that would run its `finally`."""
        self._closed = False
        self.world = Process(self, "world")

    # ── what asyncio asks of a loop ─────────────────────────────────────────────────────────

    def time(self) -> float:
        return self.ns / 1e9

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None) -> Handle:  # type: ignore[override]
        context = context if context is not None else contextvars.copy_context()
        handle = Handle(context.get(PROCESS, self.world), callback, args, context)
        self._push(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:  # type: ignore[override]
        return self._call_at_ns(self.ns + round(delay * 1e9), callback, args, context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:  # type: ignore[override]
        return self._call_at_ns(round(when * 1e9), callback, args, context)

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> "asyncio.Task[Any]":
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        """The function runs a little later, at once and whole: a thread that nobody sees inside of."""
        future = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_later(self._rng.random() * _EXECUTOR_SECONDS_MAX, run)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A task of its own died and nobody asked; a mere future that nobody asked is nobody's fault."""
        if not self._closed and "task" in context:
            self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    # ── turns ───────────────────────────────────────────────────────────────────────────────

    def run_until_complete(self, future: Any) -> Any:
        """Run a coroutine as the world, everyone else beside it.

        Raises:
            SimulationStuck: it would never end.
        """
        task = self.world.spawn(future)
        asyncio.events._set_running_loop(self)
        try:
            while not task.done():
                self._turn()
        finally:
            asyncio.events._set_running_loop(None)
        return task.result()

    def close(self) -> None:
        """Forget everything, without another step of anyone."""
        self._closed = True
        self._timers.clear()
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if not task.done():
                _drop(task.get_coro())
        self._tasks.clear()

    def refresh(self, process: Process) -> None:
        """A process was paused, resumed or killed."""
        runs = process.alive and not process.paused and bool(process.queue)
        if runs != (process in self._runnable):
            (self._runnable.append if runs else self._runnable.remove)(process)

    def _turn(self) -> None:
        timers = self._timers
        if not self._runnable:
            if not timers:
                raise SimulationStuck("nothing is left to run")
            self.ns = max(self.ns, timers[0][0])
            if self.ns > self.ns_max:
                raise SimulationStuck(f"not done after {self.ns / 1e9:.0f} s of virtual time")
        while timers and timers[0][0] <= self.ns:
            handle = heapq.heappop(timers)[2]
            if not handle.is_cancelled:
                self._push(handle)
        if not self._runnable:
            return
        draw = self._rng.random()
        process = self._runnable[int(draw * len(self._runnable))]
        for _ in range(1 + int(draw * 1_000_003) % _STEPS_PER_TURN_MAX):
            if not process.queue or process.paused:
                return
            self._run(process, process.queue.popleft())
            self.ns += int(draw * 1_000_033) % _STEP_NS_MAX

    def _run(self, process: Process, handle: Handle) -> None:
        if not process.queue:
            self.refresh(process)
        if handle.is_cancelled:
            return
        process.steps += 1
        try:
            handle.context.run(handle.callback, *handle.args)
        except Exception as error:
            self.failures.append(f"{process.name}: {handle.callback!r} raised {error!r}")
        if process.steps_left > 0:
            process.steps_left -= 1
            if not process.steps_left:
                process.kill()

    def _push(self, handle: Handle) -> None:
        process = handle.process
        if not process.alive:
            return
        process.queue.append(handle)
        if len(process.queue) == 1 and not process.paused:
            self._runnable.append(process)

    def _call_at_ns(
        self, ns: int, callback: Callable[..., Any], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> Handle:
        context = context if context is not None else contextvars.copy_context()
        handle = Handle(context.get(PROCESS, self.world), callback, args, context, ns)
        self._count += 1
        heapq.heappush(self._timers, (ns, self._count, handle))
        return handle


def _drop(coroutine: Any) -> None:
    """End a coroutine; what it still wants to wait for, or to begin, it does not get."""
    for _ in range(10):
        try:
            with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of what was never awaited
                coroutine.close()
            return
        except RuntimeError:
            continue  # it awaited in its `finally`
        except Exception:
            return
