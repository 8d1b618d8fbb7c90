"""Runs one stack: writes settings, keeps its processes alive, answers on a Unix socket, stops in order."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import Any

from trade2026.kit.bus.port import BusCorrupt, BusRefused
from trade2026.kit.own_key import own_key
from trade2026.local import brokers, probe, stores
from trade2026.local.deployments import Deployments
from trade2026.local.infra.attendant import Attendant
from trade2026.local.infra.component import InfraError
from trade2026.local.infra.wanted import with_addresses
from trade2026.local.liveness import SECONDS_MAX, Liveness
from trade2026.local.log_place import log_in, log_of
from trade2026.local.ports import holder_of, is_free
from trade2026.local.preparation import (
    HOST,
    RunError,
    check_ports,
    components_of,
    keys_digest,
    prepare,
    require_its_log,
    require_moved_whole,
)
from trade2026.local.process import Command, ReleaseProcess, describe_exit, stats_of, unwell_of
from trade2026.local.state import Held, StateDir, StateError, rotate, tail, write_atomically
from trade2026.local.stops import stops_of, trading
from trade2026.stack.manifest import ManifestError
from trade2026.stack.planner import PlanError, Release, changes

PROBE_SECONDS = 0.5
READY_SECONDS_MAX = 120.0
FAILURES_MAX = 3
"""A release that dies so often without having been ready is reported as failing (and still tried)."""
PREDECESSOR_SECONDS_MAX = 15.0
"""For the processes of a run that was killed before: they notice, and stop by themselves."""
_WITH_INFRA = "; `trade2026 up` with --with-infra starts one here, too (it needs Java)"
_REQUEST_BYTES_MAX = 2 * 1024 * 1024


def serve_command(settings: Path) -> list[str]:
    """The command of one release's process."""
    return [sys.executable, "-m", "trade2026", "serve", "--settings", str(settings)]


