"""Which Helm releases a plan becomes."""

import json
from typing import Any

import pytest
from tests.unit.operator.helm.conftest import stack_and_plan

from trade2026.stack.facts import SERVICES, STACK_NAME_MAX
from trade2026.stack.planner import plan
from trade2026.stack.strategy import Strategy
from trade2026_operator.helm.releases import (
    Cluster,
    HelmRelease,
    ReleaseError,
    releases,
    service_name,
    state_claim,
)

HELM_NAME_MAX = 53
KAFKA: dict[str, Any] = {"type": "kafka", "partitions": 6, "kafka": {"bootstrapServers": "one:9092,two:9192"}}

STRATEGY: dict[str, Any] = {
    "apiVersion": "trade2026.io/v1alpha1",
    "kind": "Strategy",
    "metadata": {"name": "mine"},
    "spec": {"source": {"class": "trade2026.sdk.examples.momentum:Momentum"}, "symbols": ["BTCUSDT"]},
}


def of(manifest: str = "quickstart", cluster: Cluster | None = None, **spec: Any) -> dict[str, HelmRelease]:
    return {each.name: each for each in releases(*stack_and_plan(manifest, **spec), cluster or Cluster())}


def spread(cluster: Cluster | None = None, **spec: Any) -> dict[str, HelmRelease]:
    return of("kafka", cluster, bus=KAFKA, placement="spread", **spec)


