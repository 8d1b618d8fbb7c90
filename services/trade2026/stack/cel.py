"""Rules of a manifest in the Common Expression Language, as an API server evaluates them."""

import ast
import json
import string
from typing import Any

from trade2026.stack.rules import Rule, written, written_path


def validation(rule: Rule) -> dict[str, str]:
    """One item of `x-kubernetes-validations`."""
    check, over = translated(rule.check), _over(rule)
    held, at = (f"{over}.all(each, {check})", written_path(rule.over)) if over else (check, rule.at)
    found = {"rule": held, **_message(rule, over, check)}
    return {**found, "fieldPath": f".{at}"} if at else found


def translated(expression: str) -> str:
    """An expression of Python in CEL.

    Raises:
        ValueError: it is more than rules may be made of.
    """
    return _text(ast.parse(expression, mode="eval").body)


def quoted(text: str) -> str:
    """A string literal of CEL."""
    return json.dumps(text, ensure_ascii=False)


def _over(rule: Rule) -> str:
    """What a rule is over; nothing where it is omitted."""
    over = translated(rule.over) if rule.over else ""
    return f"(has({over}) ? {over} : [])" if rule.may_be_omitted else over


def _message(rule: Rule, over: str, check: str) -> dict[str, str]:
    """Its words, and where they name values how to make them; the API server needs a text without, too.

    By `format`, for the API server takes other texts that are made of values to be longer than it will count.
    """
    first = f"{over}.filter(each, !({check}))[0]"
    pattern = plain = ""
    values: list[str] = []
    for literal, expression, _, _ in string.Formatter().parse(rule.says):
        pattern, plain = pattern + literal.replace("%", "%%"), plain + literal
        if expression:
            pattern, plain = f"{pattern}%s", f"{plain}…"
            values.append(_of(expression, first) if over else translated(expression))
    if rule.known:
        pattern += "; known: %s"
        values.append(translated(rule.known))
    if not values:
        return {"message": plain}
    listed = ", ".join(f"dyn({value})" for value in values)
    return {"message": plain, "messageExpression": f"{quoted(pattern)}.format([{listed}])"}


def _of(expression: str, first: str) -> str:
    """A value of the first one that breaks a rule."""

    class Put(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return ast.Constant(_Raw(first)) if node.id == "each" else node

    return _text(Put().visit(ast.parse(expression, mode="eval")).body)


class _Raw(str):
    """Text that is CEL already."""


_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.In: "in",
}  # fmt: skip
_METHODS = {"endswith": "endsWith", "startswith": "startsWith"}
_WITHIN_ALL = {"all": "all", "any": "exists"}


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(_Raw() as raw):
            return raw
        case ast.Constant(str() as value):
            return quoted(value)
        case ast.Constant(bool() as value):
            return str(value).lower()
        case ast.Constant(int() as value):
            return str(value)
        case ast.Name(name):
            return name
        case ast.Attribute(value, name):
            return f"{_text(value)}.{written(name)}"
        case ast.Subscript(value, index):
            return f"{_text(value)}[{_text(index)}]"
        case ast.List(items) | ast.Tuple(items):
            return f"[{', '.join(map(_text, items))}]"
        case ast.BoolOp(operator, values):
            joint = " && " if isinstance(operator, ast.And) else " || "
            return joint.join(_inner(value) for value in values)
        case ast.UnaryOp(ast.Not(), value):
            return f"!{_inner(value)}"
        case ast.BinOp(left, ast.Add(), right):
            return f"{_inner(left)} + {_inner(right)}"
        case ast.IfExp(test, body, other):
            return f"({_text(test)} ? {_text(body)} : {_text(other)})"
        case ast.Compare(left, [ast.Is()], [ast.Constant(None)]):
            return f"!has({_text(left)})"
        case ast.Compare(left, [ast.IsNot()], [ast.Constant(None)]):
            return f"has({_text(left)})"
        case ast.Compare(left, [ast.NotIn()], [right]):
            return f"!({_inner(left)} in {_inner(right)})"
        case ast.Compare(left, [operator], [right]):
            return f"{_inner(left)} {_COMPARISONS[type(operator)]} {_inner(right)}"
        case ast.ListComp(element, [loop]):
            return f"{_looped(loop)}.map({_text(loop.target)}, {_text(element)})"
        case ast.Call(ast.Name("all" | "any" as name), [ast.GeneratorExp(element, [loop])]):
            return f"{_looped(loop)}.{_WITHIN_ALL[name]}({_text(loop.target)}, {_text(element)})"
        case ast.Call(ast.Name("len"), [value]):
            return f"size({_text(value)})"
        case ast.Call(ast.Name("at_most"), [one, other]):
            return f"quantity(string({_text(one)})).compareTo(quantity(string({_text(other)}))) <= 0"
        case ast.Call(ast.Name("subset"), [one, other]):
            return f"sets.contains({_text(other)}, {_text(one)})"
        case ast.Call(ast.Name("disjoint"), [one, other]):
            return f"!sets.intersects({_text(one)}, {_text(other)})"
        case ast.Call(ast.Attribute(value, name), [argument]) if name in _METHODS:
            return f"{_text(value)}.{_METHODS[name]}({_text(argument)})"
    raise ValueError(f"a rule can't say this in CEL: {ast.unparse(node)}")


def _inner(node: ast.expr) -> str:
    """In parentheses where the two languages might bind differently."""
    return f"({_text(node)})" if isinstance(node, ast.BoolOp | ast.Compare | ast.BinOp) else _text(node)


def _looped(loop: Any) -> str:
    over = _inner(loop.iter)
    return f"{over}.filter({_text(loop.target)}, {' && '.join(map(_inner, loop.ifs))})" if loop.ifs else over
