"""What only a cluster can do: a laptop takes it, says that it does not heed it, and trades nothing in the shadow."""

from trade2026.stack.cluster_only import not_heeded, runs_here
from trade2026.stack.manifest import load_all

STACK = """\
apiVersion: trade2026.io/v1alpha1
kind: TradingStack
metadata: {name: desk}
spec:
  venues: [{name: SIM}]
  instruments: [{symbol: BTCUSDT, tickSize: "0.01", lotSize: "0.00001"}]
"""
STRATEGY = """\
---
apiVersion: trade2026.io/v1alpha1
kind: Strategy
metadata: {name: maker}
spec:
  source: {class: "desk.strategies:Maker"}
  symbols: [BTCUSDT]
"""
OPERATED = """\
  driftPolicy: Correct
  deletionPolicy: Delete
  services:
    oms: {replicas: {min: 1, max: 1}, slo: {latency: [{under: 50ms}]}, resources: {limits: {cpu: 1}}}
    pnl: {config: {method: fifo}}
"""


def test_nothing_is_said_of_a_manifest_that_a_laptop_heeds() -> None:
    assert not_heeded(load_all(STACK + STRATEGY)) == []


def test_what_a_laptop_does_not_heed_is_named_and_a_default_is_not() -> None:
    assert not_heeded(load_all(STACK + OPERATED)) == [
        "spec.deletionPolicy",
        "spec.services.oms.replicas.max",
        "spec.services.oms.slo",
        "spec.services.oms.resources",
    ]


def test_a_strategy_in_the_shadow_does_not_run_where_nothing_holds_back_its_orders() -> None:
    manifest = load_all(STACK + STRATEGY + "  mode: shadow\n")
    assert not_heeded(manifest) == ["strategy maker: spec.mode shadow (it does not run here)"]
    assert not runs_here(manifest.strategies[0])


def test_a_paused_strategy_does_not_run_anywhere() -> None:
    (strategy,) = load_all(STACK + STRATEGY + "  paused: true\n").strategies
    assert not runs_here(strategy)
    (strategy,) = load_all(STACK + STRATEGY).strategies
    assert runs_here(strategy)
