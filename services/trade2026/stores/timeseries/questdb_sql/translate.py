"""From QuestDB's SELECT to DuckDB's: SAMPLE BY, LATEST ON, intervals of time, implicit GROUP BY, negative LIMIT.

A query is read as words and brackets; what is in brackets is rewritten first. Whatever is not QuestDB's own is left
as it was written, so that every DuckDB SELECT is answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from trade2026.stores.timeseries.questdb_sql.functions import FORMATTED, NAMES, SCHEMA, strftime_of
from trade2026.stores.timeseries.questdb_sql.sample import sampled
from trade2026.stores.timeseries.questdb_sql.select import Item, Select, read_select
from trade2026.stores.timeseries.questdb_sql.times import with_times
from trade2026.stores.timeseries.questdb_sql.tokens import (
    Group,
    Node,
    SqlError,
    Word,
    is_word,
    name_of,
    quote,
    raw,
    read,
    render,
    split,
)
from trade2026.stores.timeseries.schema import TABLES, TIMESTAMP

__all__ = ["SqlError", "Translated", "translate"]

_SETS = ("union", "intersect", "except")
_BEGINNINGS = ("select", "with", "from", "values", "show", "table", "pivot", "unpivot", "describe", "summarize")
_TAIL = ("where", "latest", "sample", "limit")


@dataclass(frozen=True)
class Translated:
    """A query for DuckDB. `timestamp` is the name of the column that its rows are sorted by in time; else empty."""

    sql: str
    timestamp: str = ""


def translate(sql: str) -> Translated:
    """Rewrite one query.

    Raises:
        SqlError: the text can't be understood, or asks for something that can't be rewritten.
    """
    nodes = list(read(sql))
    if not nodes:
        raise SqlError("empty query", 0)
    if is_word(nodes[0], "show"):
        return Translated(_shown(nodes))
    if _is_bare_table(nodes) or (len(nodes) == 1 and name_of(nodes[0]) and not is_word(nodes[0], *_BEGINNINGS)):
        nodes = _selected(nodes)
    return _query(nodes, outermost=True)


def _is_bare_table(nodes: Sequence[Node]) -> bool:
    """Whether a query leaves `SELECT * FROM` out."""
    return (
        len(nodes) > 1 and bool(name_of(nodes[0])) and not is_word(nodes[0], *_BEGINNINGS) and is_word(nodes[1], *_TAIL)
    )


def _selected(nodes: Sequence[Node]) -> list[Node]:
    table = Word("quoted", quote(name_of(nodes[0])), " ", nodes[0].position)
    return [Word("name", "SELECT", "", 0), Word("mark", "*", " ", 0), Word("name", "FROM", " ", 0), table, *nodes[1:]]


def _shown(nodes: Sequence[Node]) -> str:
    """SHOW TABLES and SHOW COLUMNS as queries."""
    if is_word(nodes[1] if len(nodes) > 1 else None, "tables"):
        return "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main' ORDER BY 1"
    if len(nodes) == 4 and is_word(nodes[1], "columns") and is_word(nodes[2], "from"):
        table = TABLES.get(name_of(nodes[3]))
        if table is None:
            raise SqlError(f"table does not exist [table={name_of(nodes[3])}]", nodes[3].position)
        rows = ", ".join(
            f"('{column.name}', '{column.kind}', {column.name == TIMESTAMP}, {column.name in table.keys})"
            for column in table.columns
        )
        return f'SELECT * FROM (VALUES {rows}) AS columns("column", "type", designated, "upsertKey")'
    raise SqlError("SHOW knows TABLES and COLUMNS FROM a table", nodes[0].position)


def _query(nodes: Sequence[Node], *, outermost: bool = False) -> Translated:
    """A query at one level of brackets: common tables, then one SELECT or several in a set operation."""
    plain = with_times([_inner(node) for node in _functions(nodes)])
    start = _first_select(plain)
    if start is None:
        return Translated(render(plain))
    prefix, rest = plain[:start], plain[start:]
    parts, marks = _set_operands(rest)
    if len(parts) == 1:
        text, timestamp = _select(parts[0], outermost=outermost)
        return Translated(render(prefix) + " " + text if prefix else text, timestamp)
    texts = [_select(part)[0] if is_word(part[0], "select") else render(part) for part in parts]
    text = texts[0] + "".join(f" {render(mark)} {text}" for mark, text in zip(marks, texts[1:], strict=True))
    return Translated(render(prefix) + " " + text)


def _inner(node: Node) -> Node:
    """What is in brackets, rewritten."""
    if isinstance(node, Word):
        return node
    if node.opening.text == "(" and node.nodes and is_word(node.nodes[0], "select", "with"):
        return Group(node.opening, (raw(_query(node.nodes).sql, node.position),), node.closing)
    if node.opening.text == "(" and _is_bare_table(node.nodes):
        return Group(node.opening, (raw(_query(_selected(node.nodes)).sql, node.position),), node.closing)
    return Group(node.opening, tuple(with_times([_inner(inner) for inner in _functions(node.nodes)])), node.closing)


def _functions(nodes: Sequence[Node]) -> list[Node]:
    """QuestDB's functions by their full names."""
    found: list[Node] = []
    for place, node in enumerate(nodes):
        following = nodes[place + 1] if place + 1 < len(nodes) else None
        before = nodes[place - 1] if place else None
        if isinstance(before, Word) and before.text == ".":
            pass
        elif isinstance(node, Word) and isinstance(following, Group) and following.opening.text == "(":
            if node.lower in NAMES:
                node = replace(node, text=f"{SCHEMA}.{node.text}", written=node.text)
            elif node.lower in FORMATTED and _format_of(following) is not None:
                node = replace(node, text=FORMATTED[node.lower], written=node.text)
        elif isinstance(node, Group) and isinstance(before, Word) and before.lower in FORMATTED:
            written = _format_of(node)
            if written is not None:
                text = f"'{strftime_of(written.text[1:-1])}'"
                node = Group(node.opening, (*node.nodes[:-1], raw(text, written.position, written.text)), node.closing)
        found.append(node)
    return found


