"""A strategy that does not return is ended where it stands, and no other; one that can't be ended names itself."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trade2026.domain.events import Envelope
from trade2026.domain.market import Trade as Print
from trade2026.domain.numbers import SCALE
from trade2026.sdk import Parameters, Strategy, Trade
from trade2026.sdk.hosted import Definition, Hosted
from trade2026.sdk.testing import BTCUSDT, EPOCH
from trade2026.strategies import watchdog
from trade2026.strategies.watchdog import EXIT_CODE, Hung, HungStrategies, Watchdog


class Endless(Strategy[Parameters]):
    def on_trade(self, trade: Trade) -> None:
        self.ctx.buy(1, trade.price)
        while True:
            pass


class Stubborn(Strategy[Parameters]):
    """Swallows every exception that is one."""

    def on_trade(self, trade: Trade) -> None:
        while True:
            try:
                while True:
                    pass
            except Exception:
                continue


class Waiting(Strategy[Parameters]):
    def on_trade(self, trade: Trade) -> None:
        threading.Event().wait(3_600)


class Diligent(Strategy[Parameters]):
    """Computes often, but never for long."""

    def on_trade(self, trade: Trade) -> None:
        sum(range(1_000))


def hosted(make: type[Strategy[Parameters]]) -> Hosted:
    one = Hosted(make, Definition(name=make.__name__.lower(), account="main", instruments=["BTCUSDT.SIM"]), [BTCUSDT])
    one.start(EPOCH)
    return one


def print_at(ts: int) -> Envelope:
    event = Print(instrument="BTCUSDT.SIM", trade_id="1", price=100 * SCALE, quantity=SCALE, ts_recv=ts)
    return Envelope(0, 1, ts, ts, "desk", "local", "", "", "", event)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.02)


def fail_if_hung(one: Hosted) -> None:
    raise AssertionError(f"{one.definition.name} can be ended")


@pytest.mark.parametrize("make", [Endless, Stubborn, Waiting])
def test_a_method_that_does_not_return_fails_its_strategy_and_leaves_no_decision(
    make: type[Strategy[Parameters]],
) -> None:
    one, other = hosted(make), hosted(Diligent)
    watching = Watchdog(lambda: (one, other), 0.1, fail_if_hung)
    watching.start()
    try:
        for each in (one, other):
            each.deliver(print_at(EPOCH + 1))
    finally:
        watching.stop()
    assert (one.status, one.reason) == ("failed", "on_trade did not return within 0.1 s")
    assert (other.status, one.take(), list(one.ctx.orders)) == ("running", [], [])


def test_many_short_calls_are_not_one_long_one() -> None:
    one = hosted(Diligent)
    watching = Watchdog(lambda: (one,), 0.1, fail_if_hung)
    watching.start()
    try:
        end = time.process_time() + 0.5
        ts = EPOCH
        while time.process_time() < end:
            ts += 1
            one.deliver(print_at(ts))
    finally:
        watching.stop()
    assert one.status == "running"


UNENDABLE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_watchdog import *

class Unendable(Strategy):
    def on_trade(self, trade):
        while True:
            try:
                while True:
                    pass
            except BaseException:
                continue

watchdog.LOOK_SECONDS = 0.02
one, file = hosted(Unendable), HungStrategies(Path(sys.argv[1]))
Watchdog(lambda: (one,), 0.1, lambda it: file.end_process(it.definition.name, "code-1", it.calling or "on_trade")).start()
one.deliver(print_at(EPOCH + 1))
"""


def test_a_method_that_can_not_be_ended_ends_the_process_and_its_strategy_is_named(tmp_path: Path) -> None:
    path = tmp_path / "strategies" / "hung.json"
    command = [sys.executable, "-c", UNENDABLE, str(path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == EXIT_CODE, done.stderr
    assert HungStrategies(path).read() == {
        "unendable": Hung(
            "code-1",
            "on_trade did not return and could not be ended, so all strategies had to begin again; mend its code",
        )
    }


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{"])
def test_a_file_that_is_not_there_or_can_not_be_read_names_nobody(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "hung.json"
    if content is not None:
        path.write_bytes(content)
    assert HungStrategies(path).read() == {}
