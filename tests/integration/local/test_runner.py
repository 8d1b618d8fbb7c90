"""The local runner keeps the planner's releases running as processes."""

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import until

from trade2026.domain.events import ManifestTakenBack, decode
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.local import control
from trade2026.local import runner as runner_module
from trade2026.local.deployments import user
from trade2026.local.preparation import RunError, check_ports, prepare
from trade2026.local.runner import Runner
from trade2026.local.state import Held, StateDir
from trade2026.stack.facts import GROUPS

PLANNED = [group for group in GROUPS if group != "strategies"]


def pids(runner: Runner) -> dict[str, int | None]:
    return {name: process.pid for name, process in runner.processes.items()}


async def until_restarted(runner: Runner, name: str, old: int | None) -> None:
    await until(lambda: runner.processes[name].pid not in (None, old), f"{name} is started again")
    assert await runner.wait_ready([name]) == ""


async def test_every_release_runs_and_its_numbers_are_seen(runner: Runner) -> None:
    status = runner.status()
    assert status["ready"]
    assert [release["name"] for release in status["releases"]] == PLANNED
    assert status["releases"][0]["services"][0]["stats"]["orders"] == 3


async def test_a_killed_process_is_started_again_and_that_is_recorded(runner: Runner, state: StateDir) -> None:
    old = pids(runner)
    assert old["venue"] is not None
    os.kill(old["venue"], signal.SIGKILL)
    await until_restarted(runner, "venue", old["venue"])
    release = runner.status()["releases"][1]
    assert (release["restarts"], release["last_exit"]) == (1, -signal.SIGKILL)
    assert '"release": "venue"' in (state.run / "restarts.jsonl").read_text()
    assert {**pids(runner), "venue": 0} == {**old, "venue": 0}


async def test_a_process_that_was_started_again_is_ready_only_once_it_has_said_so_itself(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "PROBE_SECONDS", 2.0)  # so that the old process's word would be believed
    await asyncio.sleep(0.6)
    old = runner.processes["venue"].pid
    assert old is not None
    os.kill(old, signal.SIGKILL)
    await until(lambda: runner.processes["venue"].pid != old, "it has ended")

    def once_ready() -> Any:
        release = runner.status()["releases"][1]
        return release if release["ready"] else None

    release = await until(once_ready, "it is ready")
    assert release["services"][0]["stats"]["pid"] == runner.processes["venue"].pid


async def test_apply_starts_only_the_release_again_whose_settings_changed(
    runner: Runner, state: StateDir, manifest: str, tmp_path: Path
) -> None:
    old = pids(runner)
    answer = await asyncio.to_thread(
        control.ask,
        state,
        "apply",
        manifest=manifest.replace("speed: 1", "speed: 2"),
        base=str(tmp_path),
        timeout_seconds=60,
    )
    assert answer["changed"] == {"venue": ["venues[0].config.speed: 1 -> 2"]}
    assert answer["unchanged"] == [name for name in PLANNED if name != "venue"]
    new = pids(runner)
    assert new["venue"] != old["venue"]
    assert {**new, "venue": 0} == {**old, "venue": 0}
    assert runner.status()["releases"][1]["restarts"] == 0
    assert "speed: 2" in (state.path / "manifest.yaml").read_text()


async def test_apply_of_the_same_manifest_changes_nothing(runner: Runner, manifest: str, tmp_path: Path) -> None:
    old = pids(runner)
    assert (await runner.apply(f"# a remark\n{manifest}", tmp_path))["changed"] == {}
    assert pids(runner) == old


async def test_an_apply_whose_process_does_not_start_is_taken_back(
    runner: Runner, manifest: str, tmp_path: Path
) -> None:
    before = runner.plan
    with pytest.raises(RunError, match=r"taken back: projections does not start(.|\n)*told to fail"):
        await runner.apply(manifest.replace("retention_days: 30", "retention_days: 13"), tmp_path)
    assert runner.plan == before
    assert runner.ready


async def test_what_is_applied_and_taken_back_is_in_the_log(
    runner: Runner, state: StateDir, manifest: str, tmp_path: Path
) -> None:
    changed = manifest.replace("speed: 1", "speed: 2")
    await runner.apply(changed, tmp_path)
    with pytest.raises(RunError, match="taken back"):
        await runner.apply(changed.replace("retention_days: 30", "retention_days: 13"), tmp_path)
    bus = SqliteBus(state.path / "bus", [TopicConfig(name="audit")])

    async def said() -> list[Any]:
        return [decode(record.body).data for record in await bus.read("audit", 0, 0, 100)]

    await until(lambda: _has_four(said), "all of it is written")
    first, second, third, back = await said()
    assert (first.changed, second.changed, third.changed) == (PLANNED, ["venue"], ["projections"])
    assert second.manifest_sha256 == hashlib.sha256(changed.encode()).hexdigest()
    assert (second.config_hash, second.by) == (runner.plan.config_hash, user())
    assert back == ManifestTakenBack(config_hash=second.config_hash, reason=back.reason)
    assert "told to fail" in back.reason
    await bus.close()


async def _has_four(said: Callable[[], Awaitable[list[Any]]]) -> bool:
    return len(await said()) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name: desk", "name: other"), "this is the stack 'desk', the manifest names 'other'"),
        (("tickSize: 1", "tickSize: 0"), "tickSize: must be above zero"),
        (("spec:\n", "spec:\n  version: 9.9.9\n"), "the manifest asks for version 9.9.9"),
    ],
)
async def test_a_manifest_that_can_not_be_applied_touches_nothing(
    runner: Runner, state: StateDir, manifest: str, change: tuple[str, str], message: str
) -> None:
    old = pids(runner)
    with pytest.raises(control.Refused) as caught:
        await asyncio.to_thread(control.ask, state, "apply", manifest=manifest.replace(*change), base=".")
    assert message in str(caught.value)
    assert pids(runner) == old


