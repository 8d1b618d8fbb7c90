"""What the leader has found out, as it is told to the metrics server: one answer a release, fresh or a reason why not.

The two are processes of their own: an operator that has just begun to lead, or that restarts, must not take the API away
that every namespace's deletion waits for. Ages travel instead of times, so nobody's clock is compared with another's.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

STALE_SECONDS = 30.0
"""What is older is no answer: an HPA does nothing then, which is what it should do about what nobody knows."""


class Target(NamedTuple):
    """A release of a stack that scales."""

    namespace: str
    stack: str
    release: str


@dataclass(frozen=True)
class Answer:
    """How many replicas a release needs, or why that is not known.

    Attributes:
        replicas: Needed, not rounded; None where it is not known.
        why: For a person, of either.
        at: When that was so, in seconds of the clock of whoever keeps it.
    """

    replicas: float | None
    why: str
    at: float


class NotKnown(Exception):
    """There is no answer that may be given; the message says why."""


class Board:
    """The answers of all releases, by target."""

    def __init__(self) -> None:
        self._answers: dict[Target, Answer] = {}

    def put(self, target: Target, answer: Answer) -> None:
        """The newest of a release."""
        assert answer.replicas is None or (math.isfinite(answer.replicas) and answer.replicas >= 0), answer
        self._answers[target] = answer

    def keep_only(self, targets: Iterable[Target]) -> None:
        """Forget the releases that are no more."""
        kept = set(targets)
        self._answers = {target: answer for target, answer in self._answers.items() if target in kept}

    def items(self) -> Iterable[tuple[Target, Answer]]:
        """All of them."""
        return self._answers.items()

    def asked(self, target: Target, now: float) -> float:
        """How many replicas a release needs.

        Raises:
            NotKnown: nobody knows, or not lately enough. Never 0 instead.
        """
        answer = self._answers.get(target)
        if answer is None:
            raise NotKnown(f"no release {target.release} of {target.stack} is measured in {target.namespace}")
        age = now - answer.at
        if age > STALE_SECONDS:
            raise NotKnown(f"the last measurement of {target.release} is {age:.0f} s old")
        if answer.replicas is None:
            raise NotKnown(f"{target.release}: {answer.why}")
        return answer.replicas

    def text(self, now: float) -> str:
        """As JSON, for the metrics server."""
        return json.dumps(
            [
                {**target._asdict(), "replicas": answer.replicas, "why": answer.why, "age_seconds": now - answer.at}
                for target, answer in self._answers.items()
            ]
        )


def read(text: str, now: float) -> Board:
    """A board as `Board.text` wrote it.

    Raises:
        ValueError: it is none.
    """
    board = Board()
    entries: Any = json.loads(text)
    if not isinstance(entries, list):
        raise ValueError("this is no list of answers")
    for entry in entries:
        board.put(*_entry(entry, now))
    return board


def _entry(entry: Mapping[str, Any], now: float) -> tuple[Target, Answer]:
    try:
        replicas = entry["replicas"]
        if replicas is not None and not 0 <= replicas < math.inf:
            raise ValueError(f"{replicas} is no number of replicas")
        age = max(0.0, float(entry["age_seconds"]))
        target = Target(entry["namespace"], entry["stack"], entry["release"])
        return target, Answer(replicas, entry["why"], now - age)
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no answer: {entry!r}") from error
