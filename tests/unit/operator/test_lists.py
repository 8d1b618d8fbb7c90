"""What was deleted while no watch was open is missing in the next list, and so it is gone."""

from typing import Any

import pytest
from aiohttp import web

from trade2026_operator.cache import Cache
from trade2026_operator.handlers.progress import Progress, session_of
from trade2026_operator.handlers.watches import missed_by
from trade2026_operator.helm.records import SECRET_TYPE
from trade2026_operator.kube import Access
from trade2026_operator.lists import Listed, Lists, Named
from trade2026_operator.queue import Key
from trade2026_operator.reconcile.objects import STACK_LABEL, Manifest

SERVICES = "/api/v1/namespaces/desks/services"


def page(*names: str, more: str = "") -> dict[str, Any]:
    items = [{"metadata": {"namespace": "desks", "name": name}} for name in names]
    return {"kind": "ServiceList", "metadata": {"continue": more}, "items": items}


def named(*names: str) -> frozenset[Named]:
    return frozenset(Named("desks", name) for name in names)


def child(kind: str, name: str, namespace: str = "desks", **more: Any) -> Manifest:
    metadata = {"namespace": namespace, "name": name, "labels": {STACK_LABEL: "desk"}}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **more}


def strategy(name: str) -> Manifest:
    return {"kind": "Strategy", "metadata": {"namespace": "desks", "name": name}, "spec": {}}


def stack(name: str, namespace: str = "desks") -> Manifest:
    return {"kind": "TradingStack", "metadata": {"namespace": namespace, "name": name}, "spec": {}}


def test_pages_of_one_list_are_one_and_a_list_that_begins_anew_forgets_the_pages_before() -> None:
    told: list[Listed] = []
    lists = Lists(told.append)
    lists.page(SERVICES, page("lost", more="2"), is_first=True)
    lists.page(SERVICES, page("a", "b", more="2"), is_first=True)
    lists.page("/api/v1/namespaces/others/services", page(), is_first=True)
    lists.page(SERVICES, page("c"), is_first=False)
    assert told == [
        Listed("", "services", "others", frozenset()),
        Listed("", "services", "desks", named("a", "b", "c")),
    ]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/api/v1/pods", ("", "pods", "")),
        ("/api/v1/namespaces", ("", "namespaces", "")),
        ("/apis/apps/v1/deployments", ("apps", "deployments", "")),
        ("/apis/apps/v1/namespaces/desks/deployments", ("apps", "deployments", "desks")),
    ],
)
def test_a_path_says_what_was_listed(path: str, asked: tuple[str, str, str]) -> None:
    told: list[Listed] = []
    Lists(told.append).page(path, page(), is_first=True)
    assert told[0][:3] == asked


@pytest.mark.parametrize("answer", [{"kind": "APIResourceList", "resources": []}, {"items": {}}, [], "", None])
def test_what_is_no_list_of_objects_is_passed_over(answer: Any) -> None:
    Lists(lambda listed: pytest.fail(f"told of {listed}")).page("/apis", answer, is_first=True)


class Told:
    """A cache, and which stacks and strategies it says are others."""

    def __init__(self) -> None:
        self.stacks: list[Key] = []
        self.strategies: list[Key] = []
        self.cache = Cache(self.stacks.append, strategy_changed=self.strategies.append)

    def listed(self, group: str, plural: str, *names: str, namespace: str = "desks") -> None:
        self.stacks.clear()
        self.strategies.clear()
        missed_by(self.cache, None)(Listed(group, plural, namespace, named(*names)))


def test_a_child_that_a_list_is_without_is_gone_and_its_stack_is_looked_at() -> None:
    told = Told()
    for each in (child("Service", "kept"), child("Service", "deleted"), child("ConfigMap", "deleted")):
        told.cache.child_seen(each)
    told.listed("", "services", "kept")
    assert [(ref.kind, ref.name) for ref in told.cache.children(Key("desks", "desk"))] == [
        ("Service", "kept"),
        ("ConfigMap", "deleted"),
    ]
    assert told.stacks == [Key("desks", "desk")]
    told.listed("", "services", "kept")
    assert told.stacks == [], "nothing is different"


def test_a_list_of_one_namespace_says_nothing_of_another_and_one_of_all_does() -> None:
    told = Told()
    told.cache.child_seen(child("Service", "elsewhere", "others"))
    told.listed("", "services")
    assert told.cache.children(Key("others", "desk"))
    told.listed("", "services", namespace="")
    assert not told.cache.children(Key("others", "desk"))


def test_a_record_that_a_list_is_without_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    monkeypatch.setattr("trade2026_operator.cache.from_secret", lambda secret: _Record())
    told.cache.child_seen(child("Secret", "sh.helm.release.v1.desk.v1", type=SECRET_TYPE))
    assert told.cache.records(Key("desks", "desk"))
    told.listed("", "secrets")
    assert not told.cache.records(Key("desks", "desk"))


class _Record:
    name, revision = "desk", 1

    def summary(self) -> "_Record":
        return self


def test_stacks_and_strategies_that_a_list_is_without_are_gone() -> None:
    told = Told()
    for name in ("kept", "deleted"):
        told.cache.stack_seen(stack(name))
        told.cache.strategies.seen(strategy(name))
    told.cache.stack_seen(stack("elsewhere", "others"))
    told.listed("trade2026.io", "tradingstacks", "kept")
    assert sorted(told.cache.stacks) == [Key("desks", "kept"), Key("others", "elsewhere")]
    assert told.stacks == [Key("desks", "deleted")]
    told.listed("trade2026.io", "strategies", "kept")
    assert len(told.cache.strategies) == 1 and told.cache.strategies.get(Key("desks", "deleted")) is None
    assert told.strategies == [Key("desks", "deleted")]


async def test_lists_that_are_read_from_the_api_server_are_told_and_watches_are_none() -> None:
    pages = {"": page("a", more="2"), "2": page("b")}
    told: list[Listed] = []

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(pages[request.query.get("continue", "")])

    app = web.Application()
    app.add_routes([web.get(SERVICES, answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with session_of(Access(url), Progress(lambda: 0.0), told.append).aiohttp_session as session:
        for query in ("watch=true", "limit=1", "limit=1&continue=2"):
            async with session.get(f"{url}{SERVICES}?{query}") as found:
                await found.json()
    await runner.cleanup()
    assert told == [Listed("", "services", "desks", named("a", "b"))]
