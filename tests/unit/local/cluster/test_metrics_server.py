"""The server of an HPA's CPU is built once, for those who ask for it, and its failure says what the API server says."""

import contextlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from trade2026.local.cluster import binaries, cluster, metrics_server
from trade2026.local.cluster.place import ClusterError, Place

GO = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
echo program > "$2metrics-server"
echo built >> "$(dirname "$0")/calls"
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs before all others, and an empty cache."""
    monkeypatch.setenv("TRADE2026_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(binaries, "_FREE_BYTES_MIN", 0)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "bin"


def write(program: Path, text: str) -> None:
    program.write_text(text)
    program.chmod(0o755)


def test_its_image_is_built_once_and_is_what_the_manifest_names(tools: Path) -> None:
    write(tools / "go", GO)
    heard: list[str] = []
    archive = metrics_server.archive(heard.append)
    assert metrics_server.archive(heard.append) == archive
    assert (tools / "calls").read_text() == "built\n"
    assert "about 5 minutes" in heard[0]
    with tarfile.open(archive) as opened:
        index = json.load(opened.extractfile("index.json"))  # type: ignore[arg-type]
    name = index["manifests"][0]["annotations"]["io.containerd.image.name"]
    assert f"image: {name}\n" in metrics_server.MANIFEST.read_text()


def test_one_that_does_not_answer_is_told_with_the_reason(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tools / "go", GO)
    write(tools / "kubectl", '#!/bin/sh\n[ "$2" = apiservice ] && echo "no endpoints"\nexit 0\n')
    place = Place(tmp_path / "state")
    loaded: list[Path] = []
    monkeypatch.setattr(cluster, "require_up", lambda place: os.getpid())
    monkeypatch.setattr(cluster, "programs_of", lambda place: tools)
    monkeypatch.setattr(cluster, "load", lambda place, archive: loaded.append(archive))
    monkeypatch.setattr(metrics_server, "joined", lambda pid: contextlib.nullcontext())
    with pytest.raises(ClusterError, match="after 0 s: no endpoints"):
        metrics_server.install(place, print, 0.0)
    assert loaded == [metrics_server.archive(print)]
