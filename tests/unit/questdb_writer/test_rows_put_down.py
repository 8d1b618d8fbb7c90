"""Rows that don't fit are counted as long as their file lies there."""

from pathlib import Path

from trade2026.questdb_writer.dead_letters import DeadLetters
from trade2026.stores.timeseries.port import Batch, RowsRefused


def put_down(dead: DeadLetters, rows: int) -> None:
    """Rows that have too few columns."""
    batch = Batch({"metrics": [(number,) for number in range(rows)]})
    assert dead.take_from(batch, RowsRefused("they don't fit")) == rows


def test_they_are_counted_until_the_file_is_moved_away(tmp_path: Path) -> None:
    dead = DeadLetters(tmp_path / "dead-letters.jsonl")
    put_down(dead, 2)
    assert dead.count == DeadLetters(dead.path).count == 2
    dead.path.rename(tmp_path / "seen")
    assert dead.count == 0


def test_those_that_come_after_it_was_moved_away_are_counted_anew(tmp_path: Path) -> None:
    dead = DeadLetters(tmp_path / "dead-letters.jsonl")
    put_down(dead, 2)
    dead.path.rename(tmp_path / "seen")
    put_down(dead, 1)
    assert dead.count == 1
