"""Objects that were deleted while no watch was open: nobody tells of them, but the next list is without them.

kopf lists a kind before it watches it, and again when a watch can't go on where it ended, e.g. because the API server
was started again and has forgotten what happened. It hands on what is in the list, and says nothing of what is not.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Named(NamedTuple):
    """Which object of a kind."""

    namespace: str
    name: str


class Listed(NamedTuple):
    """All objects of a kind that there were, in a namespace or in all (empty)."""

    group: str
    plural: str
    namespace: str
    names: frozenset[Named]

    def lacks(self, namespace: str, name: str) -> bool:
        """Whether an object would be in the list if there was one."""
        return self.namespace in ("", namespace) and Named(namespace, name) not in self.names


class Lists:
    """Puts the pages of lists together.

    Args:
        told: Called with each list once its last page was read. It is before anything that is newer can be heard: the
            watch that goes on from it is opened after that.
    """

    def __init__(self, told: Callable[[Listed], None]) -> None:
        self._told = told
        self._read: dict[str, set[Named]] = {}

    def page(self, path: str, answer: Any, *, is_first: bool) -> None:
        """A page was read; what is no list of objects is passed over.

        Args:
            path: That was asked, e.g. /apis/apps/v1/namespaces/desks/deployments.
        """
        if not isinstance(answer, dict) or not isinstance(items := answer.get("items"), list):
            return
        if is_first:
            self._read[path] = set()
        names = self._read.setdefault(path, set())
        for item in items:
            metadata = item["metadata"]
            names.add(Named(metadata.get("namespace", ""), metadata["name"]))
        if not (answer.get("metadata") or {}).get("continue"):
            group, plural, namespace = _asked(path)
            self._told(Listed(group, plural, namespace, frozenset(self._read.pop(path))))


def _asked(path: str) -> tuple[str, str, str]:
    """Group, plural and namespace of a list."""
    words = path.strip("/").split("/")
    group, rest = ("", words[2:]) if words[0] == "api" else (words[1], words[3:])
    is_of_one = len(rest) == 3 and rest[0] == "namespaces"
    return group, rest[-1], rest[1] if is_of_one else ""
