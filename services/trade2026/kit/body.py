"""Reading JSON that a stranger sent: nothing ambiguous, nothing deep, nothing that is not JSON."""

import json
import re
from functools import lru_cache
from typing import Any, TypeVar, overload

import msgspec

from trade2026.domain.numbers import Amount, read_amount
from trade2026.kit.problem import Problem

DEPTH_MAX = 32
_KEPT_AMOUNTS_MAX = 4_096
_KEPT_CHARACTERS_MAX = 24

T = TypeVar("T")

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A whole string, or an unfinished one up to the end: it always matches, so a hostile body costs linear time."""
_PLACE = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")
_FIELD_NAME = re.compile(r"field `([^`]*)`")

_decode = msgspec.json.decode
_decoders: dict[Any, Any] = {}


@overload
def parse(body: bytes, type: type[T]) -> T: ...
@overload
def parse(body: bytes, type: None = None) -> Any: ...
def parse(body: bytes, type: Any = None) -> Any:
    """Return the JSON of a body, as `type` if one is given.

    Raises:
        Problem: 422, always: `malformed_json`, `too_deep`, `duplicate_key`, or, for JSON that is not a
            `type`, `missing_field`, `unknown_field`, `bad_field` with the field's path.
    """
    try:
        plain = _decode(body)
        check_shape(body, plain)
        if type is None:
            return plain
        decode = _decoders.get(type)
        if decode is None:
            decode = _decoders[type] = msgspec.json.Decoder(type, dec_hook=_read_custom, float_hook=str).decode
        return decode(body)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from error
    except msgspec.DecodeError as error:
        detail = str(error) if body else "the body is empty; send JSON"
        raise Problem(422, "malformed_json", detail) from error
    except UnicodeDecodeError as error:
        raise Problem(422, "malformed_json", f"the body is not UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise _too_deep() from error


def _read_custom(type: Any, written: Any) -> Any:
    if type is Amount:
        short = written.__class__ is str and len(written) <= _KEPT_CHARACTERS_MAX
        return _kept_amount(written) if short else read_amount(written)
    raise NotImplementedError(type)


_kept_amount = lru_cache(_KEPT_AMOUNTS_MAX)(read_amount)
"""The same quantities and prices come again and again."""


def check_shape(body: bytes, plain: Any) -> None:
    """Refuse what nests deeper than `DEPTH_MAX`, and an object that has a key twice.

    Readers disagree about which of two keys counts. Every key has one colon outside of strings, so the
    decoded objects have as many keys as there are such colons unless a key was lost.
    """
    colons = body.count(b":")
    shallow = body.count(b"[") + body.count(b"{") <= DEPTH_MAX
    if shallow and type(plain) is dict and len(plain) == colons:
        return
    keys, depth = _measure(plain)
    if depth > DEPTH_MAX:
        raise _too_deep()
    if colons == keys or _STRING.sub(b"", body).count(b":") == keys:
        return
    json.loads(body, object_pairs_hook=_refuse_duplicates)
    raise Problem(422, "duplicate_key", "an object has a key twice")


def _measure(plain: Any) -> tuple[int, int]:
    """How many keys all objects have together, and how deep it nests."""
    keys = depth = 0
    level = [plain]
    while level:
        inner: list[Any] = []
        nests = False
        for value in level:
            if type(value) is dict:
                nests = True
                keys += len(value)
                inner.extend(value.values())
            elif type(value) is list:
                nests = True
                inner.extend(value)
        depth += nests
        level = inner
    return keys, depth


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise Problem(422, "duplicate_key", f"the key {key[:80]!r} is given twice in one object", field=key[:80])
        seen[key] = value
    return seen


def _too_deep() -> Problem:
    return Problem(422, "too_deep", f"the JSON nests deeper than {DEPTH_MAX} levels")


def _misfit(message: str) -> Problem:
    """Turn msgspec's words into a code and a field."""
    place = _PLACE.search(message)
    path = place.group(1) if place else ""
    name = _FIELD_NAME.search(message)
    if name is None:
        return Problem(422, "bad_field", message, field=path or None)
    code = "missing_field" if "missing" in message else "unknown_field"
    return Problem(422, code, message, field=f"{path}.{name.group(1)}" if path else name.group(1))
