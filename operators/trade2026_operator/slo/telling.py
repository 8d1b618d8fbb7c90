"""What a person is told of the scaling of a stack: three conditions over all of its releases, and when they change. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trade2026_operator.reconcile.conditions import Observation
from trade2026_operator.reconcile.status import SCALING
from trade2026_operator.slo.guards import Verdict

TELL_SECONDS = 60.0
"""A status is read by many: it is not written more often than that."""
_BAD = {"SLOMet": False, "ScalingActive": False, "ScalingLimited": True}
_WORDS_MAX = 1_000


@dataclass
class Teller:
    """Of one stack.

    Attributes:
        told: What it was told last; empty at first.
    """

    told: tuple[Observation, ...] = ()
    _meaning: tuple[object, ...] = field(default=())
    _at: float = float("-inf")

    def tell(self, verdicts: Mapping[str, Verdict], now: float) -> tuple[Observation, ...] | None:
        """The conditions, if they are to be written now: their meaning is another one, and the last is a minute old."""
        meaning = tuple((release, each.meaning) for release, each in sorted(verdicts.items()))
        if meaning == self._meaning or now - self._at < TELL_SECONDS:
            return None
        self._meaning, self._at = meaning, now
        self.told = conditions(verdicts)
        return self.told


def conditions(verdicts: Mapping[str, Verdict]) -> tuple[Observation, ...]:
    """Of a stack: what is worst among its releases, and the words of all."""
    return tuple(
        _worst(kind, {release: _of(verdict, kind) for release, verdict in sorted(verdicts.items())}) for kind in SCALING
    )


def changed(before: tuple[Observation, ...], now: tuple[Observation, ...]) -> list[Observation]:
    """Those worth an Event."""
    known = {each.type: each for each in before}
    return [each for each in now if each != known.get(each.type)]


def is_bad(observation: Observation) -> bool:
    """Whether somebody ought to look."""
    return observation.status is _BAD.get(observation.type)


def _of(verdict: Verdict, kind: str) -> Observation:
    return next(each for each in (verdict.met, verdict.active, verdict.limited) if each.type == kind)


def _worst(kind: str, by_release: Mapping[str, Observation]) -> Observation:
    ranked = sorted(by_release.values(), key=_rank)
    words = "; ".join(f"{release}: {each.message}" for release, each in by_release.items() if each.message)
    return Observation(kind, ranked[0].status, ranked[0].reason, words[:_WORDS_MAX])


def _rank(observation: Observation) -> int:
    """What is bad comes first, what is not known second."""
    return 0 if is_bad(observation) else 1 if observation.status is None else 2
