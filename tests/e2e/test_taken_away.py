"""Each store and file is taken away in turn while orders flow: it is said, nothing acknowledged is lost, it comes back."""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from bench.stack import wait_for
from tests.e2e.load import Ledger
from tests.e2e.stack import QUICKSTART, WAIT_SECONDS, Stack
from tests.e2e.verify import verify

ACCOUNT = "main"


@dataclass(frozen=True)
class Taken:
    """What is taken away, and what the stack makes of it."""

    what: str
    path: str
    """In the state directory; of several files the last."""
    said_by: str = ""
    """The service whose `/health` says that something is missing; empty where nothing needs it now."""
    said: str = ""
    """A word that it says."""
    orders: bool = True
    """Whether orders are still taken; if not, they are refused with 503 and `Retry-After`."""
    put_back: bool = True
    """Whether it comes back by hand; if not, the stack makes it again."""
    restart: str = ""
    """A release whose process dies while it is away."""


TAKEN = [
    Taken("the journal of orders", "bus/orders.events/0/segment-*.db", "oms", "is gone", orders=False),
    Taken("the journal's write-ahead log", "bus/orders.events/0/segment-*.db-wal", "oms", "log", orders=False),
    Taken("the topic of orders", "bus/orders.events", "oms", "is gone", orders=False),
    Taken("the venue's reports", "bus/venue.reports", "gateway", "is gone"),
    Taken("the topic of positions", "bus/positions", "ptrc", "positions"),
    Taken("what the venue says", "bus/market.raw", "gateway", "is gone"),
    Taken("market data", "bus/market.ticks", "normalizer", "taken away"),
    Taken("the whole bus", "bus", "oms", "is gone", orders=False),
    Taken("the history", "archive/history.db", "oms", "history", orders=False),
    Taken("the archive's folder", "archive", "oms", "history", orders=False),
    Taken("the sockets that wake readers", "bus/orders.events/0/wake", put_back=False, restart="projections"),
    Taken("every snapshot", "snapshots", put_back=False, restart="orders"),
]


class Flow:
    """Orders that fill, one after the other, until it is closed; each is repeated until it is answered."""

    def __init__(self, stack: Stack, name: str, ledger: Ledger) -> None:
        self.taken = self.refused = 0
        self._stack, self._name, self._ledger = stack, name, ledger
        self._ends = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="orders", daemon=True)

    def __enter__(self) -> "Flow":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive(), "an order was never answered"
        assert self._fault is None, repr(self._fault)

    def _run(self) -> None:
        try:
            with httpx.Client(base_url=self._stack.url("oms"), timeout=30, trust_env=False) as client:
                number = 0
                while not self._ends.wait(0.05):
                    number += self._submit(client, number)
        except BaseException as fault:
            self._fault = fault

    def _submit(self, client: httpx.Client, number: int) -> bool:
        """Whether it was answered for good."""
        name = f"{self._name}-{number}"
        order = {"symbol": "BTCUSDT", "side": "sell" if number % 2 else "buy", "quantity": 0.001}
        try:
            answer = client.post("/orders", json={**order, "order_type": "MARKET", "client_order_id": name})
        except httpx.TransportError:
            return False
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            self.refused += 1
            return False
        assert answer.status_code == 200, answer.text
        self._ledger.told(ACCOUNT, name, answer.json()["order_id"])
        self.taken += 1
        return True

    def wait_taken(self, what: str) -> None:
        """Wait until one more order is acknowledged, that was not yet under way."""
        known = self.taken
        wait_for(f"{what}: orders are taken", lambda: self.taken > known + 1, WAIT_SECONDS)

    def wait_refused(self, what: str) -> None:
        """Wait until one more order is refused."""
        known = self.refused
        wait_for(f"{what}: orders are refused", lambda: self.refused > known, WAIT_SECONDS)


@contextlib.contextmanager
def without(stack: Stack, taken: Taken) -> Iterator[None]:
    """It is not there meanwhile."""
    path = max(stack.state_dir.glob(taken.path))
    if not taken.put_back:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield
        return
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        aside.rename(path)


def missing(stack: Stack, taken: Taken) -> bool:
    """Whether the service says what is missing."""
    checks = stack.health(taken.said_by).get("checks", {})
    return any(
        check["status"] == "failed" and taken.said in f"{name} {check['detail']}" for name, check in checks.items()
    )


def unwell(stack: Stack) -> list[str]:
    """Everything that some service says is not well."""
    services = [service["name"] for release in stack.status()["releases"] for service in release["services"]]
    found = []
    for service in services:
        health = stack.health(service)
        if health.get("status") != "ok":
            found.append(f"{service}: {[check for check in health.get('checks', {}).items() if check[1]['detail']]}")
    return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The quickstart, which every test leaves whole; it was stopped once, so that there is something of everything."""
    stack = Stack(QUICKSTART, tmp_path_factory.mktemp("taken") / "state")
    try:
        stack.up()
        assert stack.submit().status_code == 200
        stack.down()
        stack.up()
        yield stack
    finally:
        stack.close()


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    """What was acknowledged in all tests."""
    return Ledger()


@pytest.mark.parametrize("taken", TAKEN, ids=[taken.what for taken in TAKEN])
def test_what_is_taken_away_is_said_and_nothing_acknowledged_is_lost(
    stack: Stack, ledger: Ledger, taken: Taken
) -> None:
    with Flow(stack, taken.what, ledger) as flow:
        flow.wait_taken("before")
        with without(stack, taken):
            if taken.restart:
                stack.wait_restarted(taken.restart, stack.kill_process(taken.restart))
            if taken.said_by:
                wait_for(f"{taken.said_by} says {taken.said!r}", lambda: missing(stack, taken), WAIT_SECONDS)
            if taken.orders:
                flow.wait_taken("meanwhile")
            else:
                flow.wait_refused("meanwhile")
        wait_for("everything is well", lambda: not unwell(stack), WAIT_SECONDS)
        flow.wait_taken("afterwards")
    verify(stack, ledger, (ACCOUNT,))
    assert not ledger.faults