def _format_of(arguments: Group) -> Word | None:
    """The format that is written out as the second of two arguments."""
    parts = split(arguments.nodes)
    last = parts[-1][0] if len(parts) == 2 and len(parts[-1]) == 1 else None
    return last if isinstance(last, Word) and last.kind == "text" else None


def _first_select(nodes: Sequence[Node]) -> int | None:
    return next((place for place, node in enumerate(nodes) if is_word(node, "select")), None)


def _set_operands(nodes: Sequence[Node]) -> tuple[list[list[Node]], list[list[Node]]]:
    """The SELECTs of a set operation, and what is between them."""
    parts: list[list[Node]] = [[]]
    marks: list[list[Node]] = []
    in_mark = False
    for node in nodes:
        if is_word(node, *_SETS) and parts[-1]:
            marks.append([node])
            parts.append([])
            in_mark = True
        elif in_mark and is_word(node, "all", "by", "name", "distinct"):
            marks[-1].append(node)
        else:
            parts[-1].append(node)
            in_mark = False
    return parts, marks


# ── one SELECT ──────────────────────────────────────────────────────────────────────────────────────


class Rewritten(NamedTuple):
    """A SELECT for DuckDB, and the column that it is sorted by in time."""

    text: str
    timestamp: str


def _select(nodes: Sequence[Node], *, outermost: bool = False) -> Rewritten:
    select = read_select(nodes)
    if "latest" in select.clauses:
        _take_latest(select)
    limit = _limit(select)
    timestamp = _sorted_by(select)
    if "sample" in select.clauses:
        text = sampled(select)
    else:
        if outermost:
            select.items = [_called(item) for item in select.items]
        text = _plain(select)
    if limit.last:
        text = (
            'SELECT * EXCLUDE ("#n") FROM (SELECT * FROM (SELECT *, row_number() OVER () AS "#n" '
            f'FROM ({text})) ORDER BY "#n" DESC LIMIT {limit.last}) ORDER BY "#n"'
        )
    return Rewritten(text + limit.text, timestamp)


def _plain(select: Select) -> str:
    grouped = (
        not {"group", "sample"} & select.clauses.keys()
        and not select.is_distinct
        and any(item.is_aggregate for item in select.items)
        and not all(item.is_aggregate or _is_constant(item) for item in select.items)
    )
    if grouped:
        select.clauses["group"] = [raw("GROUP BY ALL")]
    items = ",".join(render(item.nodes) for item in select.items)
    _in_time(select)
    order = ("from", "where", "group", "having", "window", "qualify", "order", "limit")
    return render(select.head) + items + "".join(select.clause(name) for name in order)


