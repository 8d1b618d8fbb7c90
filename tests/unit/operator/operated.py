"""One stack, an operator and an API server in memory, with the watches between them."""

import copy
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.operator.fake_kube import FakeKube, copied

from trade2026_operator.cache import Cache
from trade2026_operator.desired import Builder
from trade2026_operator.helm.charts import Chart
from trade2026_operator.helm.manifests import Manifest
from trade2026_operator.helm.releases import Cluster, state_claim
from trade2026_operator.helm.render import Capabilities, Rendered
from trade2026_operator.kube import KubeError
from trade2026_operator.queue import Key
from trade2026_operator.reconcile.objects import API_VERSION, Ref, condition_of
from trade2026_operator.worker import Worker

KEY = Key("trading", "desk")
STACK = Ref(API_VERSION, "TradingStack", *KEY)
WORKLOAD = Ref("apps/v1", "StatefulSet", KEY.namespace, "desk")
SERVICE = Ref("v1", "Service", KEY.namespace, "desk-oms")
CLAIM = Ref("v1", "PersistentVolumeClaim", KEY.namespace, "desk-state")
KEYS = Ref("v1", "Secret", KEY.namespace, "desk-keys")
SPEC: dict[str, Any] = {
    "instruments": [{"symbol": "BTCUSDT", "tickSize": "0.01", "lotSize": "0.001"}],
    "venues": [{"name": "SIM", "type": "replay"}],
}
LOOKS_MAX = 30
BAKE = timedelta(minutes=5)


class TinyChart:
    """Renders what a test can oversee: an account, a Service and a workload.

    Args:
        note: Put into every pod: another version of the chart.
    """

    def __init__(self, note: str = "") -> None:
        self.note = note

    def render(
        self, chart: Chart, name: str, namespace: str, values: dict[str, Any], capabilities: Capabilities
    ) -> Rendered:
        labels = {
            "trade2026.io/stack": values["stack"],
            "app.kubernetes.io/instance": name,
            "app.kubernetes.io/component": values["component"],
        }
        image = f"{values['image']['repository']}:{values['image']['tag']}"
        said = {f"{each['name']}.json": each["settings"] for each in values["containers"]}
        read = [json.loads(settings) for settings in said.values()]
        for settings in read:
            settings.pop("allowed_versions")
            settings.pop("config_hash")
        checksum = str(hash(str([values["containers"][0].get("resources"), read])))
        service = values["containers"][0]["ports"][0]["name"]
        pod = {
            "metadata": {"labels": labels, "annotations": {"checksum": checksum, "note": self.note}},
            "spec": {"containers": [{"name": "all", "image": image}]},
        }
        objects: list[Manifest] = [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "labels": labels}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": said},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": f"{values['stack']}-{service}", "labels": labels},
                "spec": {"selector": labels, "ports": [{"port": 8099}]},
            },
            {
                "apiVersion": "apps/v1",
                "kind": "StatefulSet",
                "metadata": {"name": name, "labels": labels},
                "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod},
            },
        ]
        return Rendered("\n---\n".join(map(json.dumps, objects)), objects)


