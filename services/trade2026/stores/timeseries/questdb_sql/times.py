"""QuestDB's short ways to ask for times, missing values and patterns."""

import re
from datetime import datetime, timedelta

from trade2026.stores.timeseries.questdb_sql.tokens import Node, SqlError, Word, is_word, raw

_INTERVAL = re.compile(
    r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:[T ](\d{2})(?::(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?)?)?)?)?Z?"
    r"(?:;(\d+)([smhdwT]))?"
)
_SPANS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "T": 0.001}


def with_times(nodes: list[Node]) -> list[Node]:
    """`IN '2013-11-25T10'` means all that is within it, `= null` what has no value, and `~` finds anywhere in a text."""
    for place in range(len(nodes) - 1):
        node, text = nodes[place], nodes[place + 1]
        if not isinstance(node, Word) or not isinstance(text, Word):
            continue
        if node.text == "=" and is_word(text, "null"):
            _ask_for_null(nodes, place)
        elif node.text == "~" and text.kind == "text":
            nodes[place + 1] = raw(f"'.*(?:{text.text[1:-1]}).*'", text.position, text.text)
        elif is_word(node, "in") and text.kind == "text":
            first, last = _bounds(text.text[1:-1], text.position)
            nodes[place] = raw("BETWEEN", node.position, node.text)
            nodes[place + 1] = raw(f"TIMESTAMP '{first}' AND TIMESTAMP '{last}'", text.position, text.text)
    return nodes


def _ask_for_null(nodes: list[Node], place: int) -> None:
    before = nodes[place - 1] if place else None
    unequal = isinstance(before, Word) and before.text == "!"
    if unequal:
        nodes[place - 1] = raw("", nodes[place].position)
    nodes[place] = raw("IS NOT" if unequal else "IS", nodes[place].position)


def _bounds(text: str, position: int) -> tuple[datetime, datetime]:
    """The first and the last microsecond of an interval such as `2013-11`, `2013-11-25T10:30` or `2013-11-25;2d`."""
    match = _INTERVAL.fullmatch(text)
    if match is None:
        raise SqlError(f"{text!r} is no interval of time such as '2013-11-25T10' or '2013-11-25;2d'", position)
    *fields, count, unit = match.groups()
    given = [int(value) for value in fields[:6] if value is not None]
    micros = int(fields[6].ljust(6, "0")) if fields[6] else 0
    try:
        year, month, day, hour, minute, second = given + [1, 1, 1, 0, 0, 0][len(given) :]
        first = datetime(year, month, day, hour, minute, second, micros)  # noqa: DTZ001 - all is UTC here
        if len(given) == 1:
            end = first.replace(year=first.year + 1)
        elif len(given) == 2:
            end = (first + timedelta(days=31)).replace(day=1)
        elif fields[6]:
            end = first + timedelta(microseconds=10 ** (6 - len(fields[6])))
        else:
            end = first + timedelta(seconds=(86400, 3600, 60, 1)[len(given) - 3])
        if count:
            end = first + timedelta(seconds=int(count) * _SPANS[unit])
    except (ValueError, OverflowError) as error:
        raise SqlError(f"{text!r}: {error}", position) from error
    return first, end - timedelta(microseconds=1)
