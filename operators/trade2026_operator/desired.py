"""What a stack's manifest asks for in a cluster: the plan's releases, rendered, and what belongs to none of them."""

import json
from dataclasses import dataclass
from typing import Any

from trade2026.stack.manifest import ManifestError, load_all
from trade2026.stack.planner import PlanError, plan
from trade2026_operator.helm.charts import Chart
from trade2026_operator.helm.manifests import owned
from trade2026_operator.helm.releases import Cluster, HelmRelease, ReleaseError, keys_name, releases, state_claim
from trade2026_operator.helm.render import Capabilities, Renderer, RenderError
from trade2026_operator.helm.revisions import Wanted
from trade2026_operator.reconcile.objects import API_VERSION, Manifest, Ref
from trade2026_operator.reconcile.state import Desired, ReleaseWanted


@dataclass(frozen=True)
class Builder:
    """Makes of a stack what is wanted. The same stack gives the same, so it is asked only for a new one."""

    renderer: Renderer
    chart: Chart
    cluster: Cluster
    capabilities: Capabilities

    def desired(self, stack: Manifest) -> Desired:
        """What is wanted; with a fault where the manifest can't be meant so, in words for a person."""
        namespace = stack["metadata"]["namespace"]
        try:
            parsed = load_all(json.dumps(_as_written(stack))).stack
            planned = plan(parsed)
            found = releases(parsed, planned, self.cluster)
            rendered = tuple(self._release(each, namespace, planned.stack, planned.version) for each in found)
        except (ManifestError, PlanError, ReleaseError, RenderError) as error:
            return Desired(fault=str(error))
        claim = state_claim(planned.stack, namespace, self.cluster)
        keys = Ref("v1", "Secret", namespace, keys_name(planned.stack))
        return Desired(rendered, (claim,) if claim is not None else (), keys)

    def _release(self, release: HelmRelease, namespace: str, stack: str, version: str) -> ReleaseWanted:
        rendered = self.renderer.render(self.chart, release.name, namespace, release.values, self.capabilities)
        record = Wanted(release.name, namespace, self.chart.copy(), release.values, rendered.text, f"{stack} {version}")
        return ReleaseWanted(record, tuple(owned(rendered.objects, release.name, namespace)), release.services)


def _as_written(stack: Manifest) -> dict[str, Any]:
    """The manifest as a person wrote it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "TradingStack",
        "metadata": {"name": stack["metadata"]["name"]},
        "spec": stack["spec"],
    }