@dataclass
class Desk:
    """A stack as a person and a cluster treat it.

    Attributes:
        said: Events, as (reason, message).
        cancels: How often its working orders were asked to be cancelled.
        changed: Stacks of which the operator has been told something.
    """

    kube: FakeKube = field(default_factory=FakeKube)
    said: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    cancels: int = 0
    changed: set[Key] = field(default_factory=set[Key])
    can_cancel: bool = True
    missing_images: tuple[str, ...] = ()
    """Ends of `WORKLOAD@IMAGE` that can't be started."""
    seconds: float = 0.0
    moment: datetime = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

    def __post_init__(self) -> None:
        self.start_operator()

    def start_operator(self, note: str = "") -> None:
        """A new one, which knows nothing but what it sees.

        Args:
            note: Of its chart, if that is another one.
        """
        self._told: dict[Ref, str | None] = {}
        self.cache = Cache(self.changed.add, lambda: self.seconds)
        chart = Chart(place=None, files={"Chart.yaml": f"{{name: trade2026-service, version: 0.1.0{note}}}".encode()})  # type: ignore[arg-type]
        self.builder = Builder(TinyChart(note), chart, Cluster(), Capabilities())
        self.worker = Worker(self.kube, self.cache, self.builder, self._cancel, self._say, lambda: self.moment)

    async def apply(self, **spec: Any) -> None:
        """`kubectl apply` of the stack."""
        if STACK not in self.kube.objects:
            manifest = {"apiVersion": API_VERSION, "kind": "TradingStack", "spec": {**copy.deepcopy(SPEC), **spec}}
            await self.kube.create({**manifest, "metadata": {"name": KEY.name, "namespace": KEY.namespace}})
        else:
            await self.kube.merge(STACK, {"spec": spec})
        self.kube.calls.clear()

    async def look(self) -> float | None:
        """What watches have told, then one look; in how many seconds the next one is wanted."""
        self.watch()
        return await self.worker.look(KEY)

    def watch(self) -> None:
        """Tell the cache of everything that is there, and is there no more."""
        stack = self.kube.objects.get(STACK)
        if stack is not None:
            self.cache.stack_seen(copied(stack))
        elif KEY in self.cache.stacks:
            self.cache.stack_gone(self.cache.stacks[KEY])
        for known in (self.cache._children, self.cache._records):
            for ref in [ref for ref in known.get(KEY, {}) if ref not in self.kube.objects]:
                known[KEY].pop(ref)
        for ref, found in self.kube.objects.items():
            version = found["metadata"].get("resourceVersion")
            if ref.kind not in ("TradingStack", "Strategy") and (version is None or self._told.get(ref) != version):
                self._told[ref] = version
                self.cache.child_seen(copied(found))

    async def settle(self) -> int:
        """Look until nothing is written any more, whatever fails meanwhile; how many looks that took."""
        for number in range(LOOKS_MAX):
            before = len(self.kube.calls)
            try:
                again_after = await self.look()
            except KubeError:
                continue
            if len(self.kube.calls) == before and again_after != 0:
                return number
        raise AssertionError(f"it does not settle: {self.kube.calls[-8:]}")

    def become_ready(self) -> None:
        """The cluster has started the pods, but those of an image that there is not."""
        for ref, found in list(self.kube.objects.items()):
            if ref.kind == "StatefulSet":
                generation, count = found["metadata"]["generation"], found["spec"]["replicas"]
                image = found["spec"]["template"]["spec"]["containers"][0]["image"]
                fails = any(f"{ref.name}@{image}".endswith(each) for each in self.missing_images)
                ready = {"updatedReplicas": count, "readyReplicas": 0 if fails else count}
                told = {"observedGeneration": generation, **ready}
                if found.get("status") != told:
                    self.kube.tell(ref, told)
                self._start_pod(ref, fails)
            if ref.kind == "PersistentVolumeClaim":
                self.kube.tell(ref, {"phase": "Bound"})

    def _start_pod(self, workload: Ref, fails: bool) -> None:
        """Of a pod, only why it is not ready is of interest."""
        ref = Ref("v1", "Pod", workload.namespace, f"{workload.name}-0")
        self.kube.objects.pop(ref, None)
        if fails:
            labels = {"trade2026.io/stack": KEY.name, "app.kubernetes.io/instance": workload.name}
            waiting = {"name": "all", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}
            manifest = {"apiVersion": ref.api_version, "kind": ref.kind}
            metadata = {"name": ref.name, "namespace": ref.namespace, "labels": labels, "uid": "1"}
            self.kube.objects[ref] = {**manifest, "metadata": metadata, "status": {"containerStatuses": [waiting]}}

    async def run(self, **spec: Any) -> None:
        """Until it is ready."""
        await self.apply(**spec)
        await self.settle()
        self.become_ready()
        await self.settle()
        self.kube.calls.clear()

    async def settled_although(self, number: int) -> None:
        """The same when the write of that number fails (none if it is negative)."""
        self.kube.fail_at = number if number >= 0 else None
        await self.settle()
        await self.go_on()
        self.kube.fail_at = None

    async def go_on(self) -> None:
        """Let the cluster start pods, time pass, and the operator look, until nothing is changed any more."""
        for _ in range(LOOKS_MAX):
            before = len(self.kube.calls)
            self.become_ready()
            await self.settle()
            if len(self.kube.calls) != before:
                continue
            if self.condition("Progressing")["reason"] != "Baking":
                return
            self.moment += BAKE
        raise AssertionError(f"it goes on for ever: {self.kube.calls[-8:]}")

    async def delete(self) -> None:
        """`kubectl delete`."""
        self.kube.objects[STACK]["metadata"]["deletionTimestamp"] = "2026-03-04T06:00:00Z"
        self.kube.calls.clear()

    def condition(self, kind: str) -> dict[str, Any]:
        """As `kubectl wait` sees it."""
        found = condition_of(self.kube.objects[STACK], kind)
        assert found is not None, f"it has no condition {kind}"
        return found

    def asked(self) -> dict[Ref, Any]:
        """What the objects say, without versions and status."""
        return {
            ref: {key: value for key, value in found.items() if key not in ("metadata", "status")}
            for ref, found in self.kube.objects.items()
            if ref not in (STACK, KEYS) and ref.kind != "Pod" and found.get("type") != "helm.sh/release.v1"
        }

    async def _cancel(self, stack: Manifest) -> bool:
        self.cancels += 1
        return self.can_cancel

    async def _say(self, stack: Manifest, reason: str, message: str, is_warning: bool) -> None:
        self.said.append((reason, message))


def claim() -> Manifest:
    """The stack's volume, as wanted."""
    found = state_claim(KEY.name, KEY.namespace, Cluster())
    assert found is not None
    return found
