"""What a machine lacks, and the command that brings it."""

import os
from pathlib import Path

import pytest

from trade2026.local.cluster import prerequisites
from trade2026.local.cluster.place import ClusterError


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    for name in ("host-local", "loopback", "portmap", "ptp"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_nothing_is_missing_where_every_program_is(plugins: Path) -> None:
    assert prerequisites.missing_packages(lambda name: f"/usr/bin/{name}", plugins) == []


def test_a_package_of_two_missing_programs_is_named_once(plugins: Path, tmp_path: Path) -> None:
    def which(name: str) -> str | None:
        return None if name in ("containerd", "ctr", "nft") else name

    assert prerequisites.missing_packages(which, plugins) == ["containerd", "nftables"]
    assert prerequisites.missing_packages(which, tmp_path / "none")[-1] == "containernetworking-plugins"


@pytest.mark.usefixtures("root")
def test_the_refusal_is_a_command_that_can_be_pasted(plugins: Path) -> None:
    with pytest.raises(ClusterError, match=r"`apt-get install --yes [-a-z ]+ runc nftables` brings them"):
        prerequisites.require(lambda name: None if name in ("runc", "nft") else name, plugins)


def test_nobody_but_root_can_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="needs root: try again with `sudo`"):
        prerequisites.require()