async def test_status_and_stop_answer_on_the_socket(runner: Runner, state: StateDir, said: list[str]) -> None:
    assert (await asyncio.to_thread(control.ask, state, "status"))["stack"] == "desk"
    await asyncio.to_thread(control.ask, state, "stop")
    await until(lambda: not any(pids(runner).values()), "every process has ended")
    stops = [line for line in said if line.endswith(": stopping")]
    assert stops == [f"{name}: stopping" for name in PLANNED]


async def test_a_second_stack_on_the_same_ports_is_refused_with_the_ports(
    runner: Runner, manifest: str, port_offset: int
) -> None:
    with pytest.raises(RunError, match=rf"(?s){8099 + port_offset} \(oms\).*--port-offset") as refused:
        check_ports(prepare(manifest, port_offset=port_offset))
    assert len(str(refused.value).splitlines()) == 2 + len(PLANNED)  # a line for each process that listens


async def test_who_has_a_port_is_named(port_offset: int, manifest: str) -> None:
    with socket.create_server(("127.0.0.1", 8099 + port_offset)), pytest.raises(RunError) as caught:
        check_ports(prepare(manifest, port_offset=port_offset))
    assert f"\n  process {os.getpid()} (" in str(caught.value)
    assert f" has {8099 + port_offset} (oms)\n" in str(caught.value)


async def test_a_process_that_can_not_be_made_now_is_made_later(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue = runner.processes["venue"]
    command, old = venue._command, venue.pid
    failures = iter([OSError(11, "Resource temporarily unavailable"), None])

    def scarce(settings: Path) -> list[str]:
        if (failure := next(failures, None)) is not None:
            raise failure
        return command(settings)

    monkeypatch.setattr(venue, "_command", scarce)
    assert old is not None
    os.kill(old, signal.SIGKILL)
    await until(lambda: venue.trouble, "it can't be started")
    assert "can't be started: [Errno 11]" in runner.status()["releases"][1]["services"][0]["detail"]
    await until_restarted(runner, "venue", old)
    assert not venue.trouble


async def test_a_full_disk_stops_neither_the_restart_nor_what_runs(
    runner: Runner, manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runner_module, "write_atomically", full)
    monkeypatch.setattr("trade2026.local.process.rotate", full)
    (runner.state.run / "restarts.jsonl").mkdir()  # can't be written either
    old = pids(runner)
    with pytest.raises(RunError, match="settings of venue can't be written: No space left"):
        await runner.apply(manifest.replace("speed: 1", "speed: 2"), tmp_path)
    assert pids(runner) == old
    assert old["venue"] is not None
    os.kill(old["venue"], signal.SIGKILL)
    await until_restarted(runner, "venue", old["venue"])


async def test_a_process_that_died_is_said_to_have_died_and_how(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trade2026.local.process.BACKOFF_SECONDS_MIN", 0.5)
    venue = runner.processes["venue"]
    assert venue.pid is not None
    os.kill(venue.pid, signal.SIGKILL)
    await until(lambda: venue.last_exit is not None, "its end is seen")
    assert runner.status()["releases"][1]["services"][0]["detail"] == "died (killed by SIGKILL)"


async def test_changed_keys_start_every_process_again(runner: Runner, manifest: str, tmp_path: Path) -> None:
    keyed = f"{manifest}  security: {{keysFile: keys.json}}\n"
    with pytest.raises(RunError, match=r"keys\.json can't be read.*trade2026 keys new"):
        await runner.apply(keyed, tmp_path)
    (tmp_path / "keys.json").write_text("none")
    with pytest.raises(RunError, match=r"keys\.json cannot be used"):
        await runner.apply(keyed, tmp_path)
    (tmp_path / "keys.json").write_text('{"keys": []}')
    await runner.apply(keyed, tmp_path)
    assert (await runner.apply(keyed, tmp_path))["changed"] == {}
    (tmp_path / "keys.json").write_text('{"keys":[]}')
    answer = await runner.apply(keyed, tmp_path)
    assert {tuple(lines) for lines in answer["changed"].values()} == {("keys_file: its content changed",)}
    assert answer["unchanged"] == []


@pytest.mark.parametrize("harm", ["taken away", "garbage"])
async def test_settings_that_were_harmed_are_written_anew_before_the_next_start(
    runner: Runner, state: StateDir, harm: str
) -> None:
    settings = state.settings("venue")
    whole, old = settings.read_bytes(), runner.processes["venue"].pid
    settings.unlink() if harm == "taken away" else settings.write_bytes(b"{")
    assert old is not None
    os.kill(old, signal.SIGKILL)
    await until_restarted(runner, "venue", old)
    assert settings.read_bytes() == whole


async def test_what_the_stack_is_found_by_is_made_again(runner: Runner, state: StateDir) -> None:
    for path in (state.socket, state.path / "lock", state.run / "stack.json"):
        path.unlink()

    async def reached() -> bool:
        with contextlib.suppress(control.NotRunning):
            return bool((await asyncio.to_thread(control.ask, state, "status"))["ready"])
        return False

    await until(reached, "it answers again")
    await until(lambda: state.running(), "its ports are known again")
    with pytest.raises(Held, match=f"is in use by process {os.getpid()}"):
        StateDir(state.path).lock()


async def test_who_lost_its_lock_to_another_process_stops(runner: Runner, state: StateDir, said: list[str]) -> None:
    (state.path / "lock").unlink()
    other = StateDir(state.path)
    other.lock()
    await until(lambda: "stopped" in said, "it has stopped")
    assert any("stopping: " in line and "is in use" in line for line in said)
    other.unlock()
