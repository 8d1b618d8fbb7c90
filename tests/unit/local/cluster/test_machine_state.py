"""What a cluster changes outside its namespaces is put back."""

from pathlib import Path

import pytest

from trade2026.local.cluster import machine_state

NAMES = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("0\n")
    return tmp_path


def test_settings_are_put_back_as_they_were_before_the_first_start(settings: Path) -> None:
    file = settings / "settings.json"
    machine_state.remember_settings(file, settings)
    (settings / NAMES[0]).write_text("1\n")
    machine_state.remember_settings(file, settings)  # a start after a crash
    machine_state.restore_settings(file, settings)
    assert (settings / NAMES[0]).read_text() == "0"
    assert not file.exists()
    machine_state.restore_settings(file, settings)


def test_a_cgroup_is_made_in_every_hierarchy_of_version_1_and_inherits_its_cpus(tmp_path: Path) -> None:
    for name in ("cpu", "cpuset"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1")
    # The kernel makes the files of a new cgroup.
    (tmp_path / "cpuset" / "ours").mkdir()
    (tmp_path / "cpuset" / "ours" / "cpuset.cpus").touch()
    machine_state.make_cgroups("ours", tmp_path)
    assert (tmp_path / "cpu" / "ours").is_dir()
    assert (tmp_path / "cpuset" / "ours" / "cpuset.cpus").read_text() == "0-1"


def test_of_version_2_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    machine_state.make_cgroups("ours", tmp_path)
    assert (tmp_path / "ours").is_dir()
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"


def test_cgroups_are_removed_from_the_leaves_to_the_root(tmp_path: Path) -> None:
    (tmp_path / "cpu" / "ours" / "pods" / "one").mkdir(parents=True)
    (tmp_path / "ours" / "pods").mkdir(parents=True)
    assert machine_state.remove_cgroups("ours", tmp_path) == []
    assert list(tmp_path.rglob("ours")) == []


def test_a_cgroup_that_is_in_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_state, "_EMPTY_SECONDS_MAX", 0)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "held").touch()
    assert machine_state.remove_cgroups("ours", tmp_path) == [tmp_path / "ours"]
