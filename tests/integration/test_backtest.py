"""A backtest is a function of its setup: every run writes the same bytes, also one that is killed again and again."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trade2026.backtest.run import BacktestError, NotReproducible, Setup, run, setup_of
from trade2026.domain import events as ev
from trade2026.domain.events import decode
from trade2026.stack.manifest import load_all

STACK = """\
apiVersion: trade2026.io/v1alpha1
kind: TradingStack
metadata: {name: tested}
spec:
  venues: [{name: SIM, type: replay, config: {scale: 56}}]
  instruments: [{symbol: BTCUSDT, venue: SIM, tickSize: "0.01", lotSize: "0.00001", makerFeeBps: 1, takerFeeBps: 5}]
"""
EXAMPLES = {
    "maker": "market_making:MarketMaking",
    "momentum": "momentum:Momentum",
    "reversion": "mean_reversion:MeanReversion",
}
TRADES = 900
DAYS = int(os.environ.get("BACKTEST_DAYS", "1"))
"""That run to their end: `make soak` takes the whole week."""
KILLS = 10
_PROGRESS_SECONDS_MAX = 900.0

RUN = """
import sys, msgspec
from pathlib import Path
from trade2026.backtest.run import Setup, run
run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Setup), Path(sys.argv[2]))
"""


def strategy(name: str, source: str, **spec: Any) -> str:
    """The document of one strategy."""
    document = {
        "apiVersion": "trade2026.io/v1alpha1",
        "kind": "Strategy",
        "metadata": {"name": name},
        "spec": {"source": {"file" if ".py" in source else "class": source}, "symbols": ["BTCUSDT"], **spec},
    }
    return msgspec.json.encode(document).decode()


def setup(*strategies: str, trades_max: int = TRADES) -> Setup:
    """Some strategies on the first trades of a day."""
    manifest = load_all("\n---\n".join([STACK, *strategies]))
    return msgspec.structs.replace(setup_of(manifest, "2013-11-27"), trades_max=trades_max)


def three(*, trades_max: int = TRADES, days: int = 1) -> Setup:
    """The worked strategies."""
    worked = (strategy(name, f"trade2026.sdk.examples.{place}") for name, place in EXAMPLES.items())
    found = setup(*worked, trades_max=trades_max)
    return msgspec.structs.replace(found, first_day="2013-11-25", days=days) if days > 1 else found


def bytes_of(directory: Path) -> dict[str, str]:
    """Every file of a run, hashed."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def events(directory: Path, topic: str) -> list[ev.AnyEvent]:
    """The events of a topic."""
    return [decode(line).data for line in (directory / f"{topic}.jsonl").read_bytes().splitlines()]


@pytest.mark.timeout(3_600)
def test_three_strategies_write_the_same_bytes_over_a_whole_day_also_when_killed_ten_times(tmp_path: Path) -> None:
    whole = three(trades_max=0, days=DAYS)
    first = run(whole, tmp_path / "first")
    assert all(row["fills"] > 100 for row in first["strategies"].values()), first["strategies"]
    path = tmp_path / "setup.json"
    path.write_bytes(msgspec.json.encode(whole))
    command = [sys.executable, "-c", RUN, str(path), str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "services"), "PYTHONHASHSEED": "7"}
    size, rng = (tmp_path / "first" / "orders.events.jsonl").stat().st_size, random.Random(11)
    for kill in range(KILLS):
        # Every run begins at the beginning, so that most are killed early: all ten cost less than two days.
        share = ((kill + rng.random()) / KILLS) ** 5
        process = subprocess.Popen(command, env=environment)
        wait_for_bytes(tmp_path / "killed", process, int(size * share))
        process.kill()
        assert process.wait() == -signal.SIGKILL, "the run was complete before it was killed"
    subprocess.run(command, env=environment, check=True)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "first")


def wait_for_bytes(directory: Path, process: "subprocess.Popen[bytes]", size: int) -> None:
    """Wait until the run has come so far."""
    log = directory / "orders.events.jsonl"
    deadline = time.monotonic() + _PROGRESS_SECONDS_MAX
    while process.poll() is None and (not log.exists() or log.stat().st_size < size):
        assert time.monotonic() < deadline, "the run does not go on"
        time.sleep(0.005)


def test_positions_and_profit_follow_from_the_fills(tmp_path: Path) -> None:
    summary = run(three(), tmp_path)
    fills = [event for event in events(tmp_path, "orders.events") if isinstance(event, ev.OrderFilled)]
    for name, row in summary["strategies"].items():
        held = sum(f.last_qty if f.side == "BUY" else -f.last_qty for f in fills if f.strategy == name)
        assert float(row["position"]["BTCUSDT.SIM"]) == pytest.approx(held / 1e9)
    assert sum(row["fills"] for row in summary["strategies"].values()) == len(fills) == summary["executions"]


def test_a_strategy_that_is_not_a_function_of_ctx_is_found_when_its_run_is_continued(tmp_path: Path) -> None:
    (tmp_path / "moody.py").write_text(
        "import itertools\nfrom trade2026.sdk import Strategy\nMOOD = itertools.count()\n"
        "class Moody(Strategy):\n    def on_trade(self, trade):\n        if next(MOOD) % 50 == 0:\n"
        "            self.ctx.buy('0.01')\n"
    )
    moody = setup(strategy("moody", str(tmp_path / "moody.py")), trades_max=120)
    run(moody, tmp_path / "run")
    log = tmp_path / "run" / "strategies.events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-2]).replace(b'"quantity":10000000', b'"quantity":20000000'))
    with pytest.raises(NotReproducible, match="was there, now"):
        run(moody, tmp_path / "run")


