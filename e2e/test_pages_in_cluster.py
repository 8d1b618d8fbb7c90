"""The pages about a stack in a cluster, by Helm alone and by the operator: every command of them works as written.

Pages that take minutes are left to `make soak`.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.cluster import Cluster
from e2e.servers import BROKERS, named_brokers_of
from e2e.soak import soak
from tests.e2e.test_docs import ROOT, blocks, missing

PAGES = ROOT / "docs" / "how-to"
PAGE_SECONDS_MAX = 600
_NEXT = "--next block--"
_NAMESPACES = ("desk", "trade2026")


@pytest.fixture
def folder(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """As a clone is after an installation; nothing is in the cluster, before and after."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, command in {"python": "", "trade2026": " -m trade2026"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{command} "$@"\n')
        (programs / name).chmod(0o755)
    (tmp_path / "charts").symlink_to(ROOT / "charts")
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")  # kustomize follows no link
    _give_definitions_to_the_page(cluster)
    yield tmp_path
    # First what serves an API: without its pods no namespace could be deleted to its end.
    cluster.helm("uninstall", "trade2026", "--namespace", "trade2026", "--ignore-not-found", "--wait", check=False)
    for namespace in _NAMESPACES:
        cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", check=False)


@pytest.fixture
def brokers(cluster: Cluster, folder: Path) -> Iterator[None]:
    """Kafka where pages have it, and `ca.pem`, the authority of its certificate."""
    for authority in named_brokers_of(cluster, folder):
        shutil.copy(authority.ca, folder / "ca.pem")
        yield
    cluster.kubectl("delete", "namespace", BROKERS.namespace, "--ignore-not-found", check=False)


@pytest.fixture
def quickstart(cluster: Cluster, folder: Path) -> None:
    """The operator and a stack, as `operator.md` leaves them before its last chapter."""
    page = (PAGES / "operator.md").read_text()
    follow("operator.md", page.partition("## Send an order")[0], cluster, folder)


def follow(name: str, text: str, cluster: Cluster, folder: Path) -> None:
    """Give the commands of a page, in one shell: a key that a block makes is used by others."""
    surroundings = cluster.environment() | {"PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'operators'}", "NO_COLOR": "1"}
    found = list(blocks(text))
    assert found
    done = subprocess.run(
        ["bash", "-mexo", "pipefail", "-c", f"\necho {_NEXT}\n".join(block.code for block in found)],
        cwd=folder, env=surroundings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=PAGE_SECONDS_MAX, check=False,
    )  # fmt: skip
    if done.returncode:
        pods = cluster.kubectl("describe", "pods", "-n", "desk", check=False)
        raise AssertionError(f"the page ended with {done.returncode}:\n{done.stdout}\n{pods}")
    for block, said in zip(found, done.stdout.split(f"\n{_NEXT}\n"), strict=True):
        lost = missing(block.output, said)
        assert not lost, f"{name}:{block.line} did not print {lost!r} but:\n{said}"


@pytest.mark.parametrize("page", ["helm.md", "operator.md"])
def test_every_command_of_the_page_works_as_written(page: str, cluster: Cluster, folder: Path) -> None:
    follow(page, (PAGES / page).read_text(), cluster, folder)


@soak
@pytest.mark.timeout(1_200)
@pytest.mark.usefixtures("brokers")
@pytest.mark.parametrize("page", ["kafka-in-a-cluster.md", "scale.md"])
def test_every_command_of_the_page_about_kafka_works_as_written(page: str, cluster: Cluster, folder: Path) -> None:
    follow(page, (PAGES / page).read_text(), cluster, folder)


@soak
@pytest.mark.timeout(1_200)
@pytest.mark.usefixtures("old_image", "quickstart")
def test_every_command_of_the_page_about_upgrades_works_as_written(cluster: Cluster, folder: Path) -> None:
    follow("upgrade.md", (PAGES / "upgrade.md").read_text(), cluster, folder)


def _give_definitions_to_the_page(cluster: Cluster) -> None:
    """Other tests may have left definitions behind, by another release or none: its Helm would not touch them."""
    for name in cluster.kubectl("get", "crds", "--output=name").split():
        if name.endswith(".trade2026.io"):
            cluster.kubectl("label", name, "app.kubernetes.io/managed-by=Helm", "--overwrite")
            owner = ("meta.helm.sh/release-name=trade2026", "meta.helm.sh/release-namespace=trade2026")
            cluster.kubectl("annotate", name, *owner, "--overwrite")
