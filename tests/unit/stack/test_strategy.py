"""A Strategy in a manifest: what is right, what is wrong and where, and what the planner makes of it."""

import msgspec
import pytest

from trade2026.controls.limits import LimitBook, Rate
from trade2026.stack.facts import GROUPS
from trade2026.stack.manifest import ManifestError, load_all, load_strategies
from trade2026.stack.planner import plan
from trade2026.strategies.loading import StrategySettings

STACK = """\
apiVersion: trade2026.io/v1alpha1
kind: TradingStack
metadata: {name: desk}
spec:
  venues: [{name: SIM}]
  instruments: [{symbol: BTCUSDT, tickSize: "0.01", lotSize: "0.00001"}]
  risk:
    strategyDefaults: {maxOpenOrders: 7}
    strategies: {mm: {maxPosition: "3", maxDailyLoss: "50"}}
"""
STRATEGY = """\
---
apiVersion: trade2026.io/v1alpha1
kind: Strategy
metadata: {name: mm}
spec:
  stackRef: {name: desk}
  source: {class: "trade2026.sdk.examples.market_making:MarketMaking"}
  symbols: [BTCUSDT]
  account: alpha
  parameters: {quantity: "0.02", period: 10}
  seed: 4
  risk: {maxPosition: "2", maxExecutions: {count: 5, per: 1m}}
"""


def test_a_manifest_has_a_stack_and_its_strategies() -> None:
    manifest = load_all(STACK + STRATEGY)
    assert manifest.stack.metadata.name == "desk"
    assert [strategy.metadata.name for strategy in manifest.strategies] == ["mm"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "symbols: [BTCUSDT]",
            "symbols: [BTCUSD]",
            "line 17: spec.symbols[0]: 'BTCUSD' is no instrument of this stack; did you mean 'BTCUSDT'",
        ),
        ("symbols:", "symbol:", "spec.symbol: is no field here; did you mean 'symbols'?"),
        ("parameters:", "paramters:", "did you mean 'parameters'?"),
        ("maxPosition", "maxPostion", "spec.risk.maxPostion: is no field here; did you mean 'maxPosition'?"),
        (
            "stackRef: {name: desk}",
            "stackRef: {name: dest}",
            "line 15: spec.stackRef.name: 'dest' is not this stack, 'desk'",
        ),
        ("{class:", "{klass:", "did you mean 'class'?"),
        ('{class: "trade2026.sdk.examples.market_making:MarketMaking"}', "{}", "give class or file, one of them"),
        (
            "name: mm}\nspec:\n  stackRef",
            "name: M M}\nspec:\n  stackRef",
            "metadata.name: is not written as it must be",
        ),
        ("market_making:MarketMaking", "market_making", "spec.source.class: is not written as it must be"),
        ("kind: Strategy", "kind: Stratgy", "'Stratgy' is not run here"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_the_nearest_name(old: str, new: str, said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load_all(STACK + STRATEGY.replace(old, new))
    assert said in str(caught.value)


def test_two_strategies_of_one_name_are_refused() -> None:
    with pytest.raises(ManifestError, match="two strategies are called 'mm'"):
        load_all(STACK + STRATEGY + STRATEGY)


def test_strategies_alone_are_no_stack() -> None:
    with pytest.raises(ManifestError, match="has no TradingStack"):
        load_all(STRATEGY)
    assert [strategy.metadata.name for strategy in load_strategies(STRATEGY)] == ["mm"]


def test_without_a_strategy_no_process_is_planned_for_them() -> None:
    releases = [release.name for release in plan(load_all(STACK).stack).releases]
    assert releases == [group for group in GROUPS if group != "strategies"]


def test_the_process_of_the_strategies_is_told_what_to_run() -> None:
    manifest = load_all(STACK + STRATEGY)
    release = plan(manifest.stack, manifest.strategies).release("strategies")
    assert release is not None
    (found,) = msgspec.convert(release.settings["config"]["strategies"]["strategies"], list[StrategySettings])
    assert (found.name, found.account, found.instruments, found.seed) == ("mm", "alpha", ["BTCUSDT.SIM"], 4)
    assert found.module == "trade2026.sdk.examples.market_making:MarketMaking"
    assert found.parameters == {"quantity": "0.02", "period": 10}
    assert release.settings["risk"] == {}


def test_a_strategys_own_ceilings_stand_over_those_that_the_stack_has_for_it() -> None:
    manifest = load_all(STACK + STRATEGY)
    orders = plan(manifest.stack, manifest.strategies).release("orders")
    assert orders is not None
    limits = msgspec.convert(orders.settings["risk"], LimitBook).of("strategy", "mm")
    unit = 10**9
    assert (limits.max_position, limits.max_daily_loss, limits.max_open_orders) == (2 * unit, 50 * unit, 7)
    assert limits.max_executions == Rate(count=5, per_ns=60 * unit)


def test_another_parameter_touches_only_the_process_of_the_strategies() -> None:
    before, after = load_all(STACK + STRATEGY), load_all(STACK + STRATEGY.replace("period: 10", "period: 11"))
    one, other = (plan(manifest.stack, manifest.strategies) for manifest in (before, after))
    changed = [a.name for a, b in zip(one.releases, other.releases, strict=True) if a.settings != b.settings]
    assert changed == ["strategies"]
