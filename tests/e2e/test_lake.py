"""The lake of a running stack: each record once after kill -9, and a copy of it that can be read."""

from collections import Counter
from pathlib import Path
from typing import Any

from bench.stack import wait_for
from tests.e2e.conftest import MakeStack
from tests.e2e.stack import QUIET, WAIT_SECONDS, Stack

from trade2026.sink_ticks.tables import SPECS
from trade2026.stores.delta import DeltaLake
from trade2026.stores.lake import Selection

SERVICE = "sink-ticks"
QUICK = QUIET.read_text() + "  services: {sink-ticks: {config: {batch_seconds: 0.2, compact_minutes: 0.02}}}\n"


def tables(stack: Stack) -> dict[str, Any]:
    return {table["table"]: table for table in stack.get(SERVICE, "/catalog")["tables"]}


def until_stored(stack: Stack, rows: int) -> None:
    """Wait until every table has grown beyond so many rows."""

    def stored() -> bool:
        found = tables(stack)
        return set(found) == set(SPECS) and min(table["rows"] for table in found.values()) > rows

    wait_for(f"{rows} rows are in every table", stored, WAIT_SECONDS)


def test_market_data_is_stored_once_whatever_is_killed_and_a_backup_has_it(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    stack = make_stack(text=QUICK, services=["gateway", "normalizer", SERVICE])
    until_stored(stack, 5)
    for _ in range(2):
        before = min(table["rows"] for table in tables(stack).values())
        stack.wait_restarted("data", stack.kill_process("data"))
        until_stored(stack, before)
    assert stack.health(SERVICE)["status"] == "ok"
    assert stack.cli("backup", str(tmp_path / "copy")).returncode == 0
    shown = stack.cli("lake", "query", "ticks", "--symbol", "BTCUSDT", "--limit", "2").stdout
    assert "BTCUSDT.SIM" in shown
    assert "there are more" in shown
    copy = DeltaLake(tmp_path / "copy" / "lake")
    for lake in (DeltaLake(stack.state_dir / "lake"), copy):
        for spec in SPECS.values():
            rows = lake.read(spec, Selection(limit=100_000)).rows
            counts = Counter(row["seq"] for row in rows)
            assert set(counts.values()) == {1}
            assert sorted(counts) == list(range(len(rows)))
