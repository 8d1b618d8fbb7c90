"""What must hold between the fields of a manifest: declared once, enforced here and by an API server alike.

A rule is a Python expression over `self`, of the little that the Common Expression Language of Kubernetes (CEL) can
say, too. The model evaluates it; the custom resource definition has its translation (`trade2026.stack.cel`), with the
same words. What needs more than one object, or is free-form, is no rule: the operator checks it.
"""

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import CodeType
from typing import Any

from trade2026.stack.nearest import nearest
from trade2026.stack.units import quantity


class FieldError(ValueError):
    """What is wrong at a path inside the value that was checked."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


class Misfits(ValueError):
    """Everything that does not fit together in a value."""

    def __init__(self, faults: list[FieldError]) -> None:
        super().__init__("\n".join(f"{fault.path}: {fault}" for fault in faults))
        self.faults = faults


@dataclass(frozen=True)
class Rule:
    """One thing that must hold.

    Attributes:
        check: True where it holds. Attributes are named as in Python; `each` is one of `over`.
        says: What to do where it does not; `{EXPRESSION}` stands for a value.
        at: The field that it is about, as it is written in a manifest; with `over`, inside each of it.
        over: A list, or a map whose keys are meant; the rule holds for each of it.
        may_be_omitted: Whether a manifest need not have that list.
        name: A name that is not known where the rule does not hold (in Python alone), and
        known: those that are: the nearest of them, or all, end the message.
    """

    check: str
    says: str
    at: str = ""
    over: str = ""
    may_be_omitted: bool = False
    name: str = ""
    known: str = ""


def broken(rules: tuple[Rule, ...], value: Any) -> Iterator[FieldError]:
    """What is wrong with a value: each place where a rule does not hold."""
    for rule in rules:
        for each, place in _each(rule, value):
            scope = {**_SCOPE, "self": value, "each": each}
            if not _evaluated(rule.check, scope):
                yield FieldError(_path(place, rule.at), _words(rule, scope))


def _each(rule: Rule, value: Any) -> Iterator[tuple[Any, str]]:
    """What is checked, and where that is."""
    if not rule.over:
        yield None, ""
        return
    found = _evaluated(rule.over, {**_SCOPE, "self": value})
    field = written_path(rule.over)
    if isinstance(found, Mapping):
        yield from ((key, f"{field}.{key}") for key in found)
    else:
        yield from ((each, f"{field}[{number}]") for number, each in enumerate(found or ()))


def written_path(expression: str) -> str:
    """`self.risk.account_defaults` as it is written in a manifest."""
    return ".".join(map(written, expression.removeprefix("self.").split(".")))


def written(name: str) -> str:
    """A field's name in a manifest: `class` is a word of Python, the rest is in camelCase."""
    head, *rest = name.rstrip("_").split("_")
    return head + "".join(part.capitalize() for part in rest)


def _path(place: str, at: str) -> str:
    return f"{place}.{at}" if place and at else place or at


def _words(rule: Rule, scope: dict[str, Any]) -> str:
    parts = [
        literal + (str(_evaluated(expression, scope)) if expression else "")
        for literal, expression, _, _ in string.Formatter().parse(rule.says)
    ]
    hint = nearest(_evaluated(rule.name, scope), _evaluated(rule.known, scope)) if rule.name else ""
    return "".join(parts) + hint


def _at_most(one: str | int, other: str | int) -> bool:
    return quantity(one) <= quantity(other)


_SCOPE: dict[str, Any] = {
    "__builtins__": {"len": len, "any": any, "all": all},
    "at_most": _at_most,
    "subset": lambda one, other: set(one) <= set(other),
    "disjoint": lambda one, other: not set(one) & set(other),
}
"""What a rule may call: each has its translation."""


def _evaluated(expression: str, scope: dict[str, Any]) -> Any:
    # Rules are constants of this package; nothing that a user wrote is ever part of one.
    return eval(_compiled(expression), scope)


@cache
def _compiled(expression: str) -> CodeType:
    return compile(expression, "<rule>", "eval")
