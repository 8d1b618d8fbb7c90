"""Where a cluster keeps what, and which process is its first."""

import os
from pathlib import Path

import pytest

from trade2026.local.cluster.place import PATH_BYTES_MAX, ClusterError, Place, default_state


def test_there_is_one_cluster_a_user_unless_a_variable_names_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRADE2026_CLUSTER_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    assert default_state() == Path("/elsewhere/trade2026/cluster")
    monkeypatch.setenv("TRADE2026_CLUSTER_DIR", "/named")
    assert default_state() == Path("/named")
    assert Place.at(None).state == Path("/named")
    assert Place.at(Path("/chosen")).state == Path("/chosen")


def test_a_path_that_is_too_long_for_sockets_is_refused_with_its_bound() -> None:
    assert Place.at(Path("/") / ("x" * (PATH_BYTES_MAX - 1)))
    with pytest.raises(ClusterError, match="at most 80 bytes"):
        Place.at(Path("/") / ("x" * PATH_BYTES_MAX))


def test_clusters_in_two_directories_share_no_cgroup() -> None:
    assert Place(Path("/a")).cgroup == Place(Path("/a")).cgroup != Place(Path("/b")).cgroup


def test_a_directory_that_no_process_names_has_no_cluster(tmp_path: Path) -> None:
    assert Place(tmp_path).pid() is None


def test_a_command_finds_the_clusters_programs_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    found = Place(Path("/state")).environment(Path("/programs"))
    assert found["PATH"] == f"/programs{os.pathsep}/usr/bin"
    assert found["KUBECONFIG"] == "/state/admin.conf"
    assert found["CONTAINERD_ADDRESS"] == "/state/run/containerd.sock"
