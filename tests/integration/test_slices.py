"""Limits that span partitions, in a whole stack of four: all of a limit can be used from anywhere, and never more."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from one_process import OneProcess
from tests.checker import read_orders
from tests.checker_limits import over_spanning_limits

from trade2026.controls.limits import LimitBook, LimitSet, Rate
from trade2026.domain.shards import partition_of
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.kit.settings import ProcessSettings
from trade2026.oms import slice_requests
from trade2026.oms.replay import verify
from trade2026.oms.slice_requests import SliceRequests
from trade2026.stack.facts import TOPICS

P = 4
ACCOUNTS = [{partition_of(name, P): name for name in map("account{}".format, range(40))}[n] for n in range(P)]
BY_ACCOUNT = {topic.name for topic in TOPICS if topic.by_account}
OPEN_MAX = 10
BOOK = LimitBook(
    stack=LimitSet(max_open_orders=OPEN_MAX),
    strategy_default=LimitSet(max_gross_exposure=1_000 * 10**9, max_executions=Rate(count=5, per_ns=3_600 * 10**9)),
)


def split(settings: ProcessSettings) -> ProcessSettings:
    topics = [
        msgspec.structs.replace(topic, partitions=P if topic.name in BY_ACCOUNT else 1) for topic in settings.topics
    ]
    return msgspec.structs.replace(settings, topics=topics, risk=msgspec.Raw(msgspec.json.encode(BOOK)))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No order is refused because the machine is slow."""
    monkeypatch.setattr(SliceRequests, "seconds_max", 60.0)
    monkeypatch.setattr(SliceRequests, "answer_seconds_max", 30.0)
    monkeypatch.setattr(slice_requests, "_NOTHING_SECONDS", 0.0)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[OneProcess]:
    with OneProcess(tmp_path / "state", services=("oms", "gateway", "normalizer", "risk"), change=split) as stack:
        yield stack


def place(stack: OneProcess, account: int, **terms: Any) -> Any:
    body = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "price": "40000", "account": ACCOUNTS[account]}
    return stack.call("oms", "POST", "/orders", {**body, **terms})


def codes(answers: list[Any]) -> list[str]:
    return [answer.json.get("reject_code", "") for answer in answers]


def halted(stack: OneProcess) -> bool:
    """Whether the strategy is stopped in every partition for what it has executed."""
    answers = [place(stack, account, strategy="mm") for account in range(P)]
    return all("executed more than 5 times" in answer.json.get("detail", "") for answer in answers)


async def check(stack: OneProcess) -> None:
    """The logs together keep the limits at every moment, and each decision can be taken again."""
    bus = SqliteBus(stack.state / "bus", stack.settings.topics)
    try:
        logs = [await read_orders(bus, partition) for partition in range(P)]
        assert over_spanning_limits([log.envelopes for log in logs], BOOK) == []
        for partition in range(P):
            found = await verify(bus, stack.settings, partition)
            assert found.agrees, found.differences
    finally:
        await bus.close()


def test_one_account_can_use_all_of_the_stacks_limit_and_others_get_it_when_it_lets_go(stack: OneProcess) -> None:
    placed = [place(stack, 2) for _ in range(OPEN_MAX)]
    assert codes(placed) == [""] * OPEN_MAX
    for account in range(P):
        refused = place(stack, account)
        assert (refused.status, refused.json["reject_code"]) == (422, "MAX_OPEN_ORDERS")
    assert "of 10 are for this partition's accounts now" in refused.json["detail"]
    shown = stack.call("risk", "GET", "/slices").json
    (stack_view,) = [each for each in shown["limits"] if each["scope"] == "stack"]
    assert (shown["partitions"], stack_view["limit"], stack_view["whole"]) == (P, "max_open_orders", "10")
    assert [each["used"] for each in stack_view["slices"]] == ["0", "0", "10", "0"]
    for answer in placed[:6]:
        assert stack.call("oms", "DELETE", f"/orders/{answer.json['order_id']}").status == 200

    def all_let_go() -> bool:
        return stack.call("risk", "GET", "/exposure").json["open_orders"] == OPEN_MAX - 6

    stack.wait_until(all_let_go, "risk knows that they are cancelled")
    assert codes([place(stack, 0) for _ in range(6)]) == [""] * 6
    assert place(stack, 3).json["reject_code"] == "MAX_OPEN_ORDERS"
    asyncio.run(check(stack))


