"""The API of external metrics is offered while its server answers, withdrawn when it does not, and never taken from another."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.operator.fake_kube import FakeKube

from trade2026_operator.reconcile.objects import Manifest, Ref
from trade2026_operator.slo.api_service import REF, WITHDRAW_SECONDS, ApiService, Offer, Wanted, decided, manifest

ROLE = Ref("rbac.authorization.k8s.io/v1", "ClusterRole", "", "ops-operator")
WANTED = Wanted("ops", "metrics", ROLE)
AUTHORITY = Ref("v1", "ConfigMap", "keda", "metrics-ca")
SLICE = Ref("discovery.k8s.io/v1", "EndpointSlice", "ops", "metrics-abc")


class Cluster:
    """An API server with a watch, and a clock."""

    def __init__(self) -> None:
        self.kube, self.seconds = FakeKube(), 1_000.0
        self.kept = ApiService(self.kube, WANTED, lambda: self.seconds)

    async def begin(self) -> None:
        await self.kube.create({"apiVersion": ROLE.api_version, "kind": ROLE.kind, "metadata": {"name": ROLE.name}})
        await self.server(ready=False)

    async def server(self, *, ready: bool) -> None:
        self.kube.objects.pop(SLICE, None)
        labels = {"kubernetes.io/service-name": "metrics"}
        meta = {"name": SLICE.name, "namespace": "ops", "labels": labels}
        endpoints = [{"conditions": {"ready": ready}}]
        await self.kube.create(
            {"apiVersion": SLICE.api_version, "kind": SLICE.kind, "metadata": meta, "endpoints": endpoints}
        )

    def reached(self, status: str) -> None:
        self.kube.tell(REF, {"conditions": [{"type": "Available", "status": status}]})

    async def look(self) -> Manifest | None:
        found = self.kube.objects.get(REF)
        self.kept.seen(found) if found is not None else self.kept.gone({"metadata": {"name": REF.name}})
        await self.kept.look()
        return self.kube.objects.get(REF)


@pytest.fixture
async def cluster() -> Cluster:
    made = Cluster()
    await made.begin()
    return made


async def test_it_is_offered_when_its_server_is_ready_and_goes_with_the_release(cluster: Cluster) -> None:
    assert await cluster.look() is None
    await cluster.server(ready=True)
    made = await cluster.look()
    assert made is not None
    (owner,) = made["metadata"]["ownerReferences"]
    assert owner["uid"] == cluster.kube.objects[ROLE]["metadata"]["uid"]
    secret = cluster.kube.objects[Ref("v1", "Secret", "ops", "metrics-tls")]
    assert base64.b64decode(made["spec"]["caBundle"]) == base64.b64decode(secret["data"]["ca.crt"])


async def test_while_it_is_well_nothing_is_asked(cluster: Cluster) -> None:
    await cluster.server(ready=True)
    await cluster.look()
    cluster.reached("True")
    await cluster.look()
    reads, writes = cluster.kube.reads, len(cluster.kube.calls)
    await cluster.look()
    assert (cluster.kube.reads, len(cluster.kube.calls)) == (reads, writes)


async def test_a_dead_server_s_api_is_withdrawn_after_a_minute_and_offered_again_later(cluster: Cluster) -> None:
    await cluster.server(ready=True)
    await cluster.look()
    cluster.reached("False")
    await cluster.server(ready=False)
    assert await cluster.look() is not None
    cluster.seconds += WITHDRAW_SECONDS - 1
    assert await cluster.look() is not None
    cluster.seconds += 1
    assert await cluster.look() is None
    await cluster.server(ready=True)
    assert await cluster.look() is None, "what waits for it has a minute"
    cluster.seconds += WITHDRAW_SECONDS
    assert await cluster.look() is not None


async def test_a_server_that_comes_back_within_the_minute_keeps_it(cluster: Cluster) -> None:
    await cluster.server(ready=True)
    await cluster.look()
    for _ in range(5):
        cluster.reached("False")
        await cluster.look()
        cluster.seconds += WITHDRAW_SECONDS - 1
        cluster.reached("True")
        assert await cluster.look() is not None


@pytest.mark.parametrize(
    "spec", [{"service": {"namespace": "keda", "name": "keda-metrics"}}, {}, {"service": {"namespace": "b", "name": "metrics"}}]
)  # fmt: skip
async def test_another_s_is_left_alone_and_its_owner_named(cluster: Cluster, spec: dict[str, Any]) -> None:
    await cluster.kube.create({"apiVersion": REF.api_version, "kind": REF.kind, "metadata": {"name": REF.name}, "spec": spec})  # fmt: skip
    await cluster.server(ready=True)
    before = await cluster.look()
    cluster.reached("False")
    cluster.seconds += 1_000
    await cluster.look()
    assert before is not None and before["spec"] == spec
    assert cluster.kept.others and REF not in [ref for verb, ref in cluster.kube.calls if verb in ("apply", "delete")]


async def test_a_bundle_that_somebody_has_changed_is_put_right(cluster: Cluster) -> None:
    await cluster.server(ready=True)
    await cluster.look()
    cluster.reached("True")
    await cluster.kube.merge(REF, {"spec": {"caBundle": "eA=="}})
    made = await cluster.look()
    assert made is not None and made["spec"]["caBundle"] != "eA=="


async def test_where_keda_is_to_serve_it_is_not_offered_and_keda_is_told_who_signs_for_the_scaler() -> None:
    cluster = Cluster()
    await cluster.begin()
    await cluster.server(ready=True)
    assert await cluster.look() is not None
    cluster.kept = ApiService(cluster.kube, replace(WANTED, keda_namespace="keda"), lambda: cluster.seconds)
    for _ in range(2):
        assert await cluster.look() is None
    told = cluster.kube.objects[AUTHORITY]
    secret = cluster.kube.objects[Ref("v1", "Secret", "ops", "metrics-tls")]
    assert told["data"]["ca.crt"].encode() == base64.b64decode(secret["data"]["ca.crt"])
    (owner,) = told["metadata"]["ownerReferences"]
    assert owner["uid"] == cluster.kube.objects[ROLE]["metadata"]["uid"], "it goes with the release"


async def test_keda_that_was_installed_again_is_told_again_and_what_is_as_it_should_be_is_not_written(
    cluster: Cluster,
) -> None:
    cluster.kept = ApiService(cluster.kube, replace(WANTED, keda_namespace="keda"), lambda: cluster.seconds)
    await cluster.look()
    cluster.kube.gone(AUTHORITY)
    await cluster.look()
    assert AUTHORITY in cluster.kube.objects
    writes = len(cluster.kube.calls)
    await cluster.look()
    assert len(cluster.kube.calls) == writes


async def test_keda_is_told_before_anything_is_scaled_and_what_fails_is_tried_again(cluster: Cluster) -> None:
    cluster.kept = ApiService(cluster.kube, replace(WANTED, keda_namespace="keda"), lambda: cluster.seconds)
    cluster.kube.refuses[AUTHORITY] = "namespaces keda not found"
    await cluster.kept.prepare()
    del cluster.kube.refuses[AUTHORITY]
    await cluster.kept.prepare()
    assert AUTHORITY in cluster.kube.objects


async def test_without_keda_there_is_nothing_to_prepare(cluster: Cluster) -> None:
    writes = len(cluster.kube.calls)
    await cluster.kept.prepare()
    assert len(cluster.kube.calls) == writes


KEDAS = {"service": {"namespace": "keda", "name": "keda-metrics"}}


async def test_another_s_is_left_alone_before_a_watch_has_told_of_it(cluster: Cluster) -> None:
    await cluster.kube.create({"apiVersion": REF.api_version, "kind": REF.kind, "metadata": {"name": REF.name}, "spec": KEDAS})  # fmt: skip
    await cluster.server(ready=True)
    await cluster.kept.look()
    assert cluster.kube.objects[REF]["spec"] == KEDAS
    assert cluster.kept.others == "keda/keda-metrics"


async def test_what_another_has_taken_over_does_not_go_with_our_release(cluster: Cluster) -> None:
    await cluster.server(ready=True)
    made = await cluster.look()
    assert made is not None and len(made["metadata"]["ownerReferences"]) == 1
    another = {"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": "theirs"}
    owners = [*made["metadata"]["ownerReferences"], another]
    await cluster.kube.merge(REF, {"metadata": {"ownerReferences": owners}, "spec": KEDAS})
    taken = await cluster.look()
    assert taken is not None and taken["metadata"]["ownerReferences"] == [another]
    assert taken["spec"]["service"]["namespace"] == "keda"
    writes = len(cluster.kube.calls)
    await cluster.look()
    assert len(cluster.kube.calls) == writes


@pytest.mark.parametrize(
    ("keda", "others"), [("", "keda/keda-metrics"), ("keda", ""), ("scaling", "keda/keda-metrics")]
)
async def test_keda_is_no_other_where_it_is_to_serve(cluster: Cluster, keda: str, others: str) -> None:
    cluster.kept = ApiService(cluster.kube, replace(WANTED, keda_namespace=keda), lambda: cluster.seconds)
    await cluster.kube.create({"apiVersion": REF.api_version, "kind": REF.kind, "metadata": {"name": REF.name}, "spec": KEDAS})  # fmt: skip
    await cluster.look()
    assert cluster.kept.others == others


def test_the_decision_is_a_table() -> None:
    ours = manifest(WANTED, "pem", None)
    for live, ready, silent, offer in (
        (None, False, 0.0, Offer.KEEP),
        (None, True, 0.0, Offer.MAKE),
        (ours, False, 0.0, Offer.KEEP),
        (ours, False, WITHDRAW_SECONDS, Offer.WITHDRAW),
        ({**ours, "spec": {"service": None}}, True, 1e6, Offer.LEAVE),
    ):
        assert decided(live, WANTED, "pem", ready, silent) is offer
    assert decided(ours, WANTED, "another", False, 0.0) is Offer.MAKE
