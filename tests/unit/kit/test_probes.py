"""What every service reports of itself."""

import json
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient

from trade2026.kit.http import App, Request, Response, json_response
from trade2026.kit.metrics import Metrics
from trade2026.kit.probes import Heartbeat, Lifecycle, add_standard_routes


class Behind:
    """A service that follows something, or nothing."""

    name, title = "behind", "Behind"

    def __init__(self, stats: dict[str, Any]) -> None:
        self._stats = stats

    def stats(self) -> dict[str, Any]:
        return self._stats


def scraped(stats: dict[str, Any], *, started: bool = True) -> str:
    registry = Metrics()
    life = Lifecycle(Behind(stats))  # type: ignore[arg-type]
    life.started = started
    add_standard_routes(App("behind", metrics=registry), life, Heartbeat(), registry)
    return registry.text()


def test_the_lag_of_a_service_is_a_metric() -> None:
    assert 'trade2026_lag_events{service="behind"} 7\n' in scraped({"lag": 7})


def test_what_follows_nothing_or_has_not_started_is_not_behind() -> None:
    assert 'trade2026_lag_events{service="behind"} 0\n' in scraped({})
    assert 'trade2026_lag_events{service="behind"} 0\n' in scraped({"lag": 7}, started=False)


class Reading:
    """A service that is as ready as it is told."""

    title = "Reading"

    def __init__(self, name: str, ready: bool) -> None:
        self.name, self.ready = name, ready

    def readiness(self) -> tuple[bool, str]:
        return self.ready, "ready" if self.ready else "folded 3 of 9 events"

    def stats(self) -> dict[str, Any]:
        return {}


async def probed(path: str, *, second_started: bool = True, second_ready: bool = True) -> tuple[int, str]:
    lives: list[Lifecycle] = []
    for name, started, ready in (("one", True, True), ("two", second_started, second_ready)):
        lives.append(Lifecycle(Reading(name, ready), process=lambda: lives))  # type: ignore[arg-type]
        lives[-1].started = started
    registry = Metrics()
    app = App("one", metrics=registry)
    add_standard_routes(app, lives[0], Heartbeat(), registry)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://127.0.0.1") as client:
        answer = await client.get(path)
    return answer.status_code, json.loads(answer.content)["detail"]


async def test_a_service_is_ready_whatever_shares_its_process() -> None:
    assert await probed("/readyz", second_ready=False) == (200, "")
    assert await probed("/startupz", second_started=False) == (200, "")


async def test_a_process_is_ready_with_all_of_its_services() -> None:
    assert await probed("/readyz?of=process") == (200, "")
    assert await probed("/readyz?of=process", second_ready=False) == (503, "two: folded 3 of 9 events")


async def test_a_process_has_started_with_all_of_its_services() -> None:
    assert await probed("/startupz?of=process", second_ready=False) == (200, "")
    assert await probed("/startupz?of=process", second_started=False, second_ready=False) == (
        503, "two: starting: folded 3 of 9 events",
    )  # fmt: skip


async def test_a_request_that_another_replica_has_sent_on_is_counted_by_that_one() -> None:
    registry = Metrics()
    app = App("oms", metrics=registry)
    add_standard_routes(app, Lifecycle(Reading("oms", ready=True)), Heartbeat(), registry)  # type: ignore[arg-type]

    @app.route("GET", "/orders")
    async def orders(request: Request) -> Response:
        return json_response([], 503)

    async with AsyncClient(transport=ASGITransport(app), base_url="http://127.0.0.1") as client:
        for hop in ({}, {"x-trade2026-hop": "1"}, {"x-trade2026-hop": "1"}):
            assert (await client.get("/orders", headers=hop)).status_code == 503
    text = registry.text()
    assert 'trade2026_request_errors_total{service="oms"} 1\n' in text
    route = 'method="GET",route="/orders"'
    assert 'trade2026_request_seconds_count{service="oms"} 1\n' in text
    assert f'trade2026_http_request_seconds_count{{{route},service="oms"}} 1\n' in text
    assert f'trade2026_http_request_seconds_count{{forwarded="true",{route},service="oms"}} 2\n' in text


@pytest.mark.parametrize("path", ["/readyz?of=pod", "/startupz?of="])
async def test_another_word_than_process_is_refused(path: str) -> None:
    assert (await probed(path))[0] == 422
