"""Desks of risk: the service is started by the test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.risk.risk_desk import Desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    await desk.start()
    yield desk
    await desk.stop()


@pytest.fixture
async def split_desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Its order log has four partitions."""
    desk = Desk(tmp_path, partitions=4)
    await desk.start()
    yield desk
    await desk.stop()
