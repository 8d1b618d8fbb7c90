"""Each store and file is taken away in turn while orders flow: it is said, nothing acknowledged is lost, it comes back."""

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from bench.stack import wait_for
from tests.e2e.load import Ledger
from tests.e2e.stack import QUICKSTART, WAIT_SECONDS, Stack
from tests.e2e.verify import verify

ACCOUNT = "main"
PARENT = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "algo": "market", "account": "worked"}
QUICK_LAKE = "  services: {sink-ticks: {config: {batch_seconds: 0.2, compact_minutes: 0.01}}}\n"
TIGHTER = {"scope": "account:nobody", "limits": {"maxOrderQuantity": "1"}, "reason": "to be written"}


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
    restart: tuple[str, ...] = ()
    """Releases whose processes die while it is away."""
    asked: tuple[str, str, dict[str, object]] | None = None
    """Service, path and body of what nobody else asks for: it is refused with 503 meanwhile, and taken afterwards."""


TAKEN = [
    Taken("the journal of orders", "bus/orders.events/0/segment-*.db", "oms", "is gone", orders=False),
    Taken("the journal's write-ahead log", "bus/orders.events/0/segment-*.db-wal", "oms", "log", orders=False),
    Taken("the topic of orders", "bus/orders.events", "oms", "is gone", orders=False),
    Taken("the venue's reports", "bus/venue.reports", "gateway", "is gone"),
    Taken("the topic of positions", "bus/positions", "ptrc", "positions"),
    Taken("what the venue says", "bus/market.raw", "gateway", "is gone"),
    Taken("market data", "bus/market.ticks", "normalizer", "taken away"),
    Taken("the whole bus", "bus", "oms", "is gone", orders=False),
    Taken("the journal of parents", "bus/exeq.events", "exeq", "log", asked=("exeq", "/parents", PARENT)),
    Taken("the journal of strategies", "bus/strategies.events", "strategies", "log"),
    Taken("the journal of risk", "bus/risk.events", "risk", "log", asked=("risk", "/limits/tighten", TIGHTER)),
    Taken("bars", "bus/market.bars", "normalizer", "market.bars"),
    Taken("the history", "archive/history.db", "oms", "history", orders=False),
    Taken("the archive's folder", "archive", "oms", "history", orders=False),
    Taken("the sockets that wake readers", "bus/orders.events/0/wake", put_back=False, restart=("projections",)),
    Taken("every snapshot", "snapshots", put_back=False, restart=("orders", "venue", "risk", "projections", "data")),
    Taken("the settings", "run/orders.json", put_back=False, restart=("orders",)),
    Taken("the folder of sockets and settings", "run", put_back=False, restart=("venue",)),
    Taken("the lock", "lock", put_back=False),
    Taken("the socket of the runner", "run/control.sock", put_back=False),
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


def delete(path: Path) -> None:
    """It is not there any more, at once: somebody may be writing in it."""
    gone = path.rename(path.with_name(f"{path.name}.gone"))
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()


@contextlib.contextmanager
def without(stack: Stack, taken: Taken) -> Iterator[None]:
    """It is not there meanwhile."""
    path = max(stack.state_dir.glob(taken.path))
    if not taken.put_back:
        delete(path)
        yield
        return
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            delete(path)
        aside.rename(path)


def missing(stack: Stack, taken: Taken) -> bool:
    """Whether the service says what is missing."""
    checks = stack.health(taken.said_by).get("checks", {})
    return any(
        check["status"] == "failed" and taken.said in f"{name} {check['detail']}" for name, check in checks.items()
    )


def ask(stack: Stack, asked: tuple[str, str, dict[str, object]]) -> int:
    """What is answered."""
    service, path, body = asked
    return stack.http(service).post(path, json=body).status_code


def unwell(stack: Stack) -> list[str]:
    """Everything that some service says is not well."""
    releases = stack.status().get("releases", [])
    services = [service["name"] for release in releases for service in release["services"]]
    found = [] if services else ["the runner does not answer"]
    for service in services:
        health = stack.health(service)
        if health.get("status") != "ok":
            found.append(f"{service}: {[check for check in health.get('checks', {}).items() if check[1]['detail']]}")
    return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The quickstart, which every test leaves whole; it was stopped once, so that there is something of everything."""
    directory = tmp_path_factory.mktemp("taken")
    quickstart, mark, strategies = QUICKSTART.read_text().partition("\n---\n")
    (directory / "stack.yaml").write_text(f"{quickstart}\n{QUICK_LAKE}{mark}{strategies}")
    stack = Stack(directory / "stack.yaml", directory / "state")
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
        pids = stack.pids()
        with without(stack, taken):
            for release in taken.restart:
                os.kill(pids[release], signal.SIGKILL)
            for release in taken.restart:
                stack.wait_restarted(release, pids[release])
            if taken.asked:
                assert ask(stack, taken.asked) == 503
            if taken.said_by:
                wait_for(f"{taken.said_by} says {taken.said!r}", lambda: missing(stack, taken), WAIT_SECONDS)
            if taken.orders:
                flow.wait_taken("meanwhile")
            else:
                flow.wait_refused("meanwhile")
        wait_for("everything is well", lambda: not unwell(stack), WAIT_SECONDS)
        flow.wait_taken("afterwards")
    if taken.asked:
        assert ask(stack, taken.asked) == 200
    verify(stack, ledger, (ACCOUNT,))
    assert not ledger.faults


# ── stores that are folds of the log ────────────────────────────────────────────────────────────────


def replace(path: Path) -> None:
    """Another file of the same name."""
    aside = path.with_name("garbage")
    aside.write_bytes(os.urandom(20_000))
    aside.replace(path)


def add_garbage(snapshots: Path) -> None:
    """A snapshot that is none, newer than those that are there."""
    snapshots.mkdir(parents=True, exist_ok=True)
    (snapshots / f"{10**18:020d}.snapshot").write_bytes(os.urandom(1_000))


@dataclass(frozen=True)
class Harmed:
    """What becomes of a store that its service makes again from the log."""

    what: str
    path: str
    harm: Callable[[Path], None]
    between: bool = False
    """Between two lives of the process, not while it runs."""
    said: str = ""
    """By some check of the service's `/health`; empty where nothing is known of the store that was there."""
    service: str = "questdb_writer"


SERIES, LAKE, LOG = "timeseries/series.duckdb", "lake", "lake/ticks/_delta_log"
HARMED = [
    Harmed("the time series are deleted", SERIES, delete, said="is made again from the log"),
    Harmed("the time series are replaced", SERIES, replace, said="is made again from the log"),
    Harmed("the time series are replaced before a start", SERIES, replace, True, "is made again from the log"),
    Harmed("the time series are gone at a start", SERIES, delete, True),
    Harmed("the lake is deleted", LAKE, delete, said="made again from record 0", service="sink-ticks"),
    Harmed("the lake is gone at a start", LAKE, delete, True, service="sink-ticks"),
    Harmed("a table's log is deleted", LOG, delete, said="made again from record 0", service="sink-ticks"),
    Harmed("a snapshot of the cache is garbage", "snapshots/hot_cache", add_garbage, True, "header", "hot_cache"),
]


def says(stack: Stack, service: str, words: str) -> bool:
    """Whether a check has these words, failed or not."""
    return any(words in check["detail"] for check in stack.health(service).get("checks", {}).values())


def lacks(stack: Stack, ledger: Ledger) -> str:
    """What the stores do not have: each order that was acknowledged, each trade of the log once; a price of now."""
    answer = stack.http("questdb_writer").get("/query/orders", params={"account": ACCOUNT, "limit": 10_000})
    rows = answer.json().get("rows", [])
    if set(ledger.orders.values()) - {row["order_id"] for row in rows}:
        return f"orders in the time series: {answer.status_code}"
    answer = stack.http("sink-ticks").get("/query/ticks", params={"limit": 10_000})
    found = [row["seq"] for row in answer.json().get("rows", [])]
    if not found or found != list(range(len(found))):
        return f"trades in the lake: {answer.status_code} {answer.text[:200]}"
    answer = stack.http("hot_cache").get("/keys", params={"prefix": "price", "limit": 1})
    return "" if answer.status_code == 200 else f"prices in the cache: {answer.status_code}"


@pytest.mark.parametrize("harmed", HARMED, ids=[harmed.what for harmed in HARMED])
def test_a_store_that_is_harmed_is_made_again_from_the_log(stack: Stack, ledger: Ledger, harmed: Harmed) -> None:
    path = stack.state_dir / harmed.path
    with Flow(stack, harmed.what, ledger) as flow:
        flow.wait_taken("before")
        if harmed.harm is not add_garbage:
            wait_for("there is something to harm", path.exists, WAIT_SECONDS)
        if harmed.between:
            pid = stack.kill_process("data", signal.SIGSTOP)
            harmed.harm(path)
            stack.wait_restarted("data", stack.kill_process("data"))
            assert pid not in stack.pids().values()
        else:
            harmed.harm(path)
        if harmed.said:
            wait_for(f"{harmed.service} says it", lambda: says(stack, harmed.service, harmed.said), WAIT_SECONDS)
        flow.wait_taken("afterwards")
    wait_for("the stores are whole", lambda: not lacks(stack, ledger), WAIT_SECONDS)


def test_a_data_file_of_the_lake_that_is_gone_is_said_with_what_to_do(stack: Stack, ledger: Ledger) -> None:
    lost = max(stack.state_dir.glob("lake/ticks/date=*/*/*.parquet"), key=lambda path: path.stat().st_size)
    aside = lost.rename(stack.state_dir / lost.name)
    answer = stack.http("sink-ticks").get("/query/ticks", params={"limit": 10_000})
    assert answer.status_code == 503
    assert "restore this file, or move the table's folder away" in answer.text
    wait_for("upkeep says it", lambda: says(stack, "sink-ticks", "restore this file"), WAIT_SECONDS)
    aside.rename(lost)
    wait_for("upkeep has forgotten it", lambda: not says(stack, "sink-ticks", "restore this file"), WAIT_SECONDS)
    wait_for("the stores are whole", lambda: not lacks(stack, ledger), WAIT_SECONDS)
