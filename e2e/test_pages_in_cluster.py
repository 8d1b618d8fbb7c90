"""The pages about a stack in a cluster, by Helm alone and by the operator: every command of them works as written."""

import subprocess
import sys
from pathlib import Path

import pytest
from e2e.cluster import Cluster
from tests.e2e.test_docs import ROOT, blocks, missing

PAGES = ROOT / "docs" / "how-to"
PAGE_SECONDS_MAX = 400
_NEXT = "--next block--"


@pytest.mark.parametrize("page", ["helm.md", "operator.md"])
def test_every_command_of_the_page_works_as_written(page: str, cluster: Cluster, tmp_path: Path) -> None:
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
    _give_definitions_to_the_page(cluster)
    found = list(blocks((PAGES / page).read_text()))
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
            assert not lost, f"{page}:{block.line} did not print {lost!r} but:\n{said}"
    finally:
        for namespace in ("desk", "trade2026"):
            cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", check=False)


def _give_definitions_to_the_page(cluster: Cluster) -> None:
    """Other tests may have left definitions behind, by another release or none: its Helm would not touch them."""
    for name in cluster.kubectl("get", "crds", "--output=name").split():
        if name.endswith(".trade2026.io"):
            cluster.kubectl("label", name, "app.kubernetes.io/managed-by=Helm", "--overwrite")
            owner = ("meta.helm.sh/release-name=trade2026", "meta.helm.sh/release-namespace=trade2026")
            cluster.kubectl("annotate", name, *owner, "--overwrite")
