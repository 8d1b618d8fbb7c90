"""The page about Helm alone: every command of it works as written, from values to nothing left but data."""

import subprocess
import sys
from pathlib import Path

from e2e.cluster import Cluster
from tests.e2e.test_docs import ROOT, blocks, missing

PAGE = ROOT / "docs" / "how-to" / "helm.md"
PAGE_SECONDS_MAX = 400
_NEXT = "--next block--"


def test_every_command_of_the_page_works_as_written(cluster: Cluster, tmp_path: Path) -> None:
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, command in {"python": "", "trade2026": " -m trade2026"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{command} "$@"\n')
        (programs / name).chmod(0o755)
    for name in ("charts", "manifests"):
        (tmp_path / name).symlink_to(ROOT / name)
    surroundings = cluster.environment() | {
        "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'operators'}",
        "NO_COLOR": "1",
    }
    found = list(blocks(PAGE.read_text()))
    assert found
    try:  # in one shell: a key that a block makes is used by others
        done = subprocess.run(
            ["bash", "-mexo", "pipefail", "-c", f"\necho {_NEXT}\n".join(block.code for block in found)],
            cwd=tmp_path, env=surroundings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=PAGE_SECONDS_MAX, check=False,
        )  # fmt: skip
        if done.returncode:
            pods = cluster.kubectl("describe", "pods", "-n", "desk", check=False)
            raise AssertionError(f"the page ended with {done.returncode}:\n{done.stdout}\n{pods}")
        for block, said in zip(found, done.stdout.split(f"\n{_NEXT}\n"), strict=True):
            lost = missing(block.output, said)
            assert not lost, f"{PAGE.name}:{block.line} did not print {lost!r} but:\n{said}"
    finally:
        cluster.kubectl("delete", "namespace", "desk", "--wait=false", "--ignore-not-found", check=False)
