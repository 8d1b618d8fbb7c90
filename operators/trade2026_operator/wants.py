"""What is wanted of every stack, packed: it is rendered once, looked at seldom, and most of it is read only to apply it."""

import io
import pickle
import zlib
from typing import Any

from trade2026_operator.queue import Key
from trade2026_operator.reconcile.state import Desired

_LEVEL = 6
_CHART = "chart"


class Wants:
    """Takes a fifteenth of the memory, and half a millisecond a look.

    Args:
        chart: The copy of the chart that every release has; it is kept once.
    """

    def __init__(self, chart: dict[str, Any]) -> None:
        self._chart = chart
        self._packed: dict[Key, tuple[str, bytes]] = {}

    def get(self, key: Key, digest: str) -> Desired | None:
        """What a stack's manifest with this digest asks for; None if that is not known."""
        known = self._packed.get(key)
        return _Unpacker(zlib.decompress(known[1]), self._chart).load() if known and known[0] == digest else None

    def put(self, key: Key, digest: str, desired: Desired) -> None:
        """Keep it until the manifest is another one."""
        for release in desired.releases:
            assert release.record.content  # it is packed with what it is of, and not made anew at every look
        packed = io.BytesIO()
        _Packer(packed, self._chart).dump(desired)
        self._packed[key] = digest, zlib.compress(packed.getvalue(), _LEVEL)

    def forget(self, key: Key) -> None:
        """The stack is gone."""
        self._packed.pop(key, None)


class _Packer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, chart: dict[str, Any]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._chart = chart

    def persistent_id(self, obj: Any) -> str | None:
        return _CHART if obj is self._chart else None


class _Unpacker(pickle.Unpickler):
    """Reads nothing but what this process has packed."""

    def __init__(self, packed: bytes, chart: dict[str, Any]) -> None:
        super().__init__(io.BytesIO(packed))
        self._chart = chart

    def persistent_load(self, pid: str) -> dict[str, Any]:
        return self._chart
