"""Suggestions for a name that is not known."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, otherwise: str | None = None) -> str:
    """Return the end of an error message: the nearest known name, or all of them, or `otherwise`."""
    names = list(known)
    lower = {candidate.lower().replace("_", ""): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower().replace("_", ""), lower, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {lower[close[0]]!r}?"
    if otherwise is not None:
        return otherwise
    return f"; known: {', '.join(names)}" if names else ""
