"""A state directory, a manifest, and a runner of fake processes on free ports."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.waiting import until

from trade2026.local.preparation import RunError, check_ports, prepare
from trade2026.local.runner import Runner
from trade2026.local.state import StateDir

FAKE = Path(__file__).with_name("fake_serve.py")

MANIFEST = """\
apiVersion: trade2026.io/v1alpha1
kind: TradingStack
metadata: {name: desk}
spec:
  venues: [{name: SIM, config: {speed: 1}}]
  instruments: [{symbol: BTCUSDT, tickSize: 1, lotSize: 1}]
  services: {archive: {config: {retention_days: 30}}}
"""


@pytest.fixture
def manifest() -> str:
    return MANIFEST


@pytest.fixture
def port_offset(manifest: str) -> int:
    """An offset at which every port is free."""
    start = 10_000 + os.getpid() % 30_000
    for offset in range(start, start + 10_000, 37):
        try:
            check_ports(prepare(manifest, port_offset=offset))
        except RunError:
            continue
        return offset
    raise AssertionError("no free ports")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    found = StateDir(tmp_path / "state")
    found.open()
    return found


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
async def runner(
    state: StateDir, manifest: str, port_offset: int, tmp_path: Path, said: list[str]
) -> AsyncIterator[Runner]:
    """A running stack of fake processes, ready; stopped at the end."""

    def command(settings: Path) -> list[str]:
        return [sys.executable, str(FAKE), str(settings)]

    state.lock()
    found = Runner(state, manifest, base=tmp_path, port_offset=port_offset, say=said.append, command=command)
    task = asyncio.create_task(found.run())
    await until(lambda: len(found.processes) == len(found.plan.releases) or task.done(), "every process is made")
    assert await found.wait_ready(list(found.processes)) == ""
    yield found
    found.request_stop()
    await task
    state.unlock()
