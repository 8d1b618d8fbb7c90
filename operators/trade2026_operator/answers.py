"""What the API server has answered of objects and watches have not told yet: they tell it late, what was before it first.

Without that it would seem for a moment that somebody has put an object back to what it was before our own write.
"""

from collections.abc import Callable

from trade2026_operator.reconcile.objects import Manifest, Ref, resource_version_of

LATE_SECONDS = 60.0
"""No watch tells later than this of what was before an answer. Whatever it tells then is so: where a cluster's store was
restored versions are counted from an earlier one."""


class Answers:
    """Of the objects of one stack.

    Args:
        time: Seconds.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._ages: dict[Ref, tuple[float, int]] = {}
        """Since when they are known, and the age of the version."""

    def is_news(self, ref: Ref, answer: Manifest, known: str) -> bool:
        """Whether an answer, or that an object is deleted, is not older than what is known; then it is noted.

        Args:
            known: Resource version that a watch has told of.
        """
        age, now = _age_of(resource_version_of(answer)), self._time()
        if 0 < age < max(_age_of(known), self._age(ref)):
            return False
        self._ages = {each: said for each, said in self._ages.items() if now - said[0] < LATE_SECONDS}
        self._ages[ref] = now, age
        return True

    def is_late(self, ref: Ref, told: Manifest) -> bool:
        """Whether a watch tells of what was before an answer; else it has told of that, too."""
        if 0 < _age_of(resource_version_of(told)) < self._age(ref):
            return True
        self._ages.pop(ref, None)
        return False

    def _age(self, ref: Ref) -> int:
        at, age = self._ages.get(ref, (0.0, 0))
        return age if self._time() - at < LATE_SECONDS else 0


def _age_of(version: str) -> int:
    """By which two versions are put in order: Kubernetes numbers them. 0 where something else does."""
    return int(version) if version.isdecimal() else 0
