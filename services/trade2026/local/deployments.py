"""What the runner has to say for the audit log: manifests that are applied, and the stack's end."""

import asyncio
import hashlib
import json
import os
import pwd
from collections.abc import Collection
from typing import Any

import msgspec

from trade2026 import __version__
from trade2026.domain.events import ManifestApplied, ManifestTakenBack, StackStopping
from trade2026.kit.audit import AuditTrail
from trade2026.kit.bus.port import Bus
from trade2026.kit.clock import WallClock
from trade2026.kit.settings import ProcessSettings
from trade2026.log_archive.opening import open_bus


def user() -> str:
    """Who runs this: nobody else can speak to the runner, whose socket is private."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


class Deployments:
    """Writes to the stack's log beside its processes; what can't be written yet waits, and stops nothing."""

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self._trail: AuditTrail | None = None

    def start(self, settings: dict[str, Any]) -> None:
        """Begin, with the settings of any release: all have the same bus."""
        told = msgspec.json.decode(json.dumps(settings), type=ProcessSettings)
        self._bus, topics = open_bus(told), [topic.name for topic in told.topics]
        self._trail = AuditTrail(self._bus, topics, stack=told.stack, owner=f"runner-{os.getpid()}", clock=WallClock())
        self._trail.start()

    def applied(self, text: str, config_hash: str, changed: Collection[str], removed: Collection[str] = ()) -> None:
        """A manifest begins to take effect."""
        self._say(
            ManifestApplied(
                code_version=__version__,
                config_hash=config_hash,
                manifest_sha256=hashlib.sha256(text.encode()).hexdigest(),
                changed=list(changed),
                removed=list(removed),
                by=user(),
            )
        )

    def taken_back(self, config_hash: str, reason: str) -> None:
        """The manifest before is in force again."""
        self._say(ManifestTakenBack(config_hash=config_hash, reason=reason[:1_000]))

    def stopping(self) -> None:
        """The stack is being stopped."""
        self._say(StackStopping(by=user()))

    async def written(self) -> None:
        """Wait until all is in the log, but not for long; nothing is said after it."""
        trail, self._trail = self._trail, None
        if trail is not None:
            await trail.stop()

    async def close(self) -> None:
        """Let the log go."""
        bus, self._bus = self._bus, None
        if bus is not None:
            await asyncio.shield(bus.close())

    def _say(self, event: ManifestApplied | ManifestTakenBack | StackStopping) -> None:
        if self._trail is not None:
            self._trail.say(event, user())
