"""The notebook works as it is written, on a stack whose strategies trade, and its pictures lie in the file."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from bench.stack import ROOT, wait_for
from nbclient import NotebookClient
from tests.e2e.conftest import MakeStack
from tests.e2e.stack import QUICKSTART, WAIT_SECONDS

from trade2026.client import Desk

NOTEBOOK = ROOT / "docs" / "notebooks" / "desk.ipynb"
PICTURES = 4
STRATEGIES = {"maker", "momentum", "reversion"}
_FILLS_MIN = 2
_CELL_SECONDS_MAX = 300


def shown(notebook: Any, kind: str) -> list[str]:
    """What the cells show of a media type."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


def fills(desk: Desk) -> dict[str, int]:
    """How many the store has of each strategy."""
    found = desk.query("SELECT strategy, count() AS fills FROM fills GROUP BY strategy")
    return dict(zip(found["strategy"], found["fills"], strict=True))


def test_every_cell_runs_on_a_stack_that_trades(make_stack: MakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADE2026_STATE_DIR", str(make_stack(QUICKSTART).state_dir))
    desk = Desk()
    wait_for(
        "each strategy has traded",
        lambda: all(fills(desk).get(name, 0) >= _FILLS_MIN for name in STRATEGIES),
        WAIT_SECONDS,
    )
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=_CELL_SECONDS_MAX, kernel_name="python3", resources=where).execute()
    assert len(shown(notebook, "image/png")) == PICTURES
    assert set(shown(notebook, "text/plain")[0].split()) >= STRATEGIES


def test_the_file_has_its_pictures_and_says_nothing_of_the_machine_that_made_them() -> None:
    text = NOTEBOOK.read_text()
    notebook = nbformat.reads(text, as_version=4)
    assert len(shown(notebook, "image/png")) == PICTURES
    assert all(cell.metadata == {} for cell in notebook.cells)
    for place in (str(ROOT), str(Path.home()), "/tmp/", "Warning"):
        assert place not in "".join(str(cell) for cell in notebook.cells)