def test_many_at_once_from_everywhere_never_exceed_the_limit_and_a_batch_waits_as_single_orders_do(
    stack: OneProcess,
) -> None:
    orders = [{"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "price": "40000", "account": ACCOUNTS[1]}] * 6
    answer = stack.call("oms", "POST", "/orders/batch", {"orders": orders})
    assert [each["status"] for each in answer.json["results"]] == ["PendingNew"] * 6
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: place(stack, n % P), range(24)))
    assert {answer.status for answer in answers} <= {200, 422}
    accepted = codes(answers).count("")
    assert 0 < accepted <= OPEN_MAX - 6
    asyncio.run(check(stack))


def test_the_value_that_a_strategy_may_have_open_is_shared_out_in_the_same_way(stack: OneProcess) -> None:
    terms = {"strategy": "mm", "quantity": "0.01"}  # 400 of 1,000, more than a fourth
    assert codes([place(stack, account, **terms) for account in (0, 3, 1)]) == ["", "", "CREDIT_THRESHOLD"]
    assert codes([place(stack, 1, **{**terms, "strategy": "another"})]) == [""]
    asyncio.run(check(stack))


def test_a_strategy_that_executes_too_often_over_all_its_accounts_is_halted_in_all_of_them(stack: OneProcess) -> None:
    for number in range(6):
        answer = place(stack, number % P, strategy="mm", price="60000", quantity="0.0001")
        assert answer.status == 200, answer.json

    stack.wait_until(lambda: halted(stack), "it is halted everywhere")
    assert place(stack, 0, strategy="other").status == 200


def test_a_restart_of_risk_gives_no_fresh_executions(tmp_path: Path) -> None:
    services = ("oms", "gateway", "normalizer", "risk")

    def execute(stack: OneProcess, numbers: range) -> None:
        for number in numbers:
            answer = place(stack, number % P, strategy="mm", price="60000", quantity="0.0001")
            assert answer.status == 200, answer.json
            path = f"/orders/{answer.json['order_id']}"
            stack.wait_until(
                lambda path=path: stack.call("oms", "GET", path).json["status"] == "Filled", "it is filled"
            )

    with OneProcess(tmp_path / "state", services=services, change=split) as stack:
        execute(stack, range(4))
    with OneProcess(tmp_path / "state", services=services, change=split) as stack:
        execute(stack, range(2))

        stack.wait_until(lambda: halted(stack), "it is halted everywhere")


def test_without_risk_every_partition_keeps_to_its_own_part(tmp_path: Path) -> None:
    with OneProcess(tmp_path / "state", services=("oms", "gateway", "normalizer"), change=split) as stack:
        found = [codes([place(stack, account) for _ in range(4)]).count("") for account in range(P)]
        assert found == [3, 3, 2, 2]
        asyncio.run(check(stack))


def test_an_amendment_and_a_list_wait_for_a_larger_slice_as_an_order_does(stack: OneProcess) -> None:
    orders = [{"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "price": "40000", "account": ACCOUNTS[1]}] * 6
    for kind, status in (("OCO", 200), ("OCO", 422)):  # 6 of 10, and 6 of the 4 that are left
        answer = stack.call("oms", "POST", "/orders/list", {"kind": kind, "orders": orders})
        assert answer.status == status, answer.json
    assert answer.json["reject_code"] == "MAX_OPEN_ORDERS"
    placed = place(stack, 2, strategy="mm")
    assert placed.status == 200, placed.json
    path = f"/orders/{placed.json['order_id']}"
    for quantity, status in (("0.02", 200), ("0.03", 422)):  # 800 of 1,000, 1,200 of 1,000
        stack.wait_until(
            lambda: stack.call("oms", "GET", path).json["status"] == "New", "the venue has it as it is to be"
        )
        answer = stack.call("oms", "PATCH", path, {"quantity": quantity})
        assert answer.status == status, answer.json
    assert answer.json["reject_code"] == "CREDIT_THRESHOLD"
    asyncio.run(check(stack))
