"""What a stack's manifest asks for in a cluster: the plan's releases, rendered, and what belongs to none of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from trade2026.stack.manifest import ManifestError, load_all, misfits, parse_strategy
from trade2026.stack.model import TradingStack
from trade2026.stack.planner import PlanError, own_limits, plan
from trade2026.stack.strategy import Strategy
from trade2026.stack.units import duration_ns
from trade2026_operator.asked import Running, input_of, unsupported
from trade2026_operator.helm.charts import Chart
from trade2026_operator.helm.manifests import owned
from trade2026_operator.helm.records import Origin
from trade2026_operator.helm.releases import Cluster, HelmRelease, ReleaseError, keys_name, releases, state_claim
from trade2026_operator.helm.render import Capabilities, Renderer, RenderError, RenderFailed
from trade2026_operator.helm.revisions import Wanted
from trade2026_operator.inputs import desk_of
from trade2026_operator.reconcile.hosting import is_to_run, version_of
from trade2026_operator.reconcile.objects import API_VERSION, Manifest, Ref
from trade2026_operator.reconcile.state import Desired, ReleaseWanted

NOTHING_ELSE = Running()


class StrategyAsked(NamedTuple):
    """What a strategy asks of its stack."""

    fault: str = ""
    """Why it can't run there, in words for a person; empty if it can."""
    limits: dict[str, Any] | None = None
    """Its own, as the planner writes them; None where they can't be read."""


@dataclass(frozen=True)
class Builder:
    """Makes of a stack what is wanted. The same gives the same, so it is asked only for something new."""

    renderer: Renderer
    chart: Chart
    cluster: Cluster
    capabilities: Capabilities

    def desired(
        self,
        stack: Manifest,
        now: Running = NOTHING_ELSE,
        strategies: Sequence[Manifest] = (),
        instead_of: str = "",
    ) -> Desired:
        """What is wanted; with a fault where the manifest can't be meant so, in words for a person.

        Args:
            now: Other versions that run: they are allowed beside the new one, which writes what they can read.
            strategies: Of this stack. One that can't be meant so takes nothing else away: it is left out.
            instead_of: The input that has failed, where the stack is as it ran before.
        """
        namespace = stack["metadata"]["namespace"]
        try:
            parsed = _readable(load_all(json.dumps(_as_written(stack, "TradingStack"))).stack, now)
            if why := unsupported(parsed.spec.version):
                return Desired(fault=f"spec.{why}")
            apart = parsed.spec.placement != "compact"  # else there is one pod, and never two versions
            fitting = [(each, fitted(parsed, each)) for each in strategies]
            running = [fit.strategy for each, fit in fitting if fit.strategy is not None and is_to_run(each)]
            allowed = now.versions if apart else ()
            planned = plan(parsed, running, strategies_apart=True, limits_told=True, also_allowed=allowed)
            found = releases(parsed, planned, self.cluster)
            asked = input_of(parsed, self.cluster, running)
            names = tuple(each.metadata.name for each in running)
            origin = Origin((asked,), planned.version, parsed.spec.event_format, instead_of, strategies=names)
            specs = {desk_of(asked): stack["spec"]}
            rendered = tuple(self._release(each, namespace, planned.stack, origin, specs) for each in found)
        except ManifestError as error:
            return Desired(fault="\n".join(str(replace(each, line=0)) for each in error.faults))  # of our own JSON
        except (PlanError, ReleaseError, RenderError) as error:
            return Desired(fault=str(error))
        except (RenderFailed, OSError) as error:
            return Desired(fault=str(error), is_transient=True)
        claim = state_claim(planned.stack, namespace, self.cluster)
        keys = Ref("v1", "Secret", namespace, keys_name(planned.stack))
        deadline = duration_ns(parsed.spec.rollout.progress_deadline) / 1e9
        bake = duration_ns(parsed.spec.rollout.bake) / 1e9
        runs = frozenset(version_of(each) for each, fit in fitting if fit.strategy is not None and is_to_run(each))
        claims = (claim,) if claim is not None else ()
        return Desired(
            rendered,
            claims,
            keys,
            input=asked,
            deadline_seconds=deadline,
            bake_seconds=bake,
            strategies=runs,
            instead_of=instead_of,
            specs=specs,
        )

    def desk_of(self, stack: Manifest) -> str:
        """The part of the input that is of the desk alone; empty where the manifest can't be meant so."""
        try:
            parsed = load_all(json.dumps(_as_written(stack, "TradingStack"))).stack
        except ManifestError:
            return ""
        return desk_of(input_of(parsed, self.cluster))

    def asked_of(self, stack: Manifest, strategy: Manifest) -> StrategyAsked:
        """What a strategy asks of a stack; of one that can't be itself nothing is known."""
        try:
            parsed = load_all(json.dumps(_as_written(stack, "TradingStack"))).stack
        except ManifestError:
            return StrategyAsked()
        fit = fitted(parsed, strategy)
        return StrategyAsked(fit.fault, own_limits(parsed.spec, fit.strategy) if fit.strategy is not None else None)

    def _release(
        self, release: HelmRelease, namespace: str, stack: str, origin: Origin, specs: dict[str, Any]
    ) -> ReleaseWanted:
        rendered = self.renderer.render(self.chart, release.name, namespace, release.values, self.capabilities)
        said = f"{stack} {origin.version}"
        record = Wanted(release.name, namespace, self.chart.copy(), release.values, rendered.text, said, origin, specs)
        return ReleaseWanted(record, tuple(owned(rendered.objects, release.name, namespace)), release.services)


def _readable(stack: TradingStack, now: Running) -> TradingStack:
    """The stack, with the format of events that every version that runs can read."""
    if not 0 < now.event_format < stack.spec.event_format:
        return stack
    spec = stack.spec.model_copy(update={"event_format": now.event_format})
    return stack.model_copy(update={"spec": spec})


class Fit(NamedTuple):
    """A strategy on its stack, or why it can't be."""

    strategy: Strategy | None = None
    fault: str = ""


def fitted(stack: TradingStack, manifest: Manifest) -> Fit:
    """A strategy as the planner reads it, if it fits the stack and has code that a pod has."""
    try:
        strategy = parse_strategy(_as_written(manifest, "Strategy"))
        if faults := misfits(stack, strategy):
            raise ManifestError(faults)
        if strategy.spec.source.file:
            raise ReleaseError(
                "spec.source.file is a file beside the manifest, which no pod has: "
                "put the class into the image and name it by source.class"
            )
    except (ManifestError, ReleaseError) as error:
        return Fit(fault=str(error))
    return Fit(strategy)


def _as_written(found: Manifest, kind: str) -> dict[str, Any]:
    """The manifest as a person wrote it."""
    name = found["metadata"]["name"]
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": found["spec"]}
