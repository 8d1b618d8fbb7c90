"""What `trade2026 strategy run` and `backtest` make of a command line."""

from pathlib import Path
from typing import Any

import pytest

from trade2026.cli.definitions import Running, described
from trade2026.cli.output import CliError

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
    changed = spec("/desk/mine/dip.py:Dip", params=["trades=30"], account="other")
    assert changed["source"] == {"file": "/desk/mine/dip.py:Dip"}
    assert (changed["parameters"], changed["account"], changed["risk"]) == (
        {"quantity": "0.02", "trades": 30},
        "other",
        {"maxPosition": "0.5"},
    )


def test_a_parameter_that_is_said_takes_the_place_of_the_one_before_and_reset_begins_anew() -> None:
    assert spec("/desk/mine/dip.py", params=["quantity=0.5"])["parameters"] == {"quantity": "0.5"}
    assert spec("/desk/mine/dip.py", params=["trades=30"], reset=True)["parameters"] == {"trades": 30}
    anew = spec("/desk/mine/dip.py", reset=True)
    assert "parameters" not in anew
    assert anew["risk"] == {"maxPosition": "0.5"}


@pytest.mark.parametrize("source", [MOMENTUM, "/elsewhere/dip.py"])
def test_a_strategy_does_not_take_the_place_of_another_of_the_same_name(source: str) -> None:
    with pytest.raises(CliError, match=r"'dip' runs already, from /desk/mine/dip.py; .*strategy stop dip"):
        spec(source, name="dip")


@pytest.mark.parametrize(
    "words", [{"symbols": ["ETHUSDT"]}, {"name": "x"}, {"params": ["a=1"]}, {"account": "b"}, {"reset": True}]
)
def test_what_a_manifest_says_is_not_said_again(words: dict[str, Any]) -> None:
    with pytest.raises(CliError, match="leave --name, --symbol, --param, --reset, --account"):
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


# ── refused before anything changes ─────────────────────────────────────────────────────────────────

DIP = """
from trade2026.sdk import Parameters, Strategy

class Own(Parameters):
    trades: int = 50

class Dip(Strategy[Own]):
    parameters = Own

    def on_trade(self, trade):
        self.ctx.buy("0.01")
"""


@pytest.mark.parametrize(
    ("change", "params", "told"),
    [
        ((), ["dip_bp=1"], ["its parameters are wrong", "`dip_bp`", "it has trades", "--reset"]),
        ((), ["trades=many"], ["its parameters are wrong", "--reset"]),
        (("\n", "\nimport time\n"), [], ["the time is ctx.now"]),
        (("class Dip", "1 / 0\nclass Dip"), [], ["can't be imported: ZeroDivisionError"]),
        (("    parameters = Own", "    def __init__(self): 1 / 0"), [], ["can't be made"]),
        (("on_trade", "on_trad"), [], ["did you mean on_trade?"]),
        (("def", "def:"), [], ["is no Python"]),
        (("Dip", "Up"), [], ["has no strategy 'Dip'"]),
    ],
)
def test_what_cannot_run_is_refused_while_the_one_before_goes_on(
    cli: Any, stack: Any, tmp_path: Path, change: tuple[str, str], params: list[str], told: list[str]
) -> None:
    (tmp_path / "dip.py").write_text(DIP.replace(*change, 1) if change else DIP)
    text = STACK.replace("mine/dip.py", f"{tmp_path}/dip.py:Dip").replace('{quantity: "0.02"}', "{trades: 7}")
    (stack.state.path / "manifest.yaml").write_text(text)
    stack.state.lock()
    words = [word for param in params for word in ("--param", param)]
    result = cli("strategy", "run", f"{tmp_path}/dip.py:Dip", *words)
    assert (result.code, "nothing was changed" in result.err) == (1, True), result.err
    assert all(each in result.err for each in told), result.err
    assert (stack.asked, (stack.state.path / "manifest.yaml").read_text()) == ([], text)


def test_a_class_that_only_the_stack_can_import_is_left_to_it(cli: Any, stack: Any) -> None:
    (stack.state.path / "manifest.yaml").write_text(STACK.partition("\n---\n")[0])
    stack.state.lock()
    result = cli("strategy", "run", "elsewhere.alpha:Alpha")
    assert (result.code, "no stack runs" in result.err) == (3, True)  # it was asked of the runner, which is none