def test_a_failing_strategy_is_killed_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "from trade2026.sdk import Strategy\n"
        "class Broken(Strategy):\n    def on_start(self):\n        self.ctx.buy('0.01', 100)\n"
        "    def on_trade(self, trade):\n        raise ValueError('out of luck')\n"
    )
    maker = strategy("maker", "trade2026.sdk.examples.market_making:MarketMaking")
    summary = run(setup(maker, strategy("broken", str(tmp_path / "broken.py"))), tmp_path / "run")
    log = events(tmp_path / "run", "orders.events")
    assert "out of luck" in summary["strategies"]["broken"]["reason"]
    assert any(isinstance(event, ev.Killed) and event.scope == "strategy:broken" for event in log)
    (order,) = [e.order_id for e in log if isinstance(e, ev.OrderAccepted) and e.spec.strategy == "broken"]
    assert any(isinstance(event, ev.OrderCanceled) and event.order_id == order for event in log)
    assert summary["strategies"]["maker"]["fills"] > 0


@pytest.mark.parametrize(
    ("risk", "cause"),
    [
        ({"maxExecutions": {"count": 5, "per": "1d"}}, "repeated_execution"),
        ({"maxDailyLoss": "20"}, "breach"),
    ],
)
def test_a_breach_halts_a_strategy_before_its_next_order(risk: dict[str, Any], cause: str, tmp_path: Path) -> None:
    (tmp_path / "eager.py").write_text(
        "from trade2026.sdk import Strategy\n"
        "class Eager(Strategy):\n    side = 0\n    def on_trade(self, trade):\n"
        "        if not self.ctx.orders:\n            self.side = 1 - self.side\n"
        "            (self.ctx.buy if self.side else self.ctx.sell)('0.05')\n"
    )
    eager = strategy("eager", str(tmp_path / "eager.py"), risk=risk)
    summary = run(setup(eager, trades_max=200), tmp_path / "run")
    log = events(tmp_path / "run", "orders.events")
    (halt,) = [n for n, event in enumerate(log) if isinstance(event, ev.Killed)]
    assert log[halt].cause == cause  # type: ignore[union-attr]
    accepted = [n for n, event in enumerate(log) if isinstance(event, ev.OrderAccepted)]
    assert accepted
    assert max(accepted) < halt
    assert summary["strategies"]["eager"]["decisions"] == len(accepted)


@pytest.mark.parametrize(
    ("risk", "code"),
    [
        ({"maxOrderQuantity": "0.04"}, "MAX_ORDER_QUANTITY"),
        ({"maxOrderValue": "1000"}, "MAX_ORDER_VALUE"),
        ({"maxPosition": "0.04"}, "MAX_POSITION"),
        ({"maxGrossExposure": "1000"}, "CREDIT_THRESHOLD"),
        ({"maxOpenOrders": 1}, "MAX_OPEN_ORDERS"),
        ({"orderRate": {"count": 1, "per": "1d"}}, "ORDER_RATE"),
        ({"restricted": ["BTCUSDT"]}, "RESTRICTED"),
    ],
)
def test_a_ceiling_of_a_strategy_refuses_its_order_and_no_one_elses(
    risk: dict[str, Any], code: str, tmp_path: Path
) -> None:
    (tmp_path / "greedy.py").write_text(
        "from trade2026.sdk import Strategy\n"
        "class Greedy(Strategy):\n    asked = 0\n    def on_trade(self, trade):\n"
        "        if self.asked < 2:\n            self.asked += 1\n            self.ctx.buy('0.05', trade.price * 99 / 100)\n"
    )
    sources = [
        strategy(name, f"{tmp_path}/greedy.py", **spec) for name, spec in (("bound", {"risk": risk}), ("free", {}))
    ]
    run(setup(*sources, trades_max=20), tmp_path / "run")
    log = events(tmp_path / "run", "orders.events")
    refused = [event for event in log if isinstance(event, ev.OrderRefused)]
    accepted = Counter(event.spec.strategy for event in log if isinstance(event, ev.OrderAccepted))
    assert refused
    assert {(event.spec.strategy, event.reject_code) for event in refused} == {("bound", code)}
    assert accepted["free"] == 2
    assert accepted["bound"] == 2 - len(refused)


def test_a_directory_belongs_to_one_run(tmp_path: Path) -> None:
    maker = strategy("maker", "trade2026.sdk.examples.market_making:MarketMaking")
    run(setup(maker, trades_max=50), tmp_path)
    with pytest.raises(BacktestError, match="has another run"):
        run(setup(maker, trades_max=51), tmp_path)


@pytest.mark.parametrize(("day", "said"), [("2014-01-01", "no trade is recorded"), ("yesterday", "is no day")])
def test_a_day_that_is_not_recorded_is_refused_with_those_that_are(day: str, said: str, tmp_path: Path) -> None:
    maker = strategy("maker", "trade2026.sdk.examples.market_making:MarketMaking")
    with pytest.raises(BacktestError, match=said):
        run(msgspec.structs.replace(setup(maker), first_day=day), tmp_path)


def test_days_beyond_the_recording_are_refused(tmp_path: Path) -> None:
    maker = strategy("maker", "trade2026.sdk.examples.market_making:MarketMaking")
    for days in (2, 4_000_000):
        with pytest.raises(BacktestError, match="go beyond the recording; it has 2013-11-25 to 2013-12-01"):
            run(msgspec.structs.replace(setup(maker), first_day="2013-12-01", days=days), tmp_path)
