"""A backtest is a function of its setup: every run writes the same bytes, also one that is killed again and again."""

import hashlib
import os
import random
import subprocess
import sys
import time
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
KILLS = 10

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


def three() -> Setup:
    """The worked strategies."""
    return setup(*(strategy(name, f"trade2026.sdk.examples.{place}") for name, place in EXAMPLES.items()))


def bytes_of(directory: Path) -> dict[str, str]:
    """Every file of a run, hashed."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def events(directory: Path, topic: str) -> list[ev.AnyEvent]:
    """The events of a topic."""
    return [decode(line).data for line in (directory / f"{topic}.jsonl").read_bytes().splitlines()]


def test_three_strategies_write_the_same_bytes_in_every_run_also_when_killed_ten_times(tmp_path: Path) -> None:
    first = run(three(), tmp_path / "first")
    assert all(row["fills"] > 0 for row in first["strategies"].values()), first["strategies"]
    path = tmp_path / "setup.json"
    path.write_bytes(msgspec.json.encode(three()))
    command = [sys.executable, "-c", RUN, str(path), str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "services"), "PYTHONHASHSEED": "7"}
    rng = random.Random(11)
    for _ in range(KILLS):
        process = subprocess.Popen(command, env=environment)
        wait_for_bytes(tmp_path / "killed", process, rng.randrange(150_000))
        process.kill()
        process.wait()
    subprocess.run(command, env=environment, check=True)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "first")


def wait_for_bytes(directory: Path, process: "subprocess.Popen[bytes]", more: int) -> None:
    """Wait until the run has written so much more, or is complete."""
    log = directory / "orders.events.jsonl"
    before = log.stat().st_size if log.exists() else 0
    deadline = time.monotonic() + 60
    while process.poll() is None and (not log.exists() or log.stat().st_size < before + more):
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
