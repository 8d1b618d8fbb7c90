"""`trade2026 strategy check`: what a strategy's source must not do, found without running it.

A strategy that reads a clock, draws its own randomness or talks to the world decides otherwise in a replay; a
crash would then lose what it knew. The check is advice that the platform enforces when it loads a file; it
is no sandbox against malice.
"""

import ast
import difflib
from dataclasses import dataclass
from typing import Any

from trade2026.sdk.strategy import Strategy

ALLOWED_MODULES = frozenset(
    [
        "__future__",
        "abc",
        "bisect",
        "collections",
        "copy",
        "cmath",
        "dataclasses",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "heapq",
        "itertools",
        "math",
        "msgspec",
        "numbers",
        "numpy",
        "operator",
        "re",
        "statistics",
        "string",
        "trade2026",
        "typing",
        "typing_extensions",
        "types",
    ]
)
"""Top-level modules that cannot break a replay as strategies use them."""

_WHY = {
    **dict.fromkeys(("time", "datetime", "zoneinfo", "calendar"), "the time is ctx.now (ns) or ctx.time"),
    **dict.fromkeys(("random", "secrets", "uuid"), "randomness is ctx.random"),
    **dict.fromkeys(("logging", "warnings", "sys"), "say it with ctx.log"),
    **dict.fromkeys(("threading", "multiprocessing", "concurrent", "asyncio", "queue"), "a strategy has no threads"),
}
_CALLS = {
    "open": "a strategy has no files: keep what it knows on self",
    "input": "a strategy asks nobody",
    "print": "say it with ctx.log",
    "exec": "code is not made while it runs",
    "eval": "code is not made while it runs",
    "compile": "code is not made while it runs",
    "__import__": "modules are imported at the top",
    "id": "an address is another one in a replay",
    "hash": "the hash of a text is another one in a replay",
    "globals": "what a strategy remembers is on self",
    "breakpoint": "a strategy does not wait for a person",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what to do instead."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


def check(source: str, modules: frozenset[str] = ALLOWED_MODULES) -> list[Finding]:
    """Return what a strategy's source does wrong, by line.

    Args:
        modules: Top-level modules that it may import.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [Finding(error.lineno or 0, f"is no Python: {error.msg}")]
    visitor = _Visitor(modules)
    visitor.visit(tree)
    return sorted(visitor.findings, key=lambda finding: (finding.line, finding.message))


CALLBACKS = tuple(name for name in vars(Strategy) if name.startswith("on_"))
"""What the platform calls."""


def doubts(make: type[Strategy[Any]], source: str) -> list[Finding]:
    """Return where a strategy that may run will hardly do what is meant: methods that nobody calls.

    Args:
        source: Of the file that has the class.
    """
    tree = ast.parse(source)
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    lines = {node.name: node.lineno for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found = [
        Finding(lines.get(name, 0), f"nobody calls {name}(): {_meant(name)}")
        for name in dir(make)
        if name not in used and name not in CALLBACKS and _means_callback(name) and callable(getattr(make, name))
    ]
    if all(getattr(make, name) is getattr(Strategy, name) for name in CALLBACKS):
        told = f"{make.__name__} does nothing: it has none of {', '.join(CALLBACKS)}"
        found.append(Finding(lines.get(make.__name__, 0), told))
    return sorted(found, key=lambda finding: finding.line)


def _means_callback(name: str) -> bool:
    return name.startswith("on_") or (name.lower().startswith("on") and bool(_nearest(name)))


def _meant(name: str) -> str:
    if near := _nearest(name):
        return f"did you mean {near}?"
    return f"the platform calls {', '.join(CALLBACKS)}"


def _nearest(name: str) -> str:
    """The callback that a name looks like; "" if none."""
    flat = {callback.replace("_", ""): callback for callback in CALLBACKS}
    close = difflib.get_close_matches(name.lower().replace("_", ""), flat, n=1, cutoff=0.8)
    return flat[close[0]] if close else ""


class _Visitor(ast.NodeVisitor):
    def __init__(self, modules: frozenset[str]) -> None:
        self.modules = modules
        self.findings: list[Finding] = []

    def _find(self, node: ast.AST, message: str) -> None:
        self.findings.append(Finding(getattr(node, "lineno", 0), message))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._module(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if not node.level:
            self._module(node, node.module or "")

    def _module(self, node: ast.AST, name: str) -> None:
        top = name.partition(".")[0]
        if top == "trade2026" and not name.startswith("trade2026.sdk"):
            self._find(node, f"{name} is the platform's inside: a strategy imports trade2026.sdk")
        elif top not in self.modules:
            self._find(node, f"{name} must not be imported: {_WHY.get(top, 'it may reach the outside world')}")
        elif name == "numpy.random":
            self._find(node, "numpy.random must not be imported: randomness is ctx.random")

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in _CALLS:
            self._find(node, f"{node.func.id}() must not be called: {_CALLS[node.func.id]}")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr == "random" and isinstance(node.value, ast.Name) and node.value.id in ("np", "numpy"):
            self._find(node, "numpy.random must not be used: randomness is ctx.random")
        if node.attr.startswith("__") and node.attr.endswith("__") and node.attr not in ("__init__", "__name__"):
            self._find(node, f"{node.attr} must not be used: it leads out of the strategy")
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self._find(node, "global must not be used: what a strategy remembers is on self, or it is not saved")

    def _async(self, node: ast.AST) -> None:
        self._find(node, "async must not be used: a strategy is called, and answers at once")

    visit_AsyncFunctionDef = visit_Await = visit_AsyncFor = visit_AsyncWith = _async
