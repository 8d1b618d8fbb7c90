"""From the text of a manifest to a `TradingStack` and its `Strategy`s, or to every fault in it, each with its line."""

import re
import types
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from trade2026.stack.model import TradingStack
from trade2026.stack.nearest import nearest
from trade2026.stack.rules import FieldError, Misfits
from trade2026.stack.strategy import Strategy

MANIFEST_BYTES_MAX = 1024 * 1024

_BEGINS = "a manifest begins with apiVersion, kind, metadata and spec"

Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where, and what to do. `line` is 0 where it is not known."""

    path: str
    message: str
    line: int = 0

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class ManifestError(ValueError):
    """A manifest that can't be used; `faults` has all that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True)
class Manifest:
    """The documents of one file: a stack, and the strategies that trade on it."""

    stack: TradingStack
    strategies: tuple[Strategy, ...] = ()


def read(path: Path) -> str:
    """Read a manifest's text.

    Raises:
        ManifestError: it can't be read.
    """
    try:
        if path.stat().st_size > MANIFEST_BYTES_MAX:
            raise ManifestError([Fault("", f"{path} is larger than {MANIFEST_BYTES_MAX} bytes; is it a manifest?")])
        return path.read_text("utf-8")
    except OSError as error:
        raise ManifestError([Fault("", f"{path} can't be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ManifestError([Fault("", f"{path} is no UTF-8 text")]) from error


def load(path: Path) -> TradingStack:
    """Read a manifest's stack from a file.

    Raises:
        ManifestError: it can't be read, or is wrong.
    """
    return loads(read(path))


def loads(text: str) -> TradingStack:
    """Read a manifest's stack from YAML or JSON.

    Raises:
        ManifestError: it is wrong, or its strategies are.
    """
    return load_all(text).stack


def load_all(text: str) -> Manifest:
    """Read a stack and its strategies from YAML (one document each) or JSON.

    Raises:
        ManifestError: one of them is wrong, or they do not fit each other.
    """
    stacks: list[TradingStack] = []
    strategies: list[tuple[Strategy, yaml.Node]] = []
    faults: list[Fault] = []
    for document, root in _documents(text):
        try:
            if document.get("kind") == "Strategy":
                strategies.append((parse_strategy(document), root))
            else:
                stacks.append(parse(document))
        except ManifestError as error:
            faults += _located(error.faults, root)
    if not faults and len(stacks) != 1:
        faults.append(
            Fault("", "has several TradingStacks; one file is one stack" if stacks else "has no TradingStack")
        )
    if faults:
        raise ManifestError(faults)
    names: set[str] = set()
    for strategy, root in strategies:
        name = strategy.metadata.name
        twice = Fault("metadata.name", f"two strategies are called {name!r}; give each its own name")
        faults += _located([*([twice] if name in names else []), *misfits(stacks[0], strategy)], root)
        names.add(name)
    if faults:
        raise ManifestError(faults)
    return Manifest(stacks[0], tuple(strategy for strategy, _ in strategies))


def load_strategies(text: str) -> list[Strategy]:
    """Read strategies alone, to be added to a stack.

    Raises:
        ManifestError: something is wrong, or is no Strategy.
    """
    found: list[Strategy] = []
    for document, root in _documents(text):
        try:
            found.append(parse_strategy(document))
        except ManifestError as error:
            raise ManifestError(_located(error.faults, root)) from error
    return found


def parse(document: dict[str, Any]) -> TradingStack:
    """Read a stack from plain values.

    Raises:
        ManifestError: it is wrong.
    """
    kind = document.get("kind")
    if isinstance(kind, str) and kind != "TradingStack":
        raise ManifestError([Fault("kind", f"{kind!r} is not run here; this is the place for a TradingStack")])
    return _validated(TradingStack, document)


def parse_strategy(document: dict[str, Any]) -> Strategy:
    """Read a strategy from plain values.

    Raises:
        ManifestError: it is wrong.
    """
    kind = document.get("kind")
    if isinstance(kind, str) and kind != "Strategy":
        raise ManifestError([Fault("kind", f"{kind!r} is not run here; this is the place for a Strategy")])
    return _validated(Strategy, document)


M = TypeVar("M", bound=BaseModel)


def _validated(model: type[M], document: dict[str, Any]) -> M:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ManifestError(_faults(error, model)) from error


def _documents(text: str) -> list[tuple[dict[str, Any], yaml.Node]]:
    """The documents of a text that are not empty, each with its nodes."""
    found: list[tuple[dict[str, Any], yaml.Node]] = []
    try:
        for root in yaml.compose_all(text, Loader=_Loader):
            loader = _Loader("")
            try:
                document = loader.construct_document(root)
            finally:
                loader.dispose()
            if document is None:
                continue
            if not isinstance(document, dict):
                raise ManifestError([Fault("", f"is no mapping; {_BEGINS}")])
            found.append((document, root))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ManifestError([Fault("", f"is no YAML: {error.problem}", line)]) from error
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, ManifestError):
            raise
        raise ManifestError([Fault("", f"is no YAML: {' '.join(str(error).split())[:200]}")]) from error
    except RecursionError as error:
        raise ManifestError([Fault("", "nests too deep; is it a manifest?")]) from error
    if not found:
        raise ManifestError([Fault("", f"is empty; {_BEGINS}")])
    return found


def misfits(stack: TradingStack, strategy: Strategy) -> list[Fault]:
    """What is wrong with a strategy on this stack."""
    found: list[Fault] = []
    spec = strategy.spec
    if spec.stack_ref is not None and spec.stack_ref.name != stack.metadata.name:
        found.append(Fault("spec.stackRef.name", f"{spec.stack_ref.name!r} is not this stack, {stack.metadata.name!r}"))
    known = stack.spec.known_instruments()
    lists = [
        ("symbols", spec.symbols),
        ("risk.allowedInstruments", spec.risk.allowed_instruments or []),
        ("risk.restricted", spec.risk.restricted or []),
    ]
    for field, symbols in lists:
        for number, symbol in enumerate(symbols):
            if symbol not in known:
                message = f"{symbol!r} is no instrument of this stack{nearest(symbol, known)}"
                found.append(Fault(f"spec.{field}[{number}]", message))
    return found


def _located(faults: list[Fault], root: yaml.Node) -> list[Fault]:
    return [Fault(fault.path, fault.message, _line(root, _steps(fault.path))) for fault in faults]


class _Loader(yaml.SafeLoader):
    """YAML whose decimals stay exact and whose keys are not given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal | float:
    text = str(loader.construct_scalar(node)).replace("_", "")
    try:
        return Decimal(text)
    except ArithmeticError:
        return loader.construct_yaml_float(node)


def _text(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(None, None, "a timestamp must be text", node.start_mark)
    return str(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:float", _decimal)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _text)

_TYPES = {
    "string_type": "must be text; put it in quotes",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping (key: value)",
    "model_type": "must be a mapping (key: value)",
    "model_attributes_type": "must be a mapping (key: value)",
    "list_type": "must be a list (- item)",
}


def _faults(error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    faults: list[Fault] = []
    for item in error.errors(include_url=False):
        loc, kind, context = item["loc"], item["type"], item.get("ctx", {})
        if kind == "missing":
            faults.append(Fault(_path(loc), "is missing; add it" + _explained(model, loc)))
        elif kind == "extra_forbidden":
            faults.append(Fault(_path(loc), f"is no field here{nearest(str(loc[-1]), _fields(model, loc[:-1]))}"))
        elif kind == "value_error":
            message = str(context["error"])
            if isinstance(context["error"], FieldError):
                faults.append(Fault(f"{_path(loc)}.{context['error'].path}", message))
            elif isinstance(context["error"], Misfits):
                for each in context["error"].faults:
                    faults.append(Fault(f"{_path(loc)}.{each.path}".removesuffix("."), str(each)))
            else:
                faults.append(Fault(_path(loc), message))
        elif kind == "literal_error":
            words = re.findall(r"'([^']*)'", context["expected"])
            meant = nearest(str(item["input"]), words, otherwise="")
            faults.append(Fault(_path(loc), f"must be {context['expected']}".replace("'", "") + meant))
        elif kind == "string_pattern_mismatch":
            such = "".join(f", such as {example}" for example in _examples(model, loc))
            faults.append(Fault(_path(loc), f"is not written as it must be{such}" + _explained(model, loc)))
        elif kind == "too_short":
            faults.append(Fault(_path(loc), "is empty; list at least one" + _explained(model, loc)))
        elif kind in ("too_long", "string_too_long"):
            many = f"{context['max_length']} {'characters' if kind == 'string_too_long' else 'items'}"
            faults.append(Fault(_path(loc), f"must have at most {many}"))
        elif kind in ("greater_than_equal", "less_than_equal"):
            bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
            faults.append(Fault(_path(loc), f"must be {bound}"))
        else:
            faults.append(Fault(_path(loc), _TYPES.get(kind, item["msg"])))
    return faults


def _path(loc: Loc) -> str:
    text = ""
    for step in loc:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _steps(path: str) -> list[str | int]:
    parts = path.replace("[", ".[").split(".")
    return [int(part[1:-1]) if part.startswith("[") and part[1:-1].isdigit() else part for part in parts]


def _line(node: yaml.Node | None, steps: list[str | int]) -> int:
    """The line of the deepest part of a path that the document has; names with dots are tried whole."""
    line = 0
    while steps and node is not None:
        found: yaml.Node | None = None
        taken = 1
        if isinstance(node, yaml.MappingNode):
            for size in range(len(steps), 0, -1):
                wanted = ".".join(map(str, steps[:size]))
                for key, value in node.value:
                    if key.value == wanted:
                        found, line, taken = value, key.start_mark.line + 1, size
                        break
                if found is not None:
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(steps[0], int) and steps[0] < len(node.value):
            item: yaml.Node = node.value[steps[0]]
            found, line = item, item.start_mark.line + 1
        node, steps = found, steps[taken:]
    return line


def _models(annotation: Any) -> list[Any]:
    """The parts of an annotation that a path may lead into."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return [part for inner in get_args(annotation) for part in _models(inner)]
    return [annotation]


def _at(model: type[BaseModel], loc: Loc) -> tuple[list[Any], str, Sequence[Any]]:
    """What is declared at a path, its description, and examples of it."""
    here: list[Any] = [model]
    description, examples = "", []
    for step in loc:
        following: list[Any] = []
        for annotation in here:
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                for name, field in annotation.model_fields.items():
                    if step in (field.alias, name):
                        following += _models(field.annotation)
                        description, examples = field.description or "", field.examples or []
            elif get_origin(annotation) in (dict, list):
                following += _models(get_args(annotation)[-1])
                description, examples = "", []
        here = following
    return here, description, examples


def _examples(model: type[BaseModel], loc: Loc) -> Sequence[Any]:
    return _at(model, loc)[2]


def _fields(model: type[BaseModel], loc: Loc) -> list[str]:
    return [
        field.alias or name
        for annotation in _at(model, loc)[0]
        if isinstance(annotation, type) and issubclass(annotation, BaseModel)
        for name, field in annotation.model_fields.items()
    ]


def _explained(model: type[BaseModel], loc: Loc) -> str:
    description = _at(model, loc)[1]
    if not description:
        return ""
    first = description.partition(" ")[0]
    if first[1:].islower() or not first[1:]:  # a name such as TradingStack or OTLP stays as it is
        description = description[0].lower() + description[1:]
    return f" ({description.rstrip('.')})"
