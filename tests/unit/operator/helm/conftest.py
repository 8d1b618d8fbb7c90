"""Releases of the manifests that come with the platform, and Helm to render them with."""

import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from trade2026.stack.manifest import load_all
from trade2026.stack.planner import Plan, plan
from trade2026_operator.helm.charts import Chart, read_chart
from trade2026_operator.helm.render import HelmCli, Remembering

ROOT = Path(__file__).parents[4]
CHARTS = ROOT / "charts"
HELM_VARIABLE = "HELM"
"""Environment variable with the path of Helm, where it is neither in PATH nor among the cluster's programs."""


@cache
def helm_program() -> Path | None:
    """Helm 4: as it was named, as the local cluster has built it, or as it is installed."""
    if named := os.environ.get(HELM_VARIABLE):
        return Path(named)
    try:
        from trade2026.local.cluster.binaries import folder
    except ImportError:
        built = None
    else:
        built = folder() / "helm"
    if built is not None and built.is_file():
        return built
    found = shutil.which("helm")
    return Path(found) if found else None


@pytest.fixture(scope="session")
def helm() -> Path:
    """The program; without it a test is skipped, but in CI."""
    found = helm_program()
    if found is None:
        assert os.environ.get("CI") != "true", "Helm is missing: `python -m e2e.machine` builds it"
        pytest.skip(f"Helm 4 is missing: put it into PATH, or name it by the variable {HELM_VARIABLE}")
    return found


@pytest.fixture(scope="session")
def renderer(helm: Path) -> Remembering:
    return Remembering(HelmCli(helm))


@pytest.fixture(scope="session")
def service_chart() -> Chart:
    return read_chart(CHARTS / "trade2026-service")


def stack_and_plan(manifest: str = "quickstart", **spec: Any) -> tuple[Any, Plan]:
    """A stack and its plan, with some fields of its spec changed."""
    import yaml

    documents = list(yaml.safe_load_all((ROOT / "manifests" / f"{manifest}.yaml").read_text()))
    documents[0]["spec"] |= spec
    found = load_all(yaml.safe_dump_all(documents))
    return found.stack, plan(found.stack, found.strategies)
