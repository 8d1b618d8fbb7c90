"""A log stays where it was begun, and in as many parts."""

from pathlib import Path

import pytest

from trade2026.local.log_place import AnotherLog, log_in, log_of, refuse_another_log
from trade2026.local.state import StateDir
from trade2026.stack.manifest import loads
from trade2026.stack.planner import plan

TEXT = """\
apiVersion: trade2026.io/v1alpha1
kind: TradingStack
metadata: {name: desk}
spec:
  venues: [{name: SIM}]
  instruments: [{symbol: BTCUSDT, tickSize: "0.01", lotSize: "0.00001"}]
"""
FOUR = TEXT + "  bus: {partitions: 4}\n"
KAFKA = TEXT + "  bus: {type: kafka, kafka: {bootstrapServers: 'broker:9092'}}\n"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (TEXT, FOUR, "spec.bus.partitions is 4, but this stack's log has 1"),
        (FOUR, TEXT, "spec.bus.partitions is 1, but this stack's log has 4"),
        (TEXT, KAFKA, "spec.bus.type is kafka, but this stack has its log on embedded"),
    ],
)
def test_a_log_that_would_lie_elsewhere_is_refused_with_what_to_do(before: str, after: str, said: str) -> None:
    with pytest.raises(AnotherLog, match=said):
        refuse_another_log(log_of(plan(loads(before))), plan(loads(after)))
    refuse_another_log(log_of(plan(loads(before))), plan(loads(before)))


def test_it_is_known_from_what_ran_here_else_from_the_manifest_that_was_kept(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert log_in(state) == {}
    refuse_another_log(log_in(state), plan(loads(FOUR)))
    (tmp_path / "manifest.yaml").write_text(FOUR)
    assert log_in(state) == {"bus": "embedded", "partitions": 4}
    state.run.mkdir()
    state.write_running({"bus": "kafka"})
    assert log_in(state) == {"bus": "kafka", "partitions": 1}
