"""Single objects of a bucket, by the client of the Delta library, so that keys are made of paths as its tables make them.

It is the library's inner handle: reading and writing are all that is used of it, and listing would need pyarrow.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trade2026.stores.lake import LakeError

_PIECE_BYTES = 8 * 1024 * 1024


class Objects:
    """What lies below one address.

    Args:
        root: s3://BUCKET/PREFIX.
        options: What the library is told of the store.
    """

    def __init__(self, root: str, options: Mapping[str, str]) -> None:
        from deltalake._internal import DeltaFileSystemHandler

        self.root = root.rstrip("/")
        with _told(self.root):
            self._handle: Any = DeltaFileSystemHandler(self.root, dict(options))

    def size(self, path: str) -> int:
        """Of an object; -1 if there is none. Raises `LakeError`."""
        with _told(path):
            try:
                return int(self._handle.open_input_file(path).size())
            except FileNotFoundError:
                return -1

    def read(self, path: str) -> bytes | None:
        """A small object whole; None if there is none. Raises `LakeError`."""
        with _told(path):
            try:
                return bytes(self._handle.open_input_file(path).read())
            except FileNotFoundError:
                return None

    def put(self, path: str, content: bytes) -> None:
        """Write a small object. Raises `LakeError`."""
        with _told(path):
            stream = self._handle.open_output_stream(path)
            stream.write(content)
            stream.close()

    def copy_from(self, file: Path, path: str) -> None:
        """Write a file as an object, which is there as a whole or not at all. Raises `LakeError`."""
        with file.open("rb") as source, _told(path):
            stream = self._handle.open_output_stream(path)
            while piece := source.read(_PIECE_BYTES):
                stream.write(piece)
            stream.close()

    def is_same(self, file: Path, path: str) -> bool:
        """Whether an object holds what a file does. Raises `LakeError`."""
        if self.size(path) != file.stat().st_size:
            return False
        with file.open("rb") as ours, _told(path):
            theirs = self._handle.open_input_file(path)
            while piece := ours.read(_PIECE_BYTES):
                if bytes(theirs.read(len(piece))) != piece:
                    return False
        return True


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Errors of the library in the words of the lake."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # it has no class of its own for what a store answers
        raise LakeError(f"{what}: {str(error).partition(chr(10))[0]}") from error
