"""The client of notebooks, against a stack that answers from a table."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.unit.cli.conftest import FakeStack, stack

from trade2026.cli.output import REFUSED, UNREACHABLE, CliError
from trade2026.client import Columns, Desk

__all__ = ["stack"]

T0, T1 = "2026-01-31T09:30:00.000000Z", "2026-01-31T09:31:00.000000Z"
MOMENT = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
INSTRUMENTS = {"instruments": [{"symbol": "ETHUSDT.SIM"}, {"symbol": "BTCUSDT.ALT"}, {"symbol": "BTCUSDT.SIM"}]}


@pytest.fixture
def desk(stack: FakeStack) -> Desk:
    stack.answers["GET /instruments"] = (200, INSTRUMENTS)
    running = stack.state.running()
    stack.state.write_running({**running, "ports": {**running["ports"], "questdb": running["ports"]["oms"]}})
    return Desk(stack.state.path)


def bar(close: str) -> dict[str, Any]:
    amounts = dict.fromkeys(("open", "high", "low", "volume", "value"), "1.5")
    return {
        "time": T0,
        "end": T1,
        **amounts,
        "close": close,
        "trades": 3,
        "missing": 0,
        "shifted": 0,
        "uncertain": True,
    }


def exec_path(sql: str) -> str:
    return f"GET /exec?{urlencode({'query': sql})}"


def test_bars_of_every_page_come_as_columns_of_times_and_numbers(stack: FakeStack, desk: Desk) -> None:
    stack.answers["GET /bars/ALT/BTCUSDT/1m?limit=1000"] = (200, {"bars": [bar("1"), bar("2")], "cursor": "7"})
    stack.answers["GET /bars/ALT/BTCUSDT/1m?limit=1000&cursor=7"] = (200, {"bars": [bar("2.25")], "cursor": None})
    found = desk.bars("BTCUSDT")
    assert found["close"] == [1.0, 2.0, 2.25]
    assert (found["time"][0], found["trades"][0], found.rows) == (MOMENT, 3, 3)
    assert (found["shifted"][0], found["uncertain"][0]) == (0, True)


def test_a_full_name_and_an_interval_of_time_are_asked_for_as_they_are(stack: FakeStack, desk: Desk) -> None:
    path = f"GET /bars/SIM/BTCUSDT/1s?{urlencode({'limit': 1000, 'from': T0, 'to': T1})}"
    stack.answers[path] = (200, {"bars": [], "cursor": None})
    assert desk.bars("BTCUSDT.SIM", "1s", start=T0, end=T1).rows == 0


def test_a_query_gives_its_columns_in_their_order_with_times_as_times(stack: FakeStack, desk: Desk) -> None:
    columns = [{"name": "timestamp", "type": "TIMESTAMP"}, {"name": "side", "type": "SYMBOL"}]
    answer = {"columns": columns, "dataset": [[T0, "BUY"], [None, None]], "count": 2}
    stack.answers[exec_path("SELECT 1")] = (200, answer)
    found = desk.query("SELECT 1")
    assert dict(found) == {"timestamp": [MOMENT, None], "side": ["BUY", None]}
    assert repr(found) == "Columns(timestamp, side; 2 rows)"


def test_names_in_a_query_for_fills_cannot_change_it(stack: FakeStack, desk: Desk) -> None:
    with pytest.raises(CliError):
        desk.fills(account="x' OR 'a' = 'a", strategy="mm", symbol="BTCUSDT")
    asked = next(path for path, _ in stack.asked if path.startswith("GET /exec"))
    where = "WHERE account = 'x'' OR ''a'' = ''a' AND strategy = 'mm' AND symbol = 'BTCUSDT.ALT' ORDER BY seq"
    assert asked.endswith(urlencode({"": where})[1:])


def test_an_equity_curve_is_numbers_over_time(stack: FakeStack, desk: Desk) -> None:
    points = [{"time": T0, "equity": "-1.5", "drawdown": "1.5"}]
    stack.answers["GET /pnl/maker/series?limit=7200"] = (200, {"points": points})
    assert dict(desk.equity("maker")) == {"time": [MOMENT], "equity": [-1.5], "drawdown": [1.5]}


def test_newest_values_come_by_key_and_what_is_not_known_is_left_out(stack: FakeStack, desk: Desk) -> None:
    stack.answers["POST /mget"] = (200, {"values": [{"key": "a", "value": {"price": "1"}}, None]})
    assert desk.latest("a", "b") == {"a": {"price": "1"}}
    assert stack.asked[-1] == ("POST /mget", {"keys": ["a", "b"]})


def test_columns_become_a_data_frame(desk: Desk) -> None:
    frame = Columns({"time": [MOMENT], "close": [1.5]}).pandas("time")
    assert list(frame.columns) == ["close"]
    assert frame.index[0] == MOMENT
    assert str(frame["close"].dtype) == "float64"


def test_a_stack_is_found_by_its_directory_the_environment_or_its_ports(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stack.answers["GET /instruments"] = (200, INSTRUMENTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRADE2026_STATE_DIR", str(stack.state.path))
    assert len(Desk().instruments()) == 3
    monkeypatch.delenv("TRADE2026_STATE_DIR")
    assert len(Desk().instruments()) == 3
    assert Desk(host="10.0.0.7", port_offset=100)._target.ports["gateway"] == 8180


def test_what_the_platform_refuses_and_who_does_not_answer_is_said(stack: FakeStack, desk: Desk) -> None:
    with pytest.raises(CliError) as refused:
        desk.equity("nobody")
    assert refused.value.exit_code == REFUSED
    with pytest.raises(CliError, match="trade2026 up") as silent:
        Desk(port_offset=-8079).instruments()
    assert silent.value.exit_code == UNREACHABLE
