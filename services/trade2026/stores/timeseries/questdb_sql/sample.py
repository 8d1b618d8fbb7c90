"""SAMPLE BY: rows into buckets of time, one row a bucket and key, with empty buckets filled where that is asked for.

`SELECT timestamp, symbol, avg(price) FROM ticks SAMPLE BY 1m FILL(PREV)` becomes a GROUP BY over `time_bucket`, and,
with FILL, a join of every bucket and key with what there is. Buckets are aligned to the calendar (UTC).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from trade2026.stores.timeseries.questdb_sql.functions import INTERVALS
from trade2026.stores.timeseries.questdb_sql.select import Item, Select
from trade2026.stores.timeseries.questdb_sql.tokens import Group, Node, SqlError, Word, is_word, quote, render, split
from trade2026.stores.timeseries.schema import TIMESTAMP

_BUCKET = '"#t"'
_FIRSTS = {"first": "arg_min_null", "last": "arg_max_null", "first_not_null": "arg_min", "last_not_null": "arg_max"}
"""Rows have no order of their own in DuckDB: the first one is that of the earliest time."""


@dataclass
class Sampling:
    """What a SAMPLE BY clause says."""

    step: str = ""
    unit: str = ""
    fills: list[str] = field(default_factory=list[str])
    first_observation: bool = False
    zone: str = ""
    offset: str = ""
    start: str = ""
    end: str = ""

    @property
    def is_filled(self) -> bool:
        return bool(self.fills) and self.fills != ["NONE"]


def sampled(select: Select) -> str:
    """Rewrite a SELECT with SAMPLE BY."""
    where = select.clauses["sample"][0].position
    if "group" in select.clauses:
        raise SqlError("SAMPLE BY groups by itself: leave GROUP BY out", where)
    if any(item.is_star for item in select.items):
        raise SqlError("SAMPLE BY needs named columns and aggregates instead of *", where)
    if "from" not in select.clauses:
        raise SqlError("SAMPLE BY needs FROM", where)
    sampling = _read(select.body("sample", 2), where)
    names = [_BUCKET if item.is_time else quote(f"#{place}") for place, item in enumerate(select.items)]
    inner = _grouped(select, sampling, names)
    if sampling.is_filled:
        inner = _filled(inner, select.items, names, sampling, where)
    shown = ", ".join(f"{name} AS {quote(item.name)}" for name, item in zip(names, select.items, strict=True))
    keys = [name for name, item in zip(names, select.items, strict=True) if name != _BUCKET and not item.is_aggregate]
    order = select.clause("order") or f" ORDER BY {', '.join([_BUCKET, *keys])}"
    return f"SELECT {shown} FROM ({inner}){order}"


def _read(nodes: list[Node], position: int) -> Sampling:
    """`1m [FROM x TO y] [FILL(…)] [ALIGN TO CALENDAR … | FIRST OBSERVATION]`."""
    sampling, left = Sampling(), list(nodes)
    words = [node.text if isinstance(node, Word) else "" for node in left[:2]]
    count = words.pop(0) if words and words[0].isdigit() else "1"
    unit = words[0] if words else ""
    del left[: 3 - len(words)]
    if unit not in INTERVALS or int(count) < 1:
        raise SqlError(f"SAMPLE BY needs a span such as 1m; a unit is one of {' '.join(INTERVALS)}", position)
    sampling.unit, sampling.step = unit, f"{count} * {INTERVALS[unit]}"
    while left:
        word = left.pop(0)
        if is_word(word, "fill") and left and isinstance(left[0], Group):
            group = left.pop(0)
            assert isinstance(group, Group)
            sampling.fills = [_fill(part, group.position) for part in split(group.nodes)]
        elif is_word(word, "from", "to"):
            bound = [left.pop(0)] if left else []
            while left and not is_word(left[0], "to", "fill", "align"):
                bound.append(left.pop(0))
            setattr(sampling, "start" if is_word(word, "from") else "end", f"({render(bound)})::TIMESTAMP")
        elif is_word(word, "align") and is_word(left[0] if left else None, "to"):
            _align(left, sampling, word.position)
        else:
            raise SqlError(f"SAMPLE BY does not know {render([word]).strip()}", word.position)
    return sampling


def _align(left: list[Node], sampling: Sampling, position: int) -> None:
    words = [node.lower if isinstance(node, Word) else "" for node in left]
    if words[1:3] == ["first", "observation"]:
        sampling.first_observation = True
        del left[:3]
        return
    if words[1:2] != ["calendar"]:
        raise SqlError("ALIGN TO is followed by CALENDAR or FIRST OBSERVATION", position)
    del left[:2]
    words = words[2:]
    if words[:2] == ["time", "zone"] and len(left) > 2:
        sampling.zone = render(left[2:3]).strip()
        del left[:3]
        words = words[3:]
    if words[:2] == ["with", "offset"] and len(left) > 2:
        text = render(left[2:3]).strip().strip("'")
        sign, clock = ("-", text[1:]) if text.startswith("-") else ("", text.removeprefix("+"))
        sampling.offset = f"({sign}1 * INTERVAL '{clock}:00')"
        del left[:3]


def _fill(nodes: Sequence[Node], position: int) -> str:
    text = render(nodes).strip()
    if text.upper() in ("NONE", "NULL", "PREV", "LINEAR"):
        return text.upper()
    if text.lstrip("-").replace(".", "", 1).isdigit():
        return text
    raise SqlError("FILL knows NONE, NULL, PREV, LINEAR and numbers", position)


def _grouped(select: Select, sampling: Sampling, names: list[str]) -> str:
    """One row a bucket and key: with a bucket column, and every other under its place."""
    conditions = [f"({render(select.body('where'))})"] if "where" in select.clauses else []
    if sampling.start:
        conditions.append(f"{TIMESTAMP} >= {sampling.start}")
    if sampling.end:
        conditions.append(f"{TIMESTAMP} < {sampling.end}")
    source = select.clause("from") + (f" WHERE {' AND '.join(conditions)}" if conditions else "")
    values = [
        f"{render(_ordered(item.nodes)).strip()} AS {name}"
        for name, item in zip(names, select.items, strict=True)
        if name != _BUCKET
    ]
    return f"SELECT {', '.join([f'{_bucket(sampling, source)} AS {_BUCKET}', *values])}{source} GROUP BY ALL"


def _ordered(nodes: Sequence[Node]) -> list[Node]:
    """`first` and `last` in time."""
    found: list[Node] = []
    for place, node in enumerate(nodes):
        following = nodes[place + 1] if place + 1 < len(nodes) else None
        before = nodes[place - 1] if place else None
        if isinstance(node, Group):
            inside = tuple(_ordered(node.nodes))
            if isinstance(before, Word) and before.bare in _FIRSTS and node.opening.text == "(":
                inside = (*inside, Word("mark", f", {TIMESTAMP}", "", node.position))
            found.append(Group(node.opening, inside, node.closing))
        elif node.bare in _FIRSTS and isinstance(following, Group):
            found.append(Word("name", _FIRSTS[node.bare], node.space, node.position))
        else:
            found.append(node)
    return found


def _bucket(sampling: Sampling, source: str) -> str:
    """The start of the bucket that a row is in."""
    step, time = sampling.step, TIMESTAMP
    if sampling.first_observation:
        return f"time_bucket({step}, {time}, (SELECT min({TIMESTAMP}){source}))"
    origin = "TIMESTAMP '1969-12-29'" if sampling.unit == "w" else "TIMESTAMP '1970-01-01'"
    if sampling.zone:
        time = f"timezone({sampling.zone}, timezone('UTC', {time}))"
    if sampling.offset:
        time = f"({time} - {sampling.offset})"
    bucket = f"time_bucket({step}, {time}, {origin})"
    if sampling.offset:
        bucket = f"({bucket} + {sampling.offset})"
    return f"timezone('UTC', timezone({sampling.zone}, {bucket}))" if sampling.zone else bucket


def _filled(inner: str, items: list[Item], names: list[str], sampling: Sampling, position: int) -> str:
    """Every bucket from the first to the last, with every key that there is."""
    keys = [name for name, item in zip(names, items, strict=True) if name != _BUCKET and not item.is_aggregate]
    values = [name for name, item in zip(names, items, strict=True) if item.is_aggregate]
    fills = sampling.fills * len(values) if len(sampling.fills) == 1 else sampling.fills
    if len(fills) != len(values):
        raise SqlError(f"FILL has {len(fills)} values for {len(values)} aggregates", position)
    first, last = f"min({_BUCKET})", f"max({_BUCKET})"
    if sampling.start:
        first = sampling.start
    if sampling.end:
        last = f"{sampling.end} - INTERVAL 1 MICROSECOND"
    buckets = (
        f"SELECT unnest(generate_series(lo, hi, {sampling.step})) AS {_BUCKET} "
        f'FROM (SELECT {first} AS lo, {last} AS hi FROM "#s")'
    )
    listed = ", ".join(keys)
    grid = f"({buckets})" + (f' CROSS JOIN (SELECT DISTINCT {listed} FROM "#s")' if keys else "")
    same = " AND ".join(f'"#s".{name} IS NOT DISTINCT FROM "#g".{name}' for name in (_BUCKET, *keys))
    window = _window(keys)
    columns = [f'"#g".{name}' for name in (_BUCKET, *keys)]
    columns += [f"{_value(name, fill, window)} AS {name}" for name, fill in zip(values, fills, strict=True)]
    return (
        f'WITH "#s" AS MATERIALIZED ({inner}) SELECT {", ".join(columns)} '
        f'FROM (SELECT * FROM {grid}) AS "#g" LEFT JOIN "#s" ON {same}'
    )


def _window(keys: list[str]) -> str:
    partition = "PARTITION BY " + ", ".join(f'"#g".{key}' for key in keys) + " " if keys else ""
    return f'OVER ({partition}ORDER BY "#g".{_BUCKET})'


def _value(name: str, fill: str, window: str) -> str:
    """An aggregate, with what it is in a bucket that has no rows."""
    value = f'"#s".{name}'
    match fill:
        case "NULL" | "NONE":
            return value
        case "PREV":
            return f"last_value({value} IGNORE NULLS) {window}"
        case "LINEAR":
            return f"fill({value}::DOUBLE) {window}"
        case _:
            return f'CASE WHEN "#s".{_BUCKET} IS NULL THEN {fill} ELSE {value} END'
