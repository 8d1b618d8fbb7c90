"""Values for Helm, without an operator: `python -m trade2026_operator.helm -f MANIFEST --output DIRECTORY`."""

import argparse
import json
import sys
from pathlib import Path

from trade2026.stack.manifest import ManifestError, load_all
from trade2026.stack.planner import PlanError, plan
from trade2026_operator.helm.releases import Cluster, ReleaseError, releases


def main(words: list[str] | None = None) -> int:
    """Write a file of values for each release of a manifest, and say how to install it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trade2026_operator.helm", description=__doc__)
    parser.add_argument("-f", "--file", type=Path, required=True, help="manifest with a TradingStack")
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory for the values, made if need be")
    parser.add_argument("--image", default=Cluster.image_repository, help="the platform's image, without its tag")
    parser.add_argument("--pull-policy", default=Cluster.pull_policy, choices=["Always", "IfNotPresent", "Never"])
    given = parser.parse_args(words)
    try:
        found = load_all(given.file.read_text())
        cluster = Cluster(image_repository=given.image, pull_policy=given.pull_policy)
        running = [strategy for strategy in found.strategies if not strategy.spec.paused]
        made = releases(found.stack, plan(found.stack, running, strategies_apart=True), cluster)
    except (OSError, ManifestError, PlanError, ReleaseError) as error:
        print(f"{given.file}: {error}", file=sys.stderr)
        return 2
    given.output.mkdir(parents=True, exist_ok=True)
    for release in made:
        path = given.output / f"{release.name}.json"
        path.write_text(json.dumps(release.values, indent=2) + "\n")
        print(f"helm install {release.name} charts/{release.chart} --values {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
