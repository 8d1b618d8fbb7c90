"""What an HPA is answered: a number while it is fresh, else an error, and never 0 for what nobody knows."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026_operator.helm.releases import REPLICAS_METRIC
from trade2026_operator.slo import external_metrics as documents
from trade2026_operator.slo.board import STALE_SECONDS, Answer, Board, NotKnown, Target, read
from trade2026_operator.slo.metrics_server import MetricsServer
from trade2026_operator.slo.openmetrics import demand_lines

DESK = Target("trading", "desk", "oms")


def board_with(answer: Answer) -> Board:
    board = Board()
    board.put(DESK, answer)
    return board


@given(st.floats(0, STALE_SECONDS))
def test_what_is_fresh_is_told_and_what_is_stale_is_an_error(age: float) -> None:
    board = board_with(Answer(2.4, "", at=100.0))
    assert board.asked(DESK, 100.0 + age) == 2.4
    with pytest.raises(NotKnown, match="s old"):
        board.asked(DESK, 100.0 + STALE_SECONDS + 1 + age)


def test_what_is_not_known_or_not_there_is_an_error_with_a_reason() -> None:
    board = board_with(Answer(None, "a full window is not there yet", at=0.0))
    with pytest.raises(NotKnown, match="oms: a full window"):
        board.asked(DESK, 1.0)
    with pytest.raises(NotKnown, match="no release pnl of desk"):
        board.asked(DESK._replace(release="pnl"), 1.0)
    board.keep_only([])
    with pytest.raises(NotKnown, match="no release oms"):
        board.asked(DESK, 1.0)


@given(st.floats(0, 1e4), st.floats(0, 25), st.floats(-1e6, 1e6))
def test_ages_travel_so_that_no_clock_is_compared(replicas: float, age: float, elsewhere: float) -> None:
    text = board_with(Answer(replicas, "", at=50.0)).text(50.0 + age)
    there = read(text, elsewhere)
    assert there.asked(DESK, elsewhere + 1) == replicas
    with pytest.raises(NotKnown):
        there.asked(DESK, elsewhere + STALE_SECONDS - age + 1e-3 + 1e-6 * abs(elsewhere))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"namespace": "a"}]', '[{"namespace":"a","stack":"b","release":"c","replicas":-1,"why":"","age_seconds":0}]'])  # fmt: skip
def test_what_is_no_board_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read(text, 0.0)


@given(st.floats(0, 1e5))
def test_thousandths_are_rounded_up_and_no_more(replicas: float) -> None:
    found = documents.value_list(REPLICAS_METRIC, {}, replicas, datetime(2026, 3, 4, tzinfo=UTC))["items"][0]
    assert found["timestamp"] == "2026-03-04T00:00:00Z"
    value = Decimal(found["value"].removesuffix("m")) / 1000
    assert -1e-6 <= float(value) - replicas <= 0.001 + 1e-6


@pytest.mark.parametrize("selector", ["release", "release!=oms", "release in (oms)", "!release", "=oms"])
def test_only_equality_is_understood(selector: str) -> None:
    with pytest.raises(ValueError, match="NAME=VALUE"):
        documents.equals(selector)


@pytest.fixture
async def asked() -> AsyncIterator[tuple[MetricsServer, str]]:
    """A server without TLS."""
    server = MetricsServer(REPLICAS_METRIC, time=lambda: 100.0)
    await server.listen(0, None, 0)
    from aiohttp.test_utils import TestServer

    async with TestServer(server.app()) as made:
        yield server, f"http://127.0.0.1:{made.port}"
    await server.close()


async def get(url: str) -> tuple[int, dict[str, object]]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, json.loads(await answer.text())


async def test_an_autoscaler_is_answered(asked: tuple[MetricsServer, str]) -> None:
    server, url = asked
    place = f"{url}{documents.ROOT}/namespaces/trading/{REPLICAS_METRIC}"
    status, told = await get(f"{place}?labelSelector=release%3Doms%2Cstack%3Ddesk")
    assert (status, told["kind"], told["reason"]) == (503, "Status", "ServiceUnavailable")
    server.heard(board_with(Answer(2.4, "", at=99.0)))
    status, told = await get(f"{place}?labelSelector=release%3Doms%2Cstack%3Ddesk")
    assert (status, told["items"][0]["value"]) == (200, "2400m")  # type: ignore[index]
    for wrong, code in (("", 400), ("?labelSelector=stack%3Ddesk", 400), ("x?labelSelector=stack%3Ddesk", 404)):
        assert (await get(place + wrong))[0] == code


async def test_its_discovery_names_one_metric_that_can_only_be_read(asked: tuple[MetricsServer, str]) -> None:
    _, url = asked
    _, groups = await get(f"{url}/apis")
    assert groups["groups"] == [(await get(f"{url}/apis/{documents.GROUP}"))[1]]
    _, resources = await get(f"{url}{documents.ROOT}")
    (resource,) = resources["resources"]  # type: ignore[misc]
    assert (resource["name"], resource["namespaced"], resource["verbs"]) == (REPLICAS_METRIC, True, ["get"])


def test_prometheus_sees_what_is_known_and_no_zero_for_the_rest() -> None:
    board = board_with(Answer(2.4, "", at=0.0))
    board.put(DESK._replace(release="exeq"), Answer(None, "missing", at=0.0))
    lines = list(demand_lines(board, 1.0))
    assert lines[2:] == ['trade2026_required_replicas{namespace="trading",stack="desk",release="oms"} 2.400']
