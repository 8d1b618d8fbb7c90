"""The operator as a user installs it, in pods with restricted rights: it leads, keeps stacks, goes, and comes back."""

import json
import time
from collections.abc import Iterator

import pytest
from e2e.cluster import Cluster, wait_for
from e2e.desk import Desk
from e2e.installed import RELEASE, Installed, apply, forget, revisions, until_led
from e2e.prober import probing


@pytest.fixture
def installed(cluster: Cluster) -> Iterator[Installed]:
    """The operator's own namespace; the test installs."""
    made = Installed(cluster, cluster.make_namespace())
    try:
        yield made
    finally:
        cluster.helm("uninstall", RELEASE, "--namespace", made.namespace, check=False)
        cluster.remove_namespace(made.namespace)


@pytest.fixture
def desk(cluster: Cluster, namespace: str) -> Iterator[Desk]:
    """A namespace for one stack, which is let go whatever has become of its operator."""
    made = Desk(cluster, namespace)
    yield made
    forget(made)


def test_it_is_installed_leads_once_runs_a_stack_goes_and_comes_back_with_fewer_rights(
    installed: Installed, desk: Desk
) -> None:
    cluster = installed.cluster
    began = time.monotonic()
    installed.install()
    pods = installed.pods()
    assert len(pods) == 2
    leader = until_led(installed)
    print(f"installed, and {leader} leads, after {time.monotonic() - began:.1f} s")

    began = time.monotonic()
    apply(desk)
    desk.until("Ready")
    print(f"ready {time.monotonic() - began:.1f} s after kubectl apply")
    desk.kubectl("delete", "service", "desk-exeq")
    wait_for("an Event tells that it is back", lambda: "DriftCorrected" in desk.kubectl("get", "events"))
    assert revisions(desk) == ["deployed"]
    running = desk.pods()

    with probing(cluster, desk.namespace) as prober:
        installed.uninstall()
        desk.kubectl("get", "ts", "desk")  # the definitions stay
        desk.kubectl("delete", "service", "desk-risk")
        prober.until_acknowledged()
        # With rights in one namespace only: all that it may see is there.
        installed.install("--set", "rbac.scope=namespace", "--set", f"rbac.namespaces={{{desk.namespace}}}")
        wait_for("the Service is back", lambda: "desk-risk" in desk.kubectl("get", "services", "--output=name"))
        desk.until("Ready")
        prober.until_acknowledged()
    print(prober.account())
    assert desk.pods() == running, "no pod was started again"
    assert revisions(desk) == ["deployed"], "nothing was released again"
    assert not [
        json.dumps(pod["status"]) for pod in installed.pods() if pod["status"]["containerStatuses"][0]["restartCount"]
    ]
    desk.kubectl("delete", "ts", "desk", "--timeout=120s")