def _called(item: Item) -> Item:
    """With the name that QuestDB would give it."""
    if item.is_star:
        return item
    last = item.nodes[-1]
    if item.named or not (item.column or (isinstance(last, Word) and last.kind == "mark" and not last.written)):
        return Item([*item.nodes, raw(f"AS {quote(item.name)}")], item.name, item.named)
    return item


def _in_time(select: Select) -> None:
    """A window puts the rows of a table in an order of its own: QuestDB leaves them in that of time."""
    source = select.body("from")
    windowed = any(is_word(node, "over") for item in select.items for node in item.nodes)
    if (
        windowed
        and "order" not in select.clauses
        and source
        and name_of(source[0]).lower() in TABLES
        and len(source) < 4
    ):
        select.clauses["order"] = [raw(f"ORDER BY {TIMESTAMP}")]


def _is_constant(item: Item) -> bool:
    return all(isinstance(node, Word) and node.kind in ("number", "text") for node in item.nodes)


def _sorted_by(select: Select) -> str:
    """The column that is the designated timestamp of the answer, as QuestDB tells it; empty if none is."""
    if {"group", "having", "qualify"} & select.clauses.keys() or select.is_distinct or "from" not in select.clauses:
        return ""
    source = select.body("from")
    if any(is_word(node, "join") or (isinstance(node, Word) and node.text == ",") for node in source):
        return ""
    order = select.body("order", 2)
    if order and name_of(order[0]).lower() != TIMESTAMP:
        return ""
    sampling = "sample" in select.clauses
    if not sampling and any(item.is_aggregate for item in select.items):
        return ""
    if any(item.is_star for item in select.items):
        return TIMESTAMP
    return next((item.name for item in select.items if item.is_time), "")


# ── LATEST ON ───────────────────────────────────────────────────────────────────────────────────────


def _take_latest(select: Select) -> None:
    """`FROM t WHERE … LATEST ON timestamp PARTITION BY a, b`: the newest row of each, out of those that are left."""
    latest = select.clauses.pop("latest")
    place = next((n for n, node in enumerate(latest) if is_word(node, "partition")), None)
    if is_word(latest[1], "on") and place is not None and is_word(latest[place + 1], "by") and place > 2:
        time, keys = render(latest[2:place]), render(latest[place + 2 :])
    else:
        raise SqlError("LATEST is written: LATEST ON timestamp PARTITION BY column, …", latest[0].position)
    if not keys.strip():
        raise SqlError("LATEST ON needs columns after PARTITION BY", latest[0].position)
    source = select.clause("from")
    newest = (
        f"FROM (SELECT *{source}{select.clause('where')} QUALIFY row_number() OVER (PARTITION BY{keys} "
        f"ORDER BY{time} DESC) = 1 ORDER BY{time}) AS {quote(_alias(select.body('from')))}"
    )
    select.clauses.pop("where", None)
    select.clauses["from"] = [Word("name", "FROM", " ", latest[0].position), raw(newest.removeprefix("FROM "))]


def _alias(source: Sequence[Node]) -> str:
    """What a table is called in the rest of the query."""
    last = source[-1] if source else None
    return (name_of(last) if last is not None else "") or "latest"


# ── LIMIT ───────────────────────────────────────────────────────────────────────────────────────────


class _Limit(NamedTuple):
    text: str = ""
    last: int = 0
    """So many rows from the end."""


def _limit(select: Select) -> _Limit:
    """`LIMIT from, to` and `LIMIT -n` are QuestDB's; any other is left in place."""
    words = [node.text if isinstance(node, Word) else "" for node in select.clauses.get("limit", ())]
    match words:
        case [_, "-", count] if count.isdigit():
            del select.clauses["limit"]
            return _Limit(last=int(count))
        case [_, first, ",", last] if first.isdigit() and last.isdigit():
            del select.clauses["limit"]
            return _Limit(text=f" LIMIT {max(0, int(last) - int(first))} OFFSET {first}")
        case _:
            if "sample" in select.clauses and words:
                return _Limit(text=render(select.clauses.pop("limit")))
            return _Limit()
