"""Rendering: what the same input gives, what is kept, what is said when it fails."""

from pathlib import Path
from typing import Any

import pytest

from trade2026 import __version__
from trade2026_operator.helm.charts import Chart, ChartUnreadable, charts_folder, read_chart
from trade2026_operator.helm.manifests import ManifestUnreadable, owned, parse
from trade2026_operator.helm.render import (
    Capabilities,
    HelmCli,
    HelmMissing,
    Remembering,
    Rendered,
    RenderError,
    RenderFailed,
    content_hash,
)

CHART = Chart(Path("/nowhere"), {"Chart.yaml": b"name: c\nversion: 1.0.0\n", "templates/a.yaml": b"a"})


class Counting:
    """Renders nothing, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def render(
        self, chart: Chart, name: str, namespace: str, values: dict[str, Any], capabilities: Capabilities
    ) -> Rendered:
        self.calls += 1
        return Rendered(f"{name} {values}", [])


def test_the_same_release_is_rendered_once() -> None:
    counting = Counting()
    renderer = Remembering(counting)
    for values in ({"a": 1, "b": 2}, {"b": 2, "a": 1}):
        renderer.render(CHART, "desk", "trading", values, Capabilities())
    assert counting.calls == 1


def test_whatever_a_rendering_depends_on_is_in_its_hash() -> None:
    other = Chart(CHART.place, CHART.files | {"templates/a.yaml": b"b"})
    hashes = [
        content_hash(CHART, "desk", "trading", {"a": 1}, Capabilities()),
        content_hash(other, "desk", "trading", {"a": 1}, Capabilities()),
        content_hash(CHART, "desk2", "trading", {"a": 1}, Capabilities()),
        content_hash(CHART, "desk", "trading2", {"a": 1}, Capabilities()),
        content_hash(CHART, "desk", "trading", {"a": "1"}, Capabilities()),
        content_hash(CHART, "desk", "trading", {"a": 1}, Capabilities("1.38.0")),
        content_hash(CHART, "desk", "trading", {"a": 1}, Capabilities(api_versions=("a/v1",))),
    ]
    assert len(set(hashes)) == len(hashes)


def test_what_was_used_last_is_kept() -> None:
    counting = Counting()
    renderer = Remembering(counting, kept_max=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        renderer.render(CHART, name, "trading", {}, Capabilities())
    assert counting.calls == 4


def test_a_missing_program_is_told_apart_from_wrong_values() -> None:
    with pytest.raises(HelmMissing, match="install Helm 4"):
        HelmCli(Path("/nowhere/helm")).render(CHART, "desk", "trading", {}, Capabilities())


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        ("echo 'Error: image.tag is required' >&2; exit 1", RenderError, "^image.tag is required$"),
        ("kill -9 $$", RenderFailed, "helm ended with -9$"),
        ("echo 'out of memory' >&2; exit 2", RenderFailed, "helm ended with 2: out of memory$"),
    ],
)
def test_a_helm_that_was_killed_says_nothing_about_the_values(
    tmp_path: Path, script: str, error: type[Exception], said: str
) -> None:
    helm = tmp_path / "helm"
    helm.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
    helm.chmod(0o755)
    with pytest.raises(error, match=said):
        HelmCli(helm).render(CHART, "desk", "trading", {}, Capabilities())


def test_a_chart_is_kept_whole_in_the_record_of_a_release(service_chart: Chart) -> None:
    copy = service_chart.copy()
    assert copy["metadata"]["name"] == "trade2026-service"
    assert copy["values"]["kind"] == "StatefulSet"
    assert copy["schema"]
    assert {"templates/NOTES.txt", "templates/_pod.tpl"} <= {each["name"] for each in copy["templates"]}
    assert not any(each["name"].endswith(("Chart.yaml", ".helmignore")) for each in copy["files"])


@pytest.mark.parametrize("name", ["trade2026-service", "trade2026-operator"])
def test_charts_are_of_the_version_of_the_platform(name: str) -> None:
    chart = read_chart(charts_folder() / name)
    assert (chart.name, chart.version, chart.metadata["appVersion"]) == (name, __version__, __version__)


def test_a_folder_that_is_no_chart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChartUnreadable, match=r"no Chart\.yaml"):
        read_chart(tmp_path)
    (tmp_path / "Chart.yaml").write_text("name: c")
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "inner.tgz").write_text("")
    with pytest.raises(ChartUnreadable, match="charts within"):
        read_chart(tmp_path)


OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {x: y}}\n"


def test_hooks_are_left_to_helm() -> None:
    hook = OBJECT.replace("labels: {x: y}", 'annotations: {"helm.sh/hook": test}')
    assert [each["metadata"]["name"] for each in parse(f"---\n{OBJECT}---\n# nothing\n---\n{hook}")] == ["a"]


@pytest.mark.parametrize("text", ["a: b", "- a", "kind: [", "apiVersion: v1\nkind: Pod\nmetadata: {}"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ManifestUnreadable):
        parse(text)


def test_objects_are_marked_as_parts_of_their_release_and_those_given_stay_as_they_are() -> None:
    given = parse(OBJECT + "---\n" + OBJECT.replace("ConfigMap", "ClusterRole"))
    marked = owned(given, "desk", "trading")
    assert marked[0]["metadata"] == {
        "name": "a",
        "namespace": "trading",
        "labels": {"x": "y", "app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": "desk", "meta.helm.sh/release-namespace": "trading"},
    }
    assert "namespace" not in marked[1]["metadata"]
    assert given == parse(OBJECT + "---\n" + OBJECT.replace("ConfigMap", "ClusterRole"))
