"""One SELECT as its clauses, and the items of its list with their names."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from trade2026.stores.timeseries.questdb_sql.functions import AGGREGATES
from trade2026.stores.timeseries.questdb_sql.tokens import Group, Node, Word, is_word, name_of, render, split
from trade2026.stores.timeseries.schema import TIMESTAMP

_PAIRS = {"sample": ("by",), "latest": ("on", "by"), "group": ("by",), "order": ("by",)}
_CLAUSES = {
    "from": {"from"},
    "where": {"where"},
    "sample": {"sample"},
    "latest": {"latest"},
    "group": {"group"},
    "having": {"having"},
    "window": {"window"},
    "qualify": {"qualify"},
    "order": {"order"},
    "limit": {"limit", "offset"},
}
_KEYWORDS = """
null true false end asc desc is not and or in like ilike between distinct from interval all any some case when then
else similar glob escape isnull notnull at
"""
_NO_ALIAS = frozenset(_KEYWORDS.split())
"""Words that end an expression or go on with it, and never name it."""


@dataclass
class Item:
    """One item of a select list: `name` is what it is called in the answer."""

    nodes: list[Node]
    name: str
    named: bool
    """By the query itself."""

    @property
    def text(self) -> str:
        return render(self.nodes).strip()

    @property
    def is_star(self) -> bool:
        """Several columns: `*`, `t.*`, `COLUMNS(…)`."""
        return any(isinstance(node, Word) and (node.text == "*" and node is self.nodes[0]) for node in self.nodes) or (
            len(self.nodes) > 2 and isinstance(self.nodes[2], Word) and self.nodes[2].text == "*" and not self.named
            and isinstance(self.nodes[1], Word) and self.nodes[1].text == "."
        ) or is_word(self.nodes[0], "columns", "unnest")  # fmt: skip

    @property
    def column(self) -> str:
        """The column that it is; empty for an expression."""
        if len(self.nodes) == 1:
            return name_of(self.nodes[0])
        dotted = len(self.nodes) == 3 and isinstance(self.nodes[1], Word) and self.nodes[1].text == "."
        return name_of(self.nodes[2]) if dotted else ""

    @property
    def is_time(self) -> bool:
        """Whether it is the designated timestamp."""
        return self.column.lower() == TIMESTAMP

    @property
    def is_aggregate(self) -> bool:
        """Whether it makes one value of many rows."""
        return _aggregates(self.nodes)


def _aggregates(nodes: Sequence[Node]) -> bool:
    for place, node in enumerate(nodes):
        following = nodes[place + 1] if place + 1 < len(nodes) else None
        if isinstance(node, Group):
            if not is_word(node.nodes[0] if node.nodes else None, "select", "with", "from") and _aggregates(node.nodes):
                return True
        elif node.bare in AGGREGATES and isinstance(following, Group):
            after = next((n for n in nodes[place + 2 :] if not isinstance(n, Group)), None)
            if is_word(after, "filter", "within"):
                after = next((n for n in nodes[place + 4 :] if not isinstance(n, Group)), None)
            if not is_word(after, "over"):
                return True
    return False


@dataclass
class Select:
    """One SELECT without the set operations around it.

    `clauses` holds the nodes of each clause behind its keyword; `source` also that of a FROM that comes first.
    """

    head: list[Node]
    """SELECT, and DISTINCT if it is there."""
    items: list[Item]
    clauses: dict[str, list[Node]] = field(default_factory=dict[str, list[Node]])

    @property
    def is_distinct(self) -> bool:
        return len(self.head) > 1

    def clause(self, name: str) -> str:
        """The text of a clause with its keyword; empty if it is not there."""
        return render(self.clauses.get(name, ()))

    def body(self, name: str, words: int = 1) -> list[Node]:
        """The nodes of a clause without its keywords."""
        return self.clauses.get(name, [])[words:]


def read_select(nodes: Sequence[Node]) -> Select:
    """Cut `SELECT …` into its clauses; the order in which they come is the grammar's business."""
    head, rest = [nodes[0]], list(nodes[1:])
    if rest and is_word(rest[0], "distinct", "all"):
        head.append(rest.pop(0))
        if is_word(rest[0] if rest else None, "on"):
            head += rest[:2]
            del rest[:2]
    clauses: dict[str, list[Node]] = {}
    listed: list[Node] = []
    current = listed
    for place, node in enumerate(rest):
        name = _clause_at(rest, place, clauses)
        if name:
            current = clauses.setdefault(name, [])
        current.append(node)
    return Select(head, [read_item(part) for part in split(listed) if part], clauses)


def _clause_at(nodes: Sequence[Node], place: int, seen: dict[str, list[Node]]) -> str:
    """Which clause begins here; empty if none does."""
    node, before = nodes[place], nodes[place - 1] if place else None
    following = nodes[place + 1] if place + 1 < len(nodes) else None
    word = node.lower if isinstance(node, Word) else ""
    if not word or (isinstance(before, Word) and before.text == "."):
        return ""
    name = next((name for name, words in _CLAUSES.items() if word in words), "")
    if not name or (word in _PAIRS and not is_word(following, *_PAIRS[word])):
        return ""
    if name == "from" and ("from" in seen or is_word(before, "distinct")):
        return ""
    if word == "offset" and is_word(before, "with"):
        return ""
    return name


def read_item(nodes: list[Node]) -> Item:
    """An item of a select list and its name."""
    last = nodes[-1]
    if len(nodes) > 2 and is_word(nodes[-2], "as"):
        return Item(nodes[:-2], name_of(last) or str(last).strip().strip("'"), named=True)
    if len(nodes) > 1 and (name := name_of(last)) and not is_word(last, *_NO_ALIAS):
        before = nodes[-2]
        ends = isinstance(before, Group) or (
            before.kind != "mark" and (before.lower not in _NO_ALIAS or is_word(before, "null", "true", "false", "end"))
        )
        if ends:
            return Item(nodes[:-1], name, named=True)
    item = Item(nodes, "", named=False)
    item.name = item.column or _spoken(nodes)
    return item


def _spoken(nodes: Sequence[Node]) -> str:
    """What QuestDB calls an expression: its text, with `count(*)` as `count()`, and without a window."""
    if len(nodes) > 2 and is_word(nodes[-2], "over"):
        nodes = nodes[:-2]
    if len(nodes) == 2 and is_word(nodes[0], "count") and render(nodes[1:]).strip() in ("(*)", "(1)", "()"):
        return f"{_spoken(nodes[:1])}()"
    text = ""
    for place, node in enumerate(nodes):
        before = nodes[place - 1] if place else None
        gap = " " if place and (_is_apart(node) or _is_apart(before) or _spaced(node)) else ""
        if isinstance(node, Group):
            text += f"{gap if _spaced(node) else ''}{node.opening.text}{_spoken(node.nodes)}{node.closing.text}"
        elif node.text == ",":
            text += ","
        else:
            text += ("" if text.endswith("(") else gap) + node.spoken
    return text


def _is_apart(node: Node | None) -> bool:
    """Whether an operator has spaces around it; so has the text behind a comma."""
    return isinstance(node, Word) and node.kind == "mark" and node.text in "+-*/%<>=,|"


def _spaced(node: Node) -> bool:
    first = node.opening if isinstance(node, Group) else node
    return bool(first.space)
