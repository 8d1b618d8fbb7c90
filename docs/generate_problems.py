"""The problem codes that services answer with, read from where the code raises them."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).parent.parent / "services" / "trade2026"
RAISED: dict[str, tuple[int | None, int, int]] = {"Problem": (0, 1, 2), "ParentError": (2, 0, 1), "_bad": (None, 0, 1)}
"""Where a call has its status, its code and its detail, by what is called."""
STATUS = {"ParentError": 409, "_bad": 422}
"""Of a call that says none."""
_SHOWN = 2
"""So many of a code's details."""


def written(node: ast.expr | None) -> str | None:
    """Return a text as the source has it, with … for what is known only when it is raised; None if it is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)  # type: ignore[misc]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return f"{written(node.left) or '…'}{written(node.right) or '…'}"
    return None


def raised(tree: ast.AST) -> Iterator[tuple[str, int | None, str]]:
    """Yield code, status and detail of every problem that a module raises by name."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in RAISED:
            continue
        places = RAISED[node.func.id]
        status, code, detail = (
            node.args[place] if place is not None and place < len(node.args) else None for place in places
        )
        name = written(code)
        if name is not None:
            said = status.value if isinstance(status, ast.Constant) and isinstance(status.value, int) else None
            yield name, said if status is not None else STATUS.get(node.func.id), written(detail) or ""


def problem_page() -> str:
    """Return the page of problem codes."""
    details: dict[str, dict[str, None]] = defaultdict(dict)
    statuses: dict[str, set[int]] = defaultdict(set)
    for path in sorted(SOURCES.rglob("*.py")):
        for code, status, detail in raised(ast.parse(path.read_text())):
            if status is not None:
                statuses[code].add(status)
            if detail.strip("… "):
                details[code][detail] = None
    lines = [
        "# Problem codes",
        "",
        "What an error says: [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) documents of type",
        "`application/problem+json`. `code` is for scripts and does not change, `detail` says to a person what is wrong",
        "and what to do, `field` which part of the request it is about, `retry_after` in how many seconds the same",
        "request may succeed. A … is what is known only then: a name, a number, the field.",
        "",
        "An order that a control refuses has a `reject_code` besides: [reject codes](reject-codes.md).",
        "",
        "| code | status | detail, for example |",
        "|---|---|---|",
    ]
    for code in sorted(details.keys() | statuses.keys()):
        shown = "<br>".join(" ".join(text.split()).replace("|", "\\|") for text in list(details[code])[:_SHOWN])
        lines.append(f"| `{code}` | {', '.join(map(str, sorted(statuses[code])))} | {shown} |")
    return "\n".join(lines) + "\n"
