"""What a stack's manifest asks for in a cluster: the plan's releases, rendered, and what belongs to none of them."""

import json
from dataclasses import dataclass
from typing import Any

from trade2026.stack.manifest import ManifestError, load_all
from trade2026.stack.model import TradingStack
from trade2026.stack.planner import PlanError, plan
from trade2026.stack.units import duration_ns
from trade2026_operator.asked import Running, input_of, unsupported
from trade2026_operator.helm.charts import Chart
from trade2026_operator.helm.manifests import owned
from trade2026_operator.helm.records import Origin
from trade2026_operator.helm.releases import Cluster, HelmRelease, ReleaseError, keys_name, releases, state_claim
from trade2026_operator.helm.render import Capabilities, Renderer, RenderError
from trade2026_operator.helm.revisions import Wanted
from trade2026_operator.reconcile.objects import API_VERSION, Manifest, Ref
from trade2026_operator.reconcile.state import Desired, ReleaseWanted

NOTHING_ELSE = Running()


@dataclass(frozen=True)
class Builder:
    """Makes of a stack what is wanted. The same gives the same, so it is asked only for something new."""

    renderer: Renderer
    chart: Chart
    cluster: Cluster
    capabilities: Capabilities

    def desired(self, stack: Manifest, now: Running = NOTHING_ELSE) -> Desired:
        """What is wanted; with a fault where the manifest can't be meant so, in words for a person.

        Args:
            now: Other versions that run: they are allowed beside the new one, which writes what they can read.
        """
        namespace = stack["metadata"]["namespace"]
        try:
            parsed = _readable(load_all(json.dumps(_as_written(stack))).stack, now)
            if why := unsupported(parsed.spec.version):
                return Desired(fault=f"spec.{why}")
            apart = parsed.spec.placement != "compact"  # else there is one pod, and never two versions
            planned = plan(parsed, also_allowed=now.versions if apart else ())
            found = releases(parsed, planned, self.cluster)
            asked = input_of(parsed, self.cluster)
            origin = Origin((asked,), planned.version, parsed.spec.event_format)
            rendered = tuple(self._release(each, namespace, planned.stack, origin) for each in found)
        except (ManifestError, PlanError, ReleaseError, RenderError) as error:
            return Desired(fault=str(error))
        claim = state_claim(planned.stack, namespace, self.cluster)
        keys = Ref("v1", "Secret", namespace, keys_name(planned.stack))
        deadline = duration_ns(parsed.spec.rollout.progress_deadline) / 1e9
        return Desired(
            rendered, (claim,) if claim is not None else (), keys, input=asked, deadline_seconds=deadline
        )  # fmt: skip

    def _release(self, release: HelmRelease, namespace: str, stack: str, origin: Origin) -> ReleaseWanted:
        rendered = self.renderer.render(self.chart, release.name, namespace, release.values, self.capabilities)
        said = f"{stack} {origin.version}"
        record = Wanted(release.name, namespace, self.chart.copy(), release.values, rendered.text, said, origin)
        return ReleaseWanted(record, tuple(owned(rendered.objects, release.name, namespace)), release.services)


def _readable(stack: TradingStack, now: Running) -> TradingStack:
    """The stack, with the format of events that every version that runs can read."""
    if not 0 < now.event_format < stack.spec.event_format:
        return stack
    spec = stack.spec.model_copy(update={"event_format": now.event_format})
    return stack.model_copy(update={"spec": spec})


def _as_written(stack: Manifest) -> dict[str, Any]:
    """The manifest as a person wrote it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "TradingStack",
        "metadata": {"name": stack["metadata"]["name"]},
        "spec": stack["spec"],
    }