class Runner:
    """One stack as processes.

    Args:
        state: Opened and locked by the caller.
        text: The manifest.
        base: Directory against which paths in the manifest are meant.
        say: Told every event worth a line.
        command: How a settings file is served; tests give another.
        with_infra: Start what the manifest asks of others (a Kafka broker, stores) here, too.
    """

    def __init__(
        self,
        state: StateDir,
        text: str,
        *,
        base: Path,
        port_offset: int = 0,
        services: Collection[str] | None = None,
        say: Callable[[str], None] = lambda line: None,
        command: Command = serve_command,
        with_infra: bool = False,
    ) -> None:
        self.state, self._text, self._base = state, text, base
        self._port_offset, self._services, self._say, self._command = port_offset, services, say, command
        self.plan = prepare(text, base=base, port_offset=port_offset, services=services)
        self.processes: dict[str, ReleaseProcess] = {}
        self._liveness = Liveness()
        self._readings: dict[str, dict[str, Any]] = {}
        self._strategies: list[dict[str, Any]] = []
        self._stops: list[dict[str, Any]] | None = None
        self._was_ready = False
        self._changing = asyncio.Lock()
        self._stop = asyncio.Event()
        self._stop_hard = asyncio.Event()
        self._started_at = time.time()
        self._keys = keys_digest(self.plan, base)
        self._server: asyncio.AbstractServer | None = None
        self._ousted = False
        self._deployments = Deployments()
        self._knocking = brokers.Knocking("" if with_infra else _WITH_INFRA)
        self._infra = Attendant(components_of(self.plan, state.path / "infra", port_offset) if with_infra else [], say)

    # ── life ────────────────────────────────────────────────────────────────────────────────

    async def run(self, show: Callable[["Runner"], Coroutine[Any, Any, None]] | None = None) -> None:
        """Start everything, keep it running until `stop` is asked or a signal arrives, then stop everything.

        Args:
            show: A task that draws what happens; cancelled at the end.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.request_stop)
        require_moved_whole(self.state)
        require_its_log(log_in(self.state), self.plan)
        await self._wait_for_predecessor()
        check_ports(self.plan, self._infra.components)
        self._server = await self._listen()
        tasks = [asyncio.create_task(self._watch())]
        if show is not None:
            tasks.append(asyncio.create_task(show(self)))
        try:
            write_atomically(self.state.path / "manifest.yaml", self._text.encode())
            self._write_running()
            await self._infra.start()
            first = self._settings(self.plan.releases[0])
            await self._knocking.until_they_answer(first, stop=self._stop, say=self._say)
            if not self._stop.is_set():
                await self._launch_all()
            await self._stop.wait()
        except (BusCorrupt, BusRefused, InfraError) as error:
            raise RunError(str(error)) from error
        finally:
            self._deployments.stopping()
            await self._deployments.written()
            await self._stop_all()
            await self._deployments.close()
            await self._infra.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._server is not None:
                self._server.close()
            with contextlib.suppress(OSError):
                self.state.socket.unlink()

    async def _wait_for_predecessor(self) -> None:
        """A runner that was killed leaves processes that need a moment to end; they still have our ports."""
        deadline = time.monotonic() + PREDECESSOR_SECONDS_MAX
        said = False
        while time.monotonic() < deadline and not self._stop.is_set():
            ports = [port for release in self.plan.releases for port in self.plan.ports_of(release).values()]
            taken = [port for port in ports if not is_free(HOST, port)]
            holders = [holder for port in taken if (holder := holder_of(port)) is not None]
            ours = [holder for holder in holders if str(self.state.run) in holder.command]
            if not ours:
                return
            if not said:
                self._say(
                    f"waiting for process {', '.join(sorted({str(h.pid) for h in ours}))} of the run before to end"
                )
                said = True
            await asyncio.sleep(PROBE_SECONDS / 5)

    def request_stop(self) -> None:
        """Stop in order; asked a second time, kill what still runs."""
        if self._stop.is_set():
            self._say("stopping at once")
            self._stop_hard.set()
        self._stop.set()

    async def _launch_all(self) -> None:
        self._deployments.start(self._settings(self.plan.releases[0]))
        names = [release.name for release in self.plan.releases]
        self._deployments.applied(self._text, self.plan.config_hash, names)
        for release in self.plan.releases:
            self._write_settings(release)
            await self._launch(release)

    async def _launch(self, release: Release) -> None:
        process = self.processes.get(release.name)
        if process is None:
            path, log = self.state.settings(release.name), self.state.log(release.name)
            process = ReleaseProcess(release.name, path, log, self._command, self._exited)
            self.processes[release.name] = process
        process.failures = 0
        await process.start()
        how = process.trouble or f"started {', '.join(release.services)} (process {process.pid})"
        self._say(f"{release.name}: {how}")

    def _write_settings(self, release: Release) -> None:
        write_atomically(self.state.settings(release.name), json.dumps(self._settings(release), indent=1).encode())

    def _settings(self, release: Release) -> dict[str, Any]:
        settings = {**release.settings, "host": HOST, "state_dir": str(self.state.path)}
        if settings["keys_file"]:
            settings["keys_file"] = str((self._base / settings["keys_file"]).absolute())
        settings["bus"] = brokers.with_files(settings["bus"], self._base)
        settings["stores"] = stores.with_files(settings["stores"], self._base)
        return with_addresses(settings, self._infra.components)

    async def _stop_all(self) -> None:
        async with self._changing:
            for name in self._in_order_of_stop():
                self._say(f"{name}: stopping")
                await self.processes[name].stop(at_once=self._stop_hard)
        self._say("stopped")

    def _in_order_of_stop(self) -> list[str]:
        """What writes stops first, so that what follows folds all of it: as they start."""
        order = [release.name for release in self.plan.releases]
        return sorted(self.processes, key=lambda name: order.index(name) if name in order else -1)

    def _exited(self, process: ReleaseProcess, code: int) -> None:
        self._say(f"{process.name}: died ({describe_exit(code)}), starting it again; see {process.log}")
        record = {
            "ts": time.time(),
            "release": process.name,
            "exit": code,
            "uptime": round(time.monotonic() - process.started_at, 3),
        }
        with contextlib.suppress(OSError), (self.state.run / "restarts.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        release = self.plan.release(process.name)
        if release is not None:  # they may be why it died: somebody has taken them away, or touched them
            with contextlib.suppress(OSError):
                self._write_settings(release)
        if process.failures >= FAILURES_MAX:
            self._say(f"{process.name}: does not start. Its log ends with:\n{tail(process.log)}")

    def _write_running(self) -> None:
        self.state.write_running(
            {
                **log_of(self.plan),
                "stack": self.plan.stack,
                "version": self.plan.version,
                "config_hash": self.plan.config_hash,
                "host": HOST,
                "ports": self.plan.ports,
                "releases": {release.name: list(release.instances) for release in self.plan.releases},
                "runner_pid": os.getpid(),
                "base": str(self._base.absolute()),
            }
        )

    # ── what it sees ────────────────────────────────────────────────────────────────────────

    async def _watch(self) -> None:
        while True:
            await self.look()
            self._rotate_logs()
            await self._keep_reachable()
            if self.ready != self._was_ready and not self._stop.is_set():
                self._was_ready = self.ready
                self._say("all services are ready" if self.ready else "not all services are ready")
            await asyncio.sleep(PROBE_SECONDS if self.ready else PROBE_SECONDS / 5)

    async def _keep_reachable(self) -> None:
        """Put back what others find the stack by: the lock that keeps them out, the socket, the record of ports."""
        try:
            self.state.run.mkdir(mode=0o700, exist_ok=True)
            if not self.state.holds_lock():
                self._say(f"{self.state.path / 'lock'} was taken away and is made again")
                self.state.lock()
            if not self.state.socket.exists():
                self._say(f"{self.state.socket} was taken away and is made again")
                if self._server is not None:
                    self._server.close()
                self._server = await self._listen()
            if not self.state.running():
                self._write_running()
            self._ousted = False
        except Held as error:
            if self._ousted:  # not only for a moment, as who looks whether it is held
                self._say(f"stopping: {error}")
                self._stop.set()
            self._ousted = True
        except OSError:  # a full disk: later
            return

    def _rotate_logs(self) -> None:
        for name in ("runner", *self.processes):
            with contextlib.suppress(OSError):  # a full disk
                rotate(self.state.log(name))

    async def look(self) -> None:
        """Ask every service how it is; what a process said that has died meanwhile does not count."""
        asked = {name: self._pid(release) for release in self.plan.releases for name in release.instances}
        readings = await asyncio.gather(*map(self._ask, asked))
        for (name, pid), reading in zip(asked.items(), readings, strict=True):
            self._readings[name] = {**reading, "pid": pid}
        self._strategies = await self._ask_strategies() if "strategies" in asked else []
        await self._look_for_stops()
        for release in self.plan.releases:
            if release.name not in self.processes:
                continue
            if self._release_ready(release):
                self.processes[release.name].failures = 0
            self._end_if_hung(release)

    def _end_if_hung(self, release: Release) -> None:
        process = self.processes[release.name]
        answers = any(self._reading(release, name)["detail"] != probe.SILENT for name in release.instances)
        if self._liveness.is_hung(release.name, process.pid, answers) and not self._stop.is_set():
            self._say(f"{release.name}: has not answered for {SECONDS_MAX:g} s and is ended, to be started again")
            process.kill()

    async def _ask(self, service: str) -> dict[str, Any]:
        port = self.plan.ports[service]
        (status, body), (stats_status, stats), (_, health) = await asyncio.gather(
            *(probe.get(HOST, port, path) for path in ("/readyz", "/stats", "/health"))
        )
        detail = (
            body if isinstance(body, str) else str(stats_of(body).get("detail") or stats_of(body).get("reason") or "")
        )
        return {
            "name": service,
            "port": port,
            "ready": status == 200,
            "detail": "" if status == 200 else detail,
            "stats": stats_of(stats) if stats_status == 200 else {},
            "unwell": unwell_of(health) if status == 200 else {},
        }

    async def _look_for_stops(self) -> None:
        self._stops = await stops_of(HOST, self.plan.ports["risk"]) if "risk" in self.plan.ports else None

    async def _ask_strategies(self) -> list[dict[str, Any]]:
        """Every strategy in a line, with the key that the strategies themselves use; none while nobody answers."""
        key = own_key()
        status, body = await probe.get(HOST, self.plan.ports["strategies"], "/strategies", key=key)
        return stats_of(body).get("strategies", []) if status == 200 else []

    @property
    def ready(self) -> bool:
        """Whether every planned service answers that it is ready."""
        return all(self._release_ready(release) for release in self.plan.releases)

    def _pid(self, release: Release) -> int | None:
        process = self.processes.get(release.name)
        return process.pid if process is not None else None

    def _release_ready(self, release: Release) -> bool:
        return all(self._reading(release, name)["ready"] for name in release.instances)

    def _reading(self, release: Release, service: str) -> dict[str, Any]:
        """What the service last said, if it was the process that runs now who said it."""
        found, pid = self._readings.get(service), self._pid(release)
        if found is not None and pid is not None and found["pid"] == pid:
            return found
        detail = "starting" if pid is not None else self._why_not_running(release)
        return {"name": service, "port": self.plan.ports[service], "ready": False, "detail": detail, "stats": {}}

    def _why_not_running(self, release: Release) -> str:
        process = self.processes.get(release.name)
        if process is None or (process.last_exit is None and not process.trouble):
            return "not running"
        return process.trouble or f"died ({describe_exit(process.last_exit or 0)})"

    def status(self) -> dict[str, Any]:
        """Everything that a person or a script wants to see."""
        releases = []
        for release in self.plan.releases:
            process = self.processes.get(release.name)
            failing = process is not None and process.failures >= FAILURES_MAX
            releases.append(
                {
                    "name": release.name,
                    "pid": process.pid if process else None,
                    "ready": self._release_ready(release),
                    "failing": failing,
                    "reason": tail(process.log) if failing and process else "",
                    "restarts": process.restarts if process else 0,
                    "last_exit": process.last_exit if process else None,
                    "uptime": round(process.uptime, 1) if process else 0,
                    "config_hash": release.settings["config_hash"],
                    "services": [self._reading(release, name) for name in release.instances],
                }
            )
        return {
            "stack": self.plan.stack,
            "version": self.plan.version,
            "config_hash": self.plan.config_hash,
            "state_dir": str(self.state.path),
            "infra": self._infra.status(),
            "runner_pid": os.getpid(),
            "started": self._started_at,
            "ready": self.ready,
            "stopping": self._stop.is_set(),
            "waits": self._knocking.waits,
            "trading": trading(self._stops),
            "stops": self._stops,
            "releases": releases,
            "strategies": self._strategies,
        }

    async def wait_ready(self, names: Collection[str], seconds: float = READY_SECONDS_MAX) -> str:
        """Wait until these releases are ready; return why not, or nothing."""
        deadline = time.monotonic() + seconds
        while True:
            await self.look()
            waiting = [r for r in self.plan.releases if r.name in names and not self._release_ready(r)]
            if not waiting:
                return ""
            for release in waiting:
                process = self.processes[release.name]
                if process.failures >= FAILURES_MAX:
                    return (
                        f"{release.name} {process.trouble or 'does not start'}. Its log ends with:\n{tail(process.log)}"
                    )
            if time.monotonic() >= deadline or self._stop.is_set():
                details = [f"{s}: {self._reading(r, s)['detail']}" for r in waiting for s in r.instances]
                return f"not ready after {seconds:.0f} s: {'; '.join(details)}"
            await asyncio.sleep(PROBE_SECONDS / 5)

    # ── apply ───────────────────────────────────────────────────────────────────────────────

    async def apply(self, text: str, base: Path) -> dict[str, Any]:
        """Bring what runs to another manifest: start again only what changed, back to the old one if that fails."""
        async with self._changing:
            if self._knocking.waits:
                raise RunError(f"nothing is started yet, so nothing can be changed: {self._knocking.waits}")
            new = prepare(text, base=base, port_offset=self._port_offset, services=self._services)
            if new.stack != self.plan.stack:
                raise RunError(f"this is the stack {self.plan.stack!r}, the manifest names {new.stack!r}")
            require_its_log(log_of(self.plan), new)
            old, old_base = self.plan, self._base
            differences = {
                release.name: changes(before.settings, release.settings)
                for release in new.releases
                if (before := old.release(release.name)) is not None
            }
            keys = keys_digest(new, base)
            if keys != self._keys:
                for lines in differences.values():
                    lines.append("keys_file: its content changed")
            added = [release.name for release in new.releases if old.release(release.name) is None]
            removed = [release.name for release in old.releases if new.release(release.name) is None]
            for name in added:
                differences[name] = ["is new"]
            changed = [name for name, lines in differences.items() if lines]
            answer: dict[str, Any] = {
                "stack": new.stack,
                "config_hash": new.config_hash,
                "changed": {name: differences[name] for name in changed},
                "unchanged": [name for name in differences if name not in changed],
                "removed": removed,
            }
            self._deployments.applied(text, new.config_hash, changed, removed)
            for name in removed:
                await self._remove(name)
            self.plan, self._base = new, base
            for number, name in enumerate(changed, 1):
                if reason := await self._replace(name):
                    self._say(f"going back to the manifest before: {reason}")
                    self._deployments.taken_back(old.config_hash, reason)
                    self.plan, self._base = old, old_base
                    for touched in changed[:number]:
                        await (self._remove(touched) if touched in added else self._replace(touched))
                    for gone in removed:
                        await self._replace(gone)
                    raise RunError(f"the change was taken back: {reason}")
            self._text, self._keys = text, keys
            write_atomically(self.state.path / "manifest.yaml", text.encode())
            self._write_running()
            return answer

    async def _replace(self, name: str) -> str:
        release = self.plan.release(name)
        assert release is not None, name
        try:
            self._write_settings(release)
        except OSError as error:
            return f"the settings of {name} can't be written: {error.strerror}"
        if name in self.processes:
            self._say(f"{name}: starting again with new settings")
            await self.processes[name].stop()
        await self._launch(release)
        return await self.wait_ready([name])

    async def _remove(self, name: str) -> None:
        """End a release that is not planned any more."""
        process = self.processes.pop(name, None)
        if process is not None:
            self._say(f"{name}: stopping, it is not planned any more")
            await process.stop()

    # ── control socket ──────────────────────────────────────────────────────────────────────

    async def _listen(self) -> asyncio.AbstractServer:
        path = self.state.socket
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        server = await asyncio.start_unix_server(self._serve, path, limit=_REQUEST_BYTES_MAX)
        path.chmod(0o600)
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            match request.get("op"):
                case "status":
                    await self._look_for_stops()  # one that was asked for a moment ago is to be seen
                    return {"ok": True, **self.status()}
                case "apply":
                    return {"ok": True, **await self.apply(request["manifest"], Path(request["base"]))}
                case "stop":
                    self.request_stop()
                    return {"ok": True, "stack": self.plan.stack}
                case other:
                    return {"ok": False, "error": f"{other!r} is none of status, apply, stop"}
        except (ManifestError, PlanError, RunError, StateError) as error:
            return {"ok": False, "error": str(error)}
        except OSError as error:
            return {"ok": False, "error": f"the state directory can't be written: {error}"}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return {"ok": False, "error": f"a request can't be read: {error!r}"}


def open_runner_log(state: StateDir) -> int:
    """A file for what a detached runner says."""
    rotate(state.log("runner"))
    return os.open(state.log("runner"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
