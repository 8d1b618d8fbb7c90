"""Query parameters as routes declare them: what is not declared is refused, because a typo must not widen an answer."""

import difflib
from collections.abc import Mapping
from urllib.parse import parse_qsl

from trade2026.kit.problem import Problem

Parameters = Mapping[str, str]
"""What each parameter of a route is, by its name."""

ACCOUNT: Parameters = {"account": "only of this account"}
LIMIT: Parameters = {"limit": "how many at most"}
CURSOR: Parameters = {"cursor": "where the page before has ended"}
PAGE: Parameters = {**CURSOR, **LIMIT}
ORDERS: Parameters = {**ACCOUNT, "status": "open, closed, or a state such as Filled", **PAGE}


def read_query(text: bytes) -> dict[str, str]:
    """Return the parameters of a query string; of a repeated name the last value."""
    return dict(parse_qsl(text.decode("latin-1"), keep_blank_values=True)) if text else {}


def refuse_unknown(text: bytes, known: Parameters) -> None:
    """Refuse a query string with a parameter that is not declared.

    Raises:
        Problem: 422 `unknown_parameter`, with the parameter that may have been meant.
    """
    for name in read_query(text):
        if name in known:
            continue
        close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
        if close:
            advice = f"did you mean {close[0]!r}?"
        elif known:
            advice = f"known here: {', '.join(known)}"
        else:
            advice = "this endpoint has none"
        raise Problem(422, "unknown_parameter", f"there is no parameter {name[:80]!r}; {advice}", field=name[:80])