def stands_beside(release: HelmRelease) -> dict[str, str]:
    """The labels of the pods on whose node alone its own may run."""
    (term,) = release.values["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    return term["labelSelector"]["matchLabels"]


def test_a_compact_stack_is_a_pod_with_a_container_for_each_process_and_its_strategies_are_another_beside_it() -> None:
    stack, planned = stack_and_plan()
    release, strategies = releases(stack, planned, Cluster())
    assert (release.name, release.component, release.chart) == ("quickstart", "stack", "trade2026-service")
    hosted = [each.name for each in planned.releases if each.name != "strategies"]
    assert [each["name"] for each in release.values["containers"]] == hosted
    assert release.values["peers"] == "local" and release.values["replicas"] == 1
    assert (strategies.name, strategies.services) == ("quickstart-strategies", ("strategies",))
    assert strategies.values["peers"] == "services" and strategies.values["storage"] == release.values["storage"]
    assert stands_beside(strategies)["app.kubernetes.io/instance"] == "quickstart", "which has no such rule itself"


def test_strategies_are_in_the_one_pod_where_nothing_is_kept_that_two_could_share() -> None:
    assert list(of(cluster=Cluster(ephemeral=True))) == ["quickstart"]


def test_no_other_process_starts_again_when_a_strategy_comes_goes_or_pauses() -> None:
    stack, _ = stack_and_plan()
    plain, limited = (Strategy.model_validate({**STRATEGY, "spec": {**STRATEGY["spec"], **more}})
                      for more in ({}, {"risk": {"maxPosition": "1"}}))  # fmt: skip

    def desk(*strategies: Strategy, told: bool = True) -> str:
        planned = plan(stack, strategies, strategies_apart=True, limits_told=told)
        return json.dumps(releases(stack, planned, Cluster())[0].values)

    assert desk(plain) == desk(limited) == desk()
    assert desk(limited, told=False) != desk(), "where nobody tells it, the desk has them from its start"


def test_a_process_is_told_what_the_planner_wrote_to_the_last_digit() -> None:
    stack, planned = stack_and_plan(risk={"limits": {"maxGrossExposure": "123456789.123456789"}})
    release, _ = releases(stack, planned, Cluster())
    hosted = [each for each in planned.releases if each.name != "strategies"]
    for container, process in zip(release.values["containers"], hosted, strict=True):
        assert json.loads(container["settings"]) == process.settings
    orders = next(each for each in release.values["containers"] if each["name"] == "orders")
    assert "123456789123456789" in orders["settings"]


def test_a_spread_stack_has_a_release_for_each_service() -> None:
    found = spread()
    assert "quickstart-questdb-writer" in found and "quickstart-hot-cache" in found
    assert all(each.values["peers"] == "services" and each.values["replicas"] == 1 for each in found.values())


def test_replicas_are_pods_of_one_release_and_have_the_ports_of_the_first() -> None:
    oms = spread(services={"oms": {"replicas": {"min": 3}}})["quickstart-oms"]
    assert oms.values["replicas"] == 3
    assert oms.values["containers"][0]["ports"] == [{"name": "oms", "port": SERVICES["oms"].port}]
    assert oms.values["podDisruptionBudget"]["enabled"]
    assert "oms-1" not in json.loads(oms.values["containers"][0]["settings"])["ports"]


def test_a_group_on_kafka_is_one_release_with_one_process() -> None:
    found = of("kafka", bus=KAFKA, placement="grouped")
    assert found["quickstart-risk"].services == ("risk", "exeq")
    assert [each["name"] for each in found["quickstart-risk"].values["containers"]] == ["risk"]


def test_a_scaled_release_has_bounds_and_its_own_metric() -> None:
    scaled = spread(services={"oms": {"replicas": {"min": 2, "max": 6}}})
    assert scaled["quickstart-oms"].values["autoscaling"] == {
        "enabled": True,
        "minReplicas": 2,
        "maxReplicas": 6,
        "metric": {"name": "trade2026_required_replicas", "labels": {"stack": "quickstart", "release": "oms"}},
    }
    assert "autoscaling" not in scaled["quickstart-risk"].values


def test_where_keda_scales_a_release_says_whom_it_asks() -> None:
    cluster = Cluster(keda_scaler="metrics.ops.svc:9090", keda_authentication="ops-scaler")
    found = spread(cluster=cluster, services={"oms": {"replicas": {"min": 2, "max": 6}}})
    keda = found["quickstart-oms"].values["autoscaling"]["keda"]
    assert keda == {"scalerAddress": "metrics.ops.svc:9090", "authentication": "ops-scaler"}


def test_a_release_that_can_not_grow_is_not_scaled() -> None:
    same = spread(services={"oms": {"replicas": {"min": 2, "max": 2}}})["quickstart-oms"].values
    assert "autoscaling" not in same and same["replicas"] == 2


def test_a_process_has_the_resources_of_its_services_summed_up() -> None:
    services = {
        "risk": {"resources": {"requests": {"cpu": "250m", "memory": "256Mi"}}},
        "exeq": {"resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}},
    }
    (container,) = of("kafka", bus=KAFKA, placement="grouped", services=services)["quickstart-risk"].values[
        "containers"
    ]
    assert container["resources"] == {"requests": {"cpu": "1250m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
    risk, orders = (next(each for each in of(services=services)["quickstart"].values["containers"] if each["name"] == name)
                    for name in ("risk", "orders"))  # fmt: skip
    assert risk["resources"] == container["resources"] and "resources" not in orders


def test_a_policy_lets_processes_go_to_brokers_and_stores_and_nowhere_else() -> None:
    stores = {"timeseries": {"type": "questdb", "url": "http://quest:9010"}}
    found = spread(stores=stores, observability={"otlpEndpoint": "http://traces:4318"})
    assert found["quickstart-questdb-writer"].values["networkPolicy"]["egressPorts"] == [4318, 9010, 9092, 9192]
    assert found["quickstart-oms"].values["networkPolicy"]["egressPorts"] == [4318, 9092, 9192]
    assert of()["quickstart"].values["networkPolicy"]["egressPorts"] == []


def test_a_change_of_the_limits_changes_only_releases_that_read_them() -> None:
    before, now = spread(), spread(risk={"limits": {"maxGrossExposure": "1000"}})
    assert {name for name in before if before[name] != now[name]} == {"quickstart-oms", "quickstart-risk"}


def test_the_volume_is_the_stacks_and_no_releases() -> None:
    claim = state_claim("desk", "trading", Cluster(storage_class="fast", storage_size="5Gi"))
    assert claim is not None
    assert claim["metadata"]["name"] == "desk-state"
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"]["storage"] == "5Gi"
    assert spread()["quickstart-oms"].values["storage"] == {"existingClaim": "quickstart-state"}


def test_pods_that_share_a_volume_stand_on_one_node_and_none_can_share_what_is_kept_nowhere() -> None:
    for placement in ("spread", "grouped"):
        found = of("kafka", bus=KAFKA, placement=placement).values()
        assert all(stands_beside(each) == {"trade2026.io/stack": "quickstart"} for each in found)
        with pytest.raises(ReleaseError, match=f"placement {placement} needs a volume"):
            of("kafka", Cluster(ephemeral=True), bus=KAFKA, placement=placement)


def test_a_cluster_without_volumes_keeps_nothing_and_says_so() -> None:
    nothing = Cluster(ephemeral=True)
    assert state_claim("desk", "trading", nothing) is None
    assert of(cluster=nothing)["quickstart"].values["storage"] == {"ephemeral": True}


def test_secrets_are_named_and_never_told() -> None:
    values = of(cluster=Cluster(env_secrets=("broker",), files_secret="tls"))["quickstart"].values
    assert (values["envSecrets"], values["filesSecret"], values["keysSecret"]) == (["broker"], "tls", "quickstart-keys")


def test_pods_start_again_when_keys_change() -> None:
    before, now = (spread(Cluster(keys_digest=digest)) for digest in ("a", "b"))
    assert all(before[name].values["podAnnotations"] != now[name].values["podAnnotations"] for name in now)


def test_every_name_fits_where_kubernetes_and_helm_have_limits() -> None:
    stack, planned = stack_and_plan("kafka", bus=KAFKA, placement="spread")
    longest = "d" * STACK_NAME_MAX
    object.__setattr__(planned, "stack", longest)
    found = releases(stack, planned, Cluster())
    assert max(len(each.name) for each in found) <= HELM_NAME_MAX
    assert all(len(f"{service_name(longest, name)}-pods") <= 63 for each in found for name in each.services)


def test_code_in_a_file_beside_the_manifest_is_refused_before_a_pod_fails() -> None:
    stack, _ = stack_and_plan()
    strategy = Strategy.model_validate({**STRATEGY, "spec": {**STRATEGY["spec"], "source": {"file": "mine.py:Mine"}}})
    with pytest.raises(ReleaseError, match="strategy mine"):
        releases(stack, plan(stack, [strategy]), Cluster())
