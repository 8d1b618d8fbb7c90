"""A process that another one has replaced ends, so that whoever runs it may start it again."""

import asyncio

import pytest

from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.process import serve
from trade2026.kit.service import Context, Service
from trade2026.kit.settings import ProcessSettings

SECONDS_MAX = 60.0


class Owning(Service):
    """Owns something until it is told that another one does."""

    name = "owning"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.by = ""
        self.stopped = False

    async def stop(self) -> None:
        self.stopped = True

    def replaced(self) -> str:
        return self.by


async def test_a_process_that_was_replaced_drains_and_ends_with_an_error(caplog: pytest.LogCaptureFixture) -> None:
    settings = ProcessSettings(
        stack="s", release="r", services=["owning"], config_hash="", allowed_versions=[], instruments=[], venues=[],
        topics=[], ports={"owning": 0},
    )  # fmt: skip
    made: list[Owning] = []

    def make(context: Context) -> Owning:
        made.append(Owning(context))
        return made[-1]

    serving = asyncio.ensure_future(serve(settings, [make], MemoryBus([]), stop=asyncio.Event()))
    await asyncio.sleep(0)
    assert not serving.done()
    made[0].by = "epoch 1 was fenced by epoch 2"
    assert await asyncio.wait_for(serving, SECONDS_MAX) == 1
    assert made[0].stopped
    assert "epoch 1 was fenced by epoch 2" in caplog.text
