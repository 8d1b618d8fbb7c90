"""The programs are built once for each state of their sources, and a failure says what to do."""

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trade2026.local.cluster import binaries
from trade2026.local.cluster.place import ClusterError

GO = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
for word; do case $word in */programs/) out=$word;; esac; done
for name in hyperkube coredns helm pause; do echo program > "$out$name"; done
echo 'go: downloading example.org/x v1.0.0' >&2
"""
FAILS = """#!/bin/sh
echo '# example.org/x' >&2
echo 'x.go:7:2: undefined: y' >&2
exit 1
"""


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources of our own, an empty cache, and no Go."""
    monkeypatch.setenv("TRADE2026_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(binaries, "_FREE_BYTES_MIN", 0)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    found = shutil.which("go")
    if found is not None:
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    (tmp_path / "bin").mkdir()
    folder = tmp_path / "go"
    folder.mkdir()
    (folder / "go.mod").write_text("module x\nrequire (\n\tk8s.io/kubernetes v1.37.2\n)\n")
    return folder


def write_go(tmp_path: Path, text: str) -> None:
    (tmp_path / "bin" / "go").write_text(text)
    (tmp_path / "bin" / "go").chmod(0o755)


def test_the_version_is_that_of_the_sources() -> None:
    assert binaries.version() == "1.37.2"
    assert "-X k8s.io/component-base/version.gitVersion=v1.37.2" in binaries.build_command(Path("/out"))[-6 - 1]


def test_other_sources_have_another_folder(sources: Path) -> None:
    before = binaries.folder(sources)
    assert before == binaries.folder(sources)
    assert before.name.startswith("1.37.2-")
    (sources / "main.go").write_text("package main")
    assert binaries.folder(sources) != before


def test_without_go_it_says_what_to_install_and_where_programs_could_be_put(sources: Path) -> None:
    with pytest.raises(ClusterError, match=rf"Go 1\.26 or newer.*into {binaries.folder(sources)}"):
        binaries.programs(print, sources)


def test_programs_are_built_once_and_the_image_of_pause_with_them(sources: Path, tmp_path: Path) -> None:
    write_go(tmp_path, GO)
    heard: list[str] = []
    ready = binaries.programs(heard.append, sources)
    assert sorted(path.name for path in ready.iterdir()) == ["coredns", "helm", "hyperkube", "kubectl", "pause.tar"]
    assert (ready / "kubectl").read_text() == "program\n"
    assert any("about 10 minutes" in line for line in heard)
    with tarfile.open(ready / "pause.tar") as archive:
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "localhost/pause:1"
    assert binaries.programs(heard.append, sources) == ready
    assert len((tmp_path / "bin" / "calls").read_text().splitlines()) == 1


def test_what_go_says_is_in_the_error_and_nothing_is_kept(sources: Path, tmp_path: Path) -> None:
    write_go(tmp_path, FAILS)
    with pytest.raises(ClusterError, match=r"could not build Kubernetes: x\.go:7:2: undefined: y"):
        binaries.programs(print, sources)
    assert [path for path in binaries.folder(sources).parent.iterdir() if not path.name.endswith(".lock")] == []


def test_too_little_disk_is_told_before_it_is_full(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_go(tmp_path, GO)
    monkeypatch.setattr(binaries, "_FREE_BYTES_MIN", 1 << 60)
    with pytest.raises(ClusterError, match="are free at"):
        binaries.programs(print, sources)


def test_progress_is_told_every_ten_seconds_and_errors_are_kept() -> None:
    seconds = iter(range(0, 1000, 4))
    heard: list[str] = []
    lines = ["go: downloading a v1", "internal/x", "k8s.io/y", "# k8s.io/y", "y.go:1:1: wrong", "z"]
    assert binaries.follow(lines, heard.append, lambda: next(seconds)) == "y.go:1:1: wrong"
    assert heard == [
        "  12 s: 1 modules fetched, 2 packages compiled",
        "  24 s: 1 modules fetched, 3 packages compiled",
    ]


def test_a_build_that_hangs_is_given_up() -> None:
    def clock() -> Iterator[float]:
        yield from (0.0, 4000.0)

    times = clock()
    with pytest.raises(ClusterError, match="within 60 minutes"):
        binaries.follow(["k8s.io/x"], print, lambda: next(times))
