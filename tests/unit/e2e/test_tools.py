"""What is there for those with Docker names what is in the tree: it can't be run where there is none."""

from pathlib import Path
from typing import Any

import yaml

from trade2026 import __version__

ROOT = Path(__file__).parents[3]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def test_skaffold_builds_the_image_that_a_stack_runs_and_sets_values_that_the_chart_has() -> None:
    found = read("skaffold.yaml")
    (artifact,) = found["build"]["artifacts"]
    assert (ROOT / artifact["docker"]["dockerfile"]).is_file()
    assert found["build"]["tagPolicy"]["envTemplate"]["template"] == __version__
    (release,) = found["deploy"]["helm"]["releases"]
    chart = ROOT / release["chartPath"]
    values = yaml.safe_load((chart / "values.yaml").read_text())
    assert artifact["image"] == values["image"]["repository"]
    for path in release["setValueTemplates"]:
        value = values
        for part in path.split("."):
            value = value[part]


def test_kind_makes_one_cluster_of_the_name_that_the_commands_beside_it_use() -> None:
    found = read("e2e/kind.yaml")
    assert (found["kind"], found["name"]) == ("Cluster", "trade2026")
    assert f"--name {found['name']}" in (ROOT / "e2e" / "kind.yaml").read_text()
