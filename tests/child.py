"""A service in a process of its own that a test kills: it says by a file that it is ready."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.waiting import until

ROOT = Path(__file__).parents[1]


class Child:
    """Runs a script of the tests on a state directory, again and again.

    Args:
        script: Called with the directory, then with `arguments`; it makes the file `ready` there.
    """

    def __init__(self, script: Path, state: Path, *arguments: str) -> None:
        self.script, self.state, self.arguments = script, state, arguments
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> "subprocess.Popen[bytes]":
        """Start it."""
        (self.state / "ready").unlink(missing_ok=True)
        paths = [str(ROOT), str(ROOT / "services"), str(self.script.parent)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, str(self.script), str(self.state), *self.arguments]
        self.process = subprocess.Popen(command, env=environment)
        return self.process

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        process = await asyncio.to_thread(self.spawn)
        await until(lambda: (self.state / "ready").exists() or process.poll() is not None, "it is ready, or has ended")
        assert process.poll() is None, f"{self.script.name} did not start"

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
