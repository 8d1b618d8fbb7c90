"""Records that a sink can't use, put down for a person so that the rest is not held up.

Only for who keeps nothing that a later record builds on: whoever folds orders, positions or limits must stop at what it
does not understand. A file a service, of JSON lines; a position stands in it once, however often it is read. Who has
dealt with the file moves it away: then all is well again.
"""

import json
import os
from pathlib import Path

import msgspec

from trade2026.kit.bus.port import Record
from trade2026.kit.metrics import Metrics
from trade2026.kit.service import Health

LETTERS_MAX = 10_000
"""More of them are no accident: then the sink stops after all."""
_REASON_MAX = 500


class _Place(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    seq: int


class DeadLetters:
    """Of one service.

    Args:
        folder: Of the stack's dead letters; made with the first.
    """

    def __init__(self, folder: Path, service: str, metrics: Metrics) -> None:
        self.path = folder / f"{service}.jsonl"
        self._places = self._known()
        name, help = "trade2026_dead_letters_total", "Records that could not be used and were put down, since the start"
        self._counter = metrics.counter(name, help, service=service)

    @property
    def count(self) -> int:
        """How many lie there."""
        if self._places and not self.path.exists():
            self._places = set()
        return len(self._places)

    def put(self, record: Record, reason: str) -> None:
        """Put a record down; returns when it is on the disk.

        Raises:
            OSError: it can't be written.
            OverflowError: there are too many.
        """
        place = _Place(record.topic, record.partition, record.seq)
        if self.count >= LETTERS_MAX:
            raise OverflowError(f"{LETTERS_MAX} dead letters lie in {self.path}: look at them, and move the file away")
        if place in self._places:
            return
        body = record.body.decode(errors="replace")
        line = json.dumps({**msgspec.structs.asdict(place), "reason": reason[:_REASON_MAX], "body": body})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
        self._places.add(place)
        self._counter.inc()

    def health(self) -> dict[str, Health]:
        """Nothing while there are none."""
        if not (count := self.count):
            return {}
        return {
            "dead_letters": Health(False, f"{count} records could not be used: look at {self.path}, and move it away")
        }

    def _known(self) -> set[_Place]:
        """Of the file; a line that was cut off by a crash is none."""
        places: set[_Place] = set()
        decode = msgspec.json.Decoder(_Place).decode
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                try:
                    places.add(decode(line))
                except msgspec.DecodeError:
                    continue
        return places


def dead_letters_folder(state: Path) -> Path:
    """Where the dead letters of a stack lie in its state directory."""
    return state / "dead-letters"
