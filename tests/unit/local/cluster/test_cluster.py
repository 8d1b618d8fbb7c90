"""Up, down and in between: what is checked first, what is waited for, and what is never touched."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trade2026.local.cluster import cluster, health, machine_state, prerequisites
from trade2026.local.cluster.place import ClusterError, Place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place on a machine that can do everything, and changes nothing outside the directory."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(prerequisites, "require", lambda: None)
    monkeypatch.setattr(cluster, "programs", lambda report: programs)
    monkeypatch.setattr(machine_state, "make_cgroups", lambda name: None)
    monkeypatch.setattr(machine_state, "remember_settings", lambda file: None)
    monkeypatch.setattr(machine_state, "remove_cgroups", lambda name: [])
    return Place(tmp_path / "state")


@pytest.fixture
def first_process(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Stands for the cluster's first process: one that sleeps, and is known by its number."""
    known: list[int] = []

    def command(_: Place) -> list[str]:
        mark = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
        return [sys.executable, "-c", mark, str(place.state / "started")]

    def pid(_: Place) -> int | None:
        started = place.state / "started"
        if not started.exists() or not (text := started.read_text()):
            return None
        known[:] = [int(text)]
        return known[0] if Path(f"/proc/{text}").exists() else None

    monkeypatch.setattr(cluster, "init_command", command)
    monkeypatch.setattr(Place, "pid", pid)
    yield known
    for left in known:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, left, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # it is still a child of ours
            os.kill(left, signal.SIGKILL)


def test_the_cluster_lives_in_namespaces_of_its_own_and_ends_with_its_first_process() -> None:
    words = cluster.init_command(Place(Path("/state")))
    assert {"--net", "--mount", "--pid", "--kill-child"} <= set(words)
    assert words[-1] == "/state"


def test_it_waits_for_all_parts_and_says_what_it_waits_for(
    place: Place, first_process: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [["kubelet", "the node"], ["the node"], []]
    monkeypatch.setattr(health, "unready", lambda place, pid: answers.pop(0))
    monkeypatch.setattr(cluster, "_REPORT_SECONDS", -1.0)
    heard: list[str] = []
    assert cluster.up(place, heard.append) > 0
    assert answers == []
    assert any("waits for kubelet, the node" in line for line in heard)
    assert (place.state / "kubelet.yaml").exists()
    assert (place.state / "volumes" / "local-00").is_dir()
    assert place.state.stat().st_mode & 0o777 == 0o700
    assert cluster.up(place, heard.append) == 0.0, "up already"
    assert cluster.programs_of(place).name == "programs"
    _reap_when_killed(first_process[0])
    assert cluster.down(place)
    assert not place.state.exists()
    assert not cluster.down(place)


def _reap_when_killed(pid: int) -> None:
    """The process is a child of this test, and not of `unshare`, which would see to it."""
    threading.Thread(target=lambda: os.waitpid(pid, 0), daemon=True).start()


@pytest.mark.usefixtures("first_process")
def test_one_that_is_not_ready_in_time_is_left_for_its_logs(
    place: Place, first_process: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "unready", lambda place, pid: ["the API server"])
    with pytest.raises(ClusterError, match=f"waits for .*: look into {place.logs}"):
        cluster.up(place, print, seconds_max=0.0)
    deadline = time.monotonic() + 60
    while place.pid() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    _reap_when_killed(first_process[0])
    assert cluster.down(place, keep=True)
    assert place.mark.exists()


def test_one_that_ends_while_it_starts_shows_the_end_of_its_log(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "init_command", lambda place: ["sh", "-c", "echo no such thing; exit 1"])
    monkeypatch.setattr(Place, "pid", lambda self: None)
    with pytest.raises(ClusterError, match="ended while it was starting:\nno such thing"):
        cluster.up(place, print)


@pytest.mark.usefixtures("first_process")
def test_a_directory_of_somebody_else_is_neither_used_nor_removed(place: Place) -> None:
    place.state.mkdir()
    (place.state / "thesis.txt").touch()
    with pytest.raises(ClusterError, match="is not empty, and not a cluster's"):
        cluster.up(place, print)
    with pytest.raises(ClusterError, match="is not a cluster's, and stays as it is"):
        cluster.down(place)
    assert (place.state / "thesis.txt").exists()


def test_what_still_runs_is_named_when_it_can_not_be_removed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.state.mkdir()
    place.mark.touch()
    monkeypatch.setattr(machine_state, "remove_cgroups", lambda name: [Path("/sys/fs/cgroup/cpu/ours")])
    with pytest.raises(ClusterError, match="something still runs in them: /sys/fs/cgroup/cpu/ours"):
        cluster.down(place)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "ask",
    [
        lambda place: cluster.run(place, ["true"]),
        lambda place: cluster.load(place, Path("x.tar")),
        lambda place: cluster.kill(place, ["etcd"]),
    ],
)
def test_what_needs_a_cluster_says_how_to_start_one(place: Place, ask: Any) -> None:
    with pytest.raises(ClusterError, match=r"no cluster is up in .*: start it with `trade2026 cluster up`"):
        ask(place)


@pytest.fixture
def running(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A cluster that is up, and is this very process."""
    place.state.mkdir()
    place.mark.write_text('{"programs": "/programs"}')
    monkeypatch.setattr(Place, "pid", lambda self: os.getpid())
    return place


def test_an_unknown_component_is_answered_with_those_that_there_are(running: Place) -> None:
    with pytest.raises(ClusterError, match="there is no component docker: choose of etcd, kube-apiserver"):
        cluster.kill(running, ["etcd", "docker"])


def _write_ctr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "ctr").write_text(f"#!/bin/sh\n{text}\n")
    (tmp_path / "ctr").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_an_image_that_was_imported_is_named(running: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_ctr(tmp_path, monkeypatch, "echo 'unpacking localhost/x:1 (sha256:0)...done'")
    assert cluster.load(running, Path("x.tar")) == ["localhost/x:1"]


def test_what_the_cluster_has_is_known_by_its_digests(
    running: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_ctr(tmp_path, monkeypatch, '[ "$*" = "content ls --quiet" ] && echo sha256:1 && echo sha256:2')
    assert cluster.contents(running) == {"sha256:1", "sha256:2"}


def test_an_archive_that_is_none_is_refused_with_containerds_words(
    running: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_ctr(tmp_path, monkeypatch, "echo 'ctr: no index' >&2; exit 1")
    with pytest.raises(ClusterError, match=r"x\.tar can't be imported: ctr: no index"):
        cluster.load(running, Path("x.tar"))


def test_the_status_of_one_that_is_up_says_what_it_waits_for(running: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "unready", lambda place, pid: ["the node"])
    monkeypatch.setattr(health, "inside", lambda place, pid: {"nodes": []})
    told = cluster.status(running)
    assert (told["up"], told["ready"], told["waits_for"], told["nodes"]) == (True, False, ["the node"], [])


def test_the_status_of_none_is_that_it_is_not_up(place: Place) -> None:
    assert cluster.status(place) == {"up": False, "state": str(place.state)}
