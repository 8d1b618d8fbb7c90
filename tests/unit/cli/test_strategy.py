"""What `trade2026 strategy run` and `backtest` make of a command line."""

from pathlib import Path
from typing import Any

import pytest

from trade2026.cli.output import CliError
from trade2026.cli.strategy import Running, described

MOMENTUM = "trade2026.sdk.examples.momentum:Momentum"
STACK = """\
apiVersion: trade2026.io/v1alpha1
kind: TradingStack
metadata: {name: desk}
spec:
  venues: [{name: SIM, type: replay}]
  instruments: [{symbol: BTCUSDT, venue: SIM, tickSize: "0.01", lotSize: "0.00001"}]
---
apiVersion: trade2026.io/v1alpha1
kind: Strategy
metadata: {name: dip}
spec:
  source: {file: mine/dip.py}
  symbols: [BTCUSDT]
  account: dips
  parameters: {quantity: "0.02"}
  risk: {maxPosition: "0.5"}
"""


def spec(source: str, **words: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"name": "", "symbols": [], "params": [], "account": "", **words}
    (document,) = described(source, **given, running=Running(STACK, "/desk"))
    return {"name": document["metadata"]["name"], **document["spec"]}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (MOMENTUM, "momentum"),
        ("trade2026.sdk.examples.market_making:MarketMaking", "market-making"),
        ("alpha:Alpha", "alpha"),
        ("other/My_Alpha.v2.py:Alpha", "my-alpha-v2"),
    ],
)
def test_a_strategy_is_called_as_its_file_or_module(source: str, name: str) -> None:
    assert spec(source) == {
        "name": name,
        "symbols": ["BTCUSDT"],
        "source": {"file": str(Path(source).absolute())} if ".py" in source else {"class": source},
    }


def test_what_is_not_said_of_one_that_runs_stays_its_ceilings_above_all() -> None:
    before = {"source": {"file": "/desk/mine/dip.py"}, "symbols": ["BTCUSDT"], "account": "dips"}
    ceilings = {"risk": {"maxPosition": "0.5"}}
    assert spec("/desk/mine/dip.py") == {"name": "dip", **before, "parameters": {"quantity": "0.02"}, **ceilings}
    changed = spec("/desk/mine/dip.py:Dip", params=["quantity=0.01"], account="other")
    assert changed["source"] == {"file": "/desk/mine/dip.py:Dip"}
    assert (changed["parameters"], changed["account"], changed["risk"]) == (
        {"quantity": "0.01"},
        "other",
        {"maxPosition": "0.5"},
    )


@pytest.mark.parametrize("source", [MOMENTUM, "/elsewhere/dip.py"])
def test_a_strategy_does_not_take_the_place_of_another_of_the_same_name(source: str) -> None:
    with pytest.raises(CliError, match=r"'dip' runs already, from /desk/mine/dip.py; .*strategy stop dip"):
        spec(source, name="dip")


@pytest.mark.parametrize("words", [{"symbols": ["ETHUSDT"]}, {"name": "x"}, {"params": ["a=1"]}, {"account": "b"}])
def test_what_a_manifest_says_is_not_said_again(words: dict[str, Any]) -> None:
    with pytest.raises(CliError, match="leave --name, --symbol, --param, --account"):
        spec("dip.yaml", **words)


@pytest.mark.parametrize(
    ("param", "said"), [("q=[1", "the value of q can't be read"), ("q", "is not written name=value")]
)
def test_a_parameter_that_cannot_be_read_is_said(param: str, said: str) -> None:
    with pytest.raises(CliError, match=said):
        spec(MOMENTUM, params=[param])


def test_a_manifest_that_cannot_be_read_is_said() -> None:
    with pytest.raises(CliError, match="the manifest can't be read"):
        described(MOMENTUM, "", [], [], "", Running("a: [1"))
