"""Somebody's SQL, before an engine sees it: one query, that can't get out of the parentheses we put around it. Pure.

The engine runs it read-only. What is refused here is what would lift that: a second statement, an end of the
parentheses, settings of its own, and chdb's table function that reads the variables of our process.
"""

import re

from trade2026.stores.analytics.port import QueryRefused

_QUOTED_OR_COMMENT = re.compile(
    r"""'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`\\]|\\.|``)*`
      | (?P<comment>--[^\n]* | \#[^\n]* | /\*.*?\*/)
      | (?P<open>['"`] | /\* | \$\w*\$)""",
    re.VERBOSE | re.DOTALL,
)
_OF_ITS_OWN = re.compile(r"\bsettings\s+\w+\s*=|\bpython\s*\(|\binto\s+outfile\b|\bformat\s+\w+\s*$", re.IGNORECASE)


def guarded(sql: str) -> str:
    """Return a query without its comments and its last semicolon.

    Raises:
        QueryRefused: it is more than one query, or less.
    """
    kept = _QUOTED_OR_COMMENT.sub(_without_comment, sql).strip().removesuffix(";").strip()
    bare = _QUOTED_OR_COMMENT.sub("''", kept)
    if not kept:
        raise QueryRefused("it is empty")
    if ";" in bare:
        raise QueryRefused("one query at a time: there is a semicolon in it")
    depth = 0
    for sign in bare:
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            break
    if depth:
        raise QueryRefused("its parentheses don't match")
    if found := _OF_ITS_OWN.search(bare):
        raise QueryRefused(f"{found.group().strip()!r} is not for queries here")
    return kept


def _without_comment(found: re.Match[str]) -> str:
    if found.group("open"):
        raise QueryRefused(f"{found.group('open')} is not closed, or is no quote that is known here")
    return " " if found.group("comment") else found.group()
