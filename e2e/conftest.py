"""A real Kubernetes cluster for all tests here: started once a run, or, with `E2E_KUBECONFIG`, one that is there.

Where none can be started (not root, no Go) the tests are skipped, but never in CI. This process joins the cluster's
network as long as the tests run, and so does what it starts: a client in a test reaches the API server, pods, Services.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.beside import ROOT, Operator
from e2e.cluster import Cluster
from e2e.machine import IMAGE_VARIABLE, KUBECONFIG_VARIABLE, prepare
from e2e.versions import load_old

from e2e import beside
from trade2026.local.cluster import cluster as local
from trade2026.local.cluster import image
from trade2026.local.cluster.network import joined
from trade2026.local.cluster.place import ClusterError, Place

_TIMEOUT_SECONDS = 600
_LOG_LINES = 150
_current: list[Cluster] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A cluster starts, an image is built: a test has longer than a unit test."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_TIMEOUT_SECONDS))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Attach what happened in the cluster to the report of a failure."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for each in _current:
            events = each.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False)
            pods = each.kubectl("get", "pods", "-A", "-o", "wide", check=False)
            report.sections.append(("pods and events of the cluster", f"{pods}\n{_end(events)}"))
            report.sections.extend(_logs_of_operators(each))
    if call.when == "teardown":
        beside.logs.clear()


def _logs_of_operators(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """An exception of a test does not reach the fixture that has its operator."""
    for log in dict.fromkeys(beside.logs):
        if log.exists():
            yield f"operator beside the cluster, {log.parent.name}", _end(log.read_text(), _LOG_LINES)
    said = ("get", "pods", "-A", "-l", "app.kubernetes.io/name=trade2026-operator", "-o")
    names = cluster.kubectl(*said, "custom-columns=:.metadata.namespace,:.metadata.name", check=False)
    for namespace, name in (words for line in names.splitlines() if len(words := line.split()) == 2):
        words = ("logs", "-n", namespace, name, f"--tail={_LOG_LINES}")
        yield f"{namespace}/{name}", cluster.kubectl(*words, check=False)
        if before := cluster.call("kubectl", *words, "--previous", check=False):
            yield f"{namespace}/{name} before it was started again", before


def _end(text: str, lines: int = 40) -> str:
    return "\n".join(text.splitlines()[-lines:])


@pytest.fixture(scope="session")
def machine() -> None:
    """This machine, ready to start a cluster."""
    if os.environ.get(KUBECONFIG_VARIABLE):
        pytest.skip(f"{KUBECONFIG_VARIABLE} names a cluster, and none is started here")
    try:
        prepare()
    except ClusterError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"without a cluster: {error}")


@pytest.fixture
def place() -> Iterator[Place]:
    """Where a test may start a cluster of its own; it is ended after it."""
    yield from _place()


def _place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="trade2026-e2e-"))  # not pytest's: sockets need a short path
    made = Place.at(folder / "cluster")
    try:
        yield made
    finally:
        local.down(made)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster that all tests share, with the platform's image in it; each has namespaces of its own."""
    if kubeconfig := os.environ.get(KUBECONFIG_VARIABLE):
        found = Cluster(Path(kubeconfig), os.environ.get(IMAGE_VARIABLE, image.NAME))
        _current.append(found)
        yield found
        return
    request.getfixturevalue("machine")
    for made in _place():
        local.up(made, print)
        archive = made.state / "trade2026.tar"
        image.build(archive, print)
        local.load(made, archive)
        archive.unlink()
        with joined(local.require_up(made)):
            _current.append(Cluster(made.kubeconfig, image.NAME, made))
            yield _current[0]
            _current.clear()


@pytest.fixture(scope="session")
def old_image(cluster: Cluster) -> None:
    """The version before, in the cluster."""
    if cluster.place is None:
        pytest.skip("the version before is brought into clusters of ours only")
    load_old(cluster)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of one test, whose pods have restricted rights."""
    yield from _namespace(cluster)


@pytest.fixture
def operator(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    """An operator of one test, with what it needs in the cluster."""
    yield from _operator(cluster, namespace, tmp_path)


@pytest.fixture(scope="module")
def shared_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of a module."""
    yield from _namespace(cluster)


@pytest.fixture(scope="module")
def shared_operator(
    cluster: Cluster, shared_namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator of a module."""
    yield from _operator(cluster, shared_namespace, tmp_path_factory.mktemp("operator"))


def _namespace(cluster: Cluster) -> Iterator[str]:
    name = cluster.make_namespace()
    yield name
    cluster.remove_namespace(name)


def _operator(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Operator]:
    for crd in sorted((ROOT / "crds").glob("*.yaml")):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(crd))
    made = Operator(cluster, namespace, folder / "operator.log")
    try:
        yield made
    finally:
        made.kill()
        patch = '{"metadata":{"finalizers":null}}'
        with contextlib.suppress(AssertionError):
            cluster.kubectl("patch", "ts", "desk", "-n", namespace, "--type=merge", "-p", patch)
