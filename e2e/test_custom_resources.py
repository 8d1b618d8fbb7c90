"""Custom resources at a real API server: what is wrong is refused there, with what to do; what is right is taken.

No operator runs: whoever applies a wrong manifest hears of it from `kubectl apply`, not from a log an hour later.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.api_server import ApiServer, programs_or_skip, running
from e2e.wrong_manifests import Wrong, good_manifests, wrong_manifests

CRDS = Path(__file__).parents[1] / "crds"
DRY_RUN = ("apply", "--dry-run=server", "-f", "-")


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """An API server that knows our custom resources: one of its own, or with `E2E_KUBECONFIG` that of a cluster."""
    folder = Path(tempfile.mkdtemp(prefix="trade2026-api-"))
    try:
        if kubeconfig := os.environ.get("E2E_KUBECONFIG"):
            yield _with_crds(ApiServer(("kubectl",), Path(kubeconfig)))
            return
        with running(programs_or_skip(), folder) as made:
            yield _with_crds(made)
    finally:
        shutil.rmtree(folder)


def _with_crds(server: ApiServer) -> ApiServer:
    succeeded, said = server.kubectl("apply", "--server-side", "-f", str(CRDS))
    assert succeeded, said
    succeeded, said = server.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(CRDS))
    assert succeeded, said
    return server


@pytest.fixture
def there(server: ApiServer) -> Iterator[list[dict[str, Any]]]:
    """What a test has made, to be deleted."""
    made: list[dict[str, Any]] = []
    yield made
    for manifest in made:
        succeeded, said = server.kubectl("delete", "-f", "-", given=manifest)
        assert succeeded, said


@pytest.mark.parametrize("wrong", wrong_manifests(), ids=lambda wrong: wrong.title)
def test_a_wrong_manifest_is_refused_with_what_to_do(
    server: ApiServer, there: list[dict[str, Any]], wrong: Wrong
) -> None:
    if wrong.before is not None:
        succeeded, said = server.kubectl("apply", "-f", "-", given=wrong.before)
        assert succeeded, said
        there.append(wrong.before)
    succeeded, said = server.kubectl(*DRY_RUN, given=wrong.manifest)
    assert not succeeded, said
    assert wrong.says in said


def test_a_format_is_raised_after_the_version_that_writes_it_and_never_lowered(
    server: ApiServer, there: list[dict[str, Any]]
) -> None:
    # There is one format yet: the rules are tried in a definition that has two.
    group = "formats.trade2026.io"
    definition = yaml.safe_load((CRDS / "tradingstacks.trade2026.io.yaml").read_text())
    definition["metadata"]["name"], definition["spec"]["group"] = f"tradingstacks.{group}", group
    definition["spec"]["names"] |= {"categories": [], "shortNames": []}
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["eventFormat"]["enum"] = [1, 2]
    for words in (("apply", "--server-side", "-f", "-"), ("wait", "--for=condition=Established", "-f", "-")):
        succeeded, said = server.kubectl(*words, given=definition)
        assert succeeded, said
    there.append(definition)
    (stack,) = (manifest for title, manifest in good_manifests() if "TradingStack little" in title)
    stack = {**stack, "apiVersion": f"{group}/v1alpha1"}

    def changed(version: str, event_format: int) -> str:
        spec = {**stack["spec"], "version": version, "eventFormat": event_format}
        succeeded, said = server.kubectl("apply", "-f", "-", given={**stack, "spec": spec})
        return "" if succeeded else said

    assert changed("0.1.0", 1) == ""
    assert "is raised once the new version runs, in a change of its own" in changed("0.2.0", 2)
    assert changed("0.2.0", 1) == changed("0.2.0", 2) == ""
    assert "is never lowered" in changed("0.2.0", 1)


@pytest.mark.parametrize(
    ("title", "manifest"), good_manifests(), ids=lambda given: given if isinstance(given, str) else ""
)
def test_a_right_manifest_is_taken(server: ApiServer, title: str, manifest: dict[str, Any]) -> None:
    succeeded, said = server.kubectl(*DRY_RUN, given=manifest)
    assert succeeded, f"{title}: {said}"


def test_defaults_are_those_of_a_laptop(server: ApiServer) -> None:
    from trade2026.stack.manifest import parse

    (little,) = (manifest for title, manifest in good_manifests() if "TradingStack little" in title)
    succeeded, said = server.kubectl(*DRY_RUN, "--output=json", given=little)
    assert succeeded, said
    here = parse(little).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert json.loads(said)["spec"] == here["spec"]


@pytest.mark.parametrize("path", ["ts.spec.bus.partitions", "ts.spec.services", "strat.spec.risk", "ts.status"])
def test_kubectl_explains_every_field(server: ApiServer, path: str) -> None:
    succeeded, said = server.kubectl("explain", path)
    assert succeeded, said
    assert "<empty>" not in said
    assert "DESCRIPTION" in said


def test_a_person_sees_at_a_glance_how_it_is(server: ApiServer, there: list[dict[str, Any]]) -> None:
    (stack,) = (manifest for title, manifest in good_manifests() if "TradingStack little" in title)
    (strategy,) = (manifest for title, manifest in good_manifests() if "Strategy everything" in title)
    for manifest in (stack, strategy):
        succeeded, said = server.kubectl("create", "-f", "-", given=manifest)
        assert succeeded, said
        there.append(manifest)
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "WaitingForKafka",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {"conditions": [ready], "servicesReady": "3/14"}
    _patched_status(server, "ts/little", status)
    _, columns = server.kubectl("get", "ts", "little", "--no-headers")
    assert columns.split()[:4] == ["little", "False", "3/14", "WaitingForKafka"]
    _, wide = server.kubectl("get", "ts", "-o", "wide")
    assert wide.split("\n")[0].split() == [
        "NAME",
        "READY",
        "VERSION",
        "SERVICES",
        "SLO",
        "REASON",
        "PAUSED",
        "DRIFTED",
        "AGE",
    ]
    _, both = server.kubectl("get", "trade2026", "-A", "-o", "name")
    assert both.split() == ["strategy.trade2026.io/everything", "tradingstack.trade2026.io/little"]


def test_a_strategy_is_scaled_by_kubectl_within_its_symbols(server: ApiServer, there: list[dict[str, Any]]) -> None:
    (strategy,) = (manifest for title, manifest in good_manifests() if "Strategy everything" in title)
    succeeded, said = server.kubectl("create", "-f", "-", given=strategy)
    assert succeeded, said
    there.append(strategy)
    assert server.kubectl("scale", "strat", "everything", "--replicas=1")[0]
    succeeded, said = server.kubectl("scale", "strat", "everything", "--replicas=3")
    assert not succeeded
    assert "3 replicas can't share 2 symbols: some would have none" in said


def test_a_status_is_read_back_as_it_was_written_but_for_what_is_not_of_the_model(
    server: ApiServer, there: list[dict[str, Any]]
) -> None:
    (stack,) = (manifest for title, manifest in good_manifests() if "TradingStack little" in title)
    succeeded, said = server.kubectl("create", "-f", "-", given=stack)
    assert succeeded, said
    there.append(stack)
    said = _patched_status(server, "ts/little", {"version": "0.1.0", "phase": "Running"})
    assert 'unknown field "status.phase"' in said
    succeeded, said = server.kubectl("get", "ts", "little", "--output=jsonpath={.status}")
    assert json.loads(said) == {"version": "0.1.0"}


def _patched_status(server: ApiServer, name: str, status: dict[str, Any]) -> str:
    words = ("patch", name, "--subresource=status", "--type=merge", "--output=json", "--patch")
    succeeded, said = server.kubectl(*words, json.dumps({"status": status}))
    assert succeeded, said
    return said
