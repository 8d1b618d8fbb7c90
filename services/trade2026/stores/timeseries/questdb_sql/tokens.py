"""SQL text as words and brackets: as much structure as rewriting needs, and every character kept."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

WordKind = Literal["name", "quoted", "text", "number", "mark"]

_WORD = re.compile(
    r"""(?P<space>(?:\s+|--[^\n]*|/\*.*?\*/)+)
      | (?P<text>[eE]?'(?:[^']|'')*'|\$\$.*?\$\$)
      | (?P<quoted>"(?:[^"]|"")*")
      | (?P<number>(?:\d[\d_]*)?\.?\d+(?:[eE][-+]?\d+)?)
      | (?P<name>[^\W\d][\w$]*)
      | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
DEPTH_MAX = 100


class SqlError(ValueError):
    """A text that can't be understood; `position` is where, from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True)
class Word:
    """One word, with the space before it. `written` is what it was in the query, if it has been rewritten."""

    kind: WordKind
    text: str
    space: str
    position: int
    written: str = ""

    @property
    def lower(self) -> str:
        """As keywords and names are compared; a quoted name is no keyword."""
        return self.text.lower() if self.kind == "name" else ""

    @property
    def bare(self) -> str:
        """A name without what qualifies it."""
        return self.lower.rpartition(".")[2]

    @property
    def spoken(self) -> str:
        """As the query has it."""
        return self.written or self.text

    def __str__(self) -> str:
        return self.space + self.text


@dataclass(frozen=True)
class Group:
    """What is in a pair of brackets."""

    opening: Word
    nodes: "tuple[Node, ...]"
    closing: Word

    @property
    def position(self) -> int:
        return self.opening.position

    def __str__(self) -> str:
        return f"{self.opening}{render(self.nodes)}{self.closing}"


Node: TypeAlias = Word | Group


def render(nodes: Iterable[Node]) -> str:
    """The text again."""
    return "".join(map(str, nodes))


def raw(text: str, position: int = 0, written: str = "") -> Word:
    """Text that was made, as one word."""
    return Word("mark", text, " ", position, written)


def is_word(node: Node | None, *words: str) -> bool:
    """Whether it is one of these keywords."""
    return isinstance(node, Word) and node.lower in words


def name_of(node: Node) -> str:
    """The identifier that a word is; empty for anything else."""
    if not isinstance(node, Word):
        return ""
    if node.kind == "quoted":
        return node.text[1:-1].replace('""', '"')
    return node.text if node.kind == "name" else ""


def quote(name: str) -> str:
    """An identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def read(sql: str) -> tuple[Node, ...]:
    """Read a text.

    Raises:
        SqlError: a bracket is missing, or brackets nest too deep.
    """
    levels: list[tuple[Word | None, list[Node]]] = [(None, [])]
    space = ""
    for match in _WORD.finditer(sql):
        kind = match.lastgroup
        if kind == "space":
            space += match.group()
            continue
        word = Word(kind, match.group(), space, match.start())  # type: ignore[arg-type]
        space = ""
        if kind == "mark" and word.text in _CLOSING:
            if len(levels) > DEPTH_MAX:
                raise SqlError(f"brackets nest at most {DEPTH_MAX} deep", word.position)
            levels.append((word, []))
        elif kind == "mark" and word.text in _CLOSING.values():
            opening, nodes = levels.pop()
            if opening is None or _CLOSING[opening.text] != word.text:
                raise SqlError(f"unexpected {word.text}", word.position)
            levels[-1][1].append(Group(opening, tuple(nodes), word))
        else:
            levels[-1][1].append(word)
    if len(levels) > 1:
        opening = levels[-1][0]
        assert opening is not None
        raise SqlError(f"{opening.text} is not closed", opening.position)
    nodes = levels[0][1]
    while nodes and isinstance(nodes[-1], Word) and nodes[-1].text == ";":
        nodes.pop()
    return tuple(nodes)


def split(nodes: Sequence[Node], mark: str = ",") -> list[list[Node]]:
    """Cut at every such mark of this level."""
    parts: list[list[Node]] = [[]]
    for node in nodes:
        if isinstance(node, Word) and node.kind == "mark" and node.text == mark:
            parts.append([])
        else:
            parts[-1].append(node)
    return parts
