"""A state directory."""

from pathlib import Path

import pytest

from trade2026.local.state import StateDir


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    found = StateDir(tmp_path / "state")
    found.open()
    return found
