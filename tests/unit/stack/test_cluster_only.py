"""What only a cluster can do: a laptop takes it, and says that it does not heed it."""

from trade2026.stack.cluster_only import not_heeded
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


def test_a_strategy_in_the_shadow_is_heeded() -> None:
    assert not_heeded(load_all(STACK + STRATEGY + "  mode: shadow\n")) == []
