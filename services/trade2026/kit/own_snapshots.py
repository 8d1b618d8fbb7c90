"""Snapshots that an owner makes of its own machine, where no fold of its log does it in the owner's place."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from trade2026 import __version__
from trade2026.kit.owner import Unavailable
from trade2026.kit.service import Health
from trade2026.kit.snapshots import SnapshotStore

log = logging.getLogger(__name__)


class Snapped(Protocol):
    """A machine that can be kept."""

    @property
    def next_seq(self) -> int: ...
    def snapshot(self) -> bytes: ...
    def restore(self, snapshot: bytes, /) -> None: ...


M = TypeVar("M", bound=Snapped)


class Readable(Protocol):
    """An owner of one log, or of several."""

    @property
    def ready(self) -> bool: ...
    @property
    def machine(self) -> Any: ...
    def read(self, question: Callable[[Any], tuple[bytes, int]]) -> Awaitable[tuple[bytes, int]]: ...


class OwnSnapshots:
    """Keeps the machine of an owner as it was, and says when that has failed.

    Args:
        what: Is kept, in words.
        positions: Of a machine that folds several partitions, how far it is in each, by their names.
    """

    def __init__(
        self, store: SnapshotStore, what: str, positions: Callable[[Any], dict[str, int]] = lambda machine: {}
    ) -> None:
        self.store, self._what, self._positions = store, what, positions
        self.next_seq = 0
        """The first event that the newest snapshot does not have."""
        self._error = ""

    def restored(self, make: Callable[[], M], next_seq_max: int) -> M | None:
        """The machine of the newest snapshot that can be read and is not beyond this; None: from the beginning."""

        def read(state: bytes) -> M:
            machine = make()
            machine.restore(state)
            return machine

        machine = self.store.restore(read, next_seq_max=next_seq_max)
        self.next_seq = machine.next_seq if machine is not None else 0
        return machine

    async def keep(self, owner: Readable) -> None:
        """Write the machine as it is now, once its events are durable."""
        positions: dict[str, int] = {}

        def read(machine: Any) -> tuple[bytes, int]:
            positions.update(self._positions(machine))
            return machine.snapshot(), machine.next_seq

        try:
            state, next_seq = await owner.read(read)
            await asyncio.to_thread(self.store.write, state, next_seq, __version__, positions)
        except (Unavailable, OSError) as error:
            self._error = f"none since event {self.next_seq}: {error}"
            log.warning("no snapshot of %s: %s", self._what, error)
            return
        self.next_seq, self._error = next_seq, ""

    async def keep_last(self, owner: Readable) -> None:
        """The same at the end, if there is anything new: the next start is quick."""
        if owner.ready and owner.machine.next_seq > self.next_seq:
            await self.keep(owner)

    def health(self) -> Health:
        """Whether the newest could be written, and all could be read."""
        unreadable = "; ".join(f"{name}: {reason}" for name, reason in self.store.unreadable.items())
        trouble = self._error or unreadable
        return Health(not trouble, trouble)
