"""Limits as a person writes and reads them: decimal text, durations, basis points or per cent."""

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

import msgspec

from trade2026.controls.limits import LimitBook, LimitSet, Rate
from trade2026.domain.numbers import NumberError, to_nanos, to_text
from trade2026.kit.http import Problem
from trade2026.kit.views import time_text

AMOUNTS = (
    "max_order_quantity",
    "max_order_value",
    "max_gross_exposure",
    "max_net_exposure",
    "max_position",
    "max_daily_loss",
)
_COUNTS = ("max_open_orders",)
_COLLARS = ("price_collar", "passive_collar", "price_window")
_RATES = ("order_rate", "max_executions")
_LISTS = ("allowed_instruments", "allowed_venues", "restricted")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d)", re.ASCII)
_UNIT_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3_600 * 10**9, "d": 86_400 * 10**9}
_DURATION_NS_MAX = 100 * 365 * 86_400 * 10**9
_NAMES_MAX = 1_000
KNOWN = (*AMOUNTS, *_COUNTS, *_COLLARS, "duplicate_window", *_RATES, *_LISTS)


def _bad(field: str, detail: str) -> NoReturn:
    raise Problem(422, "bad_limit", f"{field} {detail}", field=f"limits.{field}")


def read_limits(given: dict[str, Any]) -> LimitSet:
    """Return the limits that a request names; snake_case or camelCase, units optional in the name.

    Raises:
        Problem: 422 with the field and what would be right.
    """
    if not given:
        raise Problem(422, "missing_field", f"name at least one of {', '.join(KNOWN)}", field="limits")
    found: dict[str, Any] = {}
    for written, value in given.items():
        name = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", written).lower()
        short = name.removesuffix("_bps").removesuffix("_ns")
        if short in AMOUNTS:
            found[short] = _amount(short, value)
        elif short in _COUNTS:
            found[short] = _whole(short, value)
        elif short in _COLLARS:
            found[f"{short}_bps"] = _basis_points(short, value, bare=name.endswith("_bps"))
        elif short == "duplicate_window":
            found["duplicate_window_ns"] = _whole(name, value) if name.endswith("_ns") else _duration(name, value)
        elif short in _RATES:
            found[short] = _rate(short, value)
        elif short in _LISTS:
            found[short] = _names(short, value)
        else:
            raise Problem(
                422, "unknown_limit", f"{written!r} is no limit; known are {', '.join(KNOWN)}", field="limits"
            )
    return LimitSet(**found)


def _amount(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        _bad(field, 'is a number or decimal text such as "1000"')
    try:
        nanos = to_nanos(repr(value) if isinstance(value, float) else value)
    except NumberError as error:
        _bad(field, f"is no amount: {error}")
    if nanos < 0:
        _bad(field, "is not below zero")
    return nanos


def _whole(field: str, value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        _bad(field, "is a whole number from zero up")
    return value


def _basis_points(field: str, value: object, *, bare: bool) -> int:
    """Without a unit in its name (`bare`) or its text, a number could mean either, a hundred times apart."""
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    digits, factor = (text[:-1], 100) if text.endswith("%") else (text.removesuffix("bps"), 1)
    try:
        number = Decimal(digits) * factor if digits.isascii() and "_" not in digits else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0 or number != number.to_integral_value() or number > 10**9:
        _bad(field, 'is whole basis points (100 is 1 %) such as "25bps", or "2%"')
    if not bare and not text.endswith(("%", "bps")):
        _bad(field, f'needs its unit: "{text}bps" (basis points, 100 is 1 %) or "{text}%"')
    return int(number)


def _duration(field: str, value: object) -> int:
    if isinstance(value, str) and len(value) < 64:
        parts = _DURATION.findall(value)
        if parts and "".join(number + unit for number, unit in parts) == value:
            duration = int(sum(Decimal(number) * _UNIT_NS[unit] for number, unit in parts))
            if duration <= _DURATION_NS_MAX:
                return duration
            _bad(field, "is at most 100 years")
    _bad(field, 'is a duration such as "500ms" or "1h30m"')


def _rate(field: str, value: object) -> Rate:
    if not isinstance(value, dict) or not {*value} <= {"count", "per", "per_ns"} or "count" not in value:
        _bad(field, 'is written {"count": 10, "per": "1s"}')
    per = _whole(field, value["per_ns"]) if "per_ns" in value else _duration(field, value.get("per", "1s"))
    if not per:
        _bad(field, "needs a time above zero")
    return Rate(count=_whole(field, value["count"]), per_ns=per)


def _names(field: str, value: object) -> list[str]:
    if not isinstance(value, list) or len(value) > _NAMES_MAX or not all(isinstance(name, str) for name in value):
        _bad(field, f"is a list of at most {_NAMES_MAX} names")
    return sorted({str(name) for name in value})


def read_time(text: str | None, now: int) -> int:
    """Return an RFC 3339 time in ns, 0 for none.

    Raises:
        Problem: 422 if it is none or over.
    """
    if text is None:
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Problem(
            422, "bad_time", "until is an RFC 3339 time with an offset, e.g. 2030-01-31T16:00:00Z", field="until"
        )
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    ns = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000
    if ns >= 2**63:
        raise Problem(422, "bad_time", "until is after the year 2262; leave it out for no end", field="until")
    if ns <= now:
        raise Problem(422, "bad_time", "until is over already; give a time to come", field="until")
    return ns


def show_limits(limits: LimitSet) -> dict[str, Any]:
    """Return limits with amounts as decimal text; what is not limited is left out."""
    shown = msgspec.to_builtins(limits)
    return {name: to_text(value) if name in AMOUNTS else value for name, value in shown.items()}


def show_book(book: LimitBook) -> dict[str, Any]:
    """Return a version of the limits as JSON for a person."""
    shown: dict[str, Any] = {
        "stack": show_limits(book.stack),
        "account_default": show_limits(book.account_default),
        "strategy_default": show_limits(book.strategy_default),
    }
    for name in ("accounts", "strategies", "instruments", "traders", "desks"):
        shown[name] = {key: show_limits(limits) for key, limits in sorted(getattr(book, name).items())}
    return {
        "version": book.version,
        "limits": {name: value for name, value in shown.items() if value},
        "reference_age_ns_max": book.reference_age_ns_max,
        "tightened": [
            {
                "scope": each.scope,
                "limits": show_limits(each.limits),
                "by": each.by,
                "reason": each.reason,
                "until": time_text(each.until) or None,
            }
            for each in book.tightened
        ],
    }
