"""What may stand under `config` of a venue or a service: its settings by name, each with what makes it right.

The services read the same names into types of their own; a test compares both. Here they are checked before
anything starts, so that a wrong word is an error with its line and not a process that dies again and again.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from trade2026.stack.nearest import nearest
from trade2026.stack.rules import FieldError

Check = Callable[[Any], str]
"""Says what is wrong with a value; empty for nothing."""

_SEED_MAX = 2**63 - 1
_DAYS_MAX = 36_500
_ORDER_DAYS_MIN = 7
"""A client order id is known at least so long."""
_SETTLEMENT_DAYS_MAX = 30
_INTERVALS_MAX = 32
_INTERVAL = re.compile(r"(?=[\d.]*[1-9])\d{1,9}((\.\d{1,6})?(ms|s|m|h|d|volume|dollar)|tick)", re.ASCII).fullmatch
_ROWS_MAX = 1_000_000
_MIB_MAX = 1_048_576
_WINDOW_MS_MAX = 600_000
_PRINTS_MAX = 1_001
_USER_KEYS_MAX = 1_000_000
_USER_BYTES_MAX = 1 << 32


def check(config: Mapping[str, Any], known: Mapping[str, Check], owner: str, at: str = "") -> None:
    """Check every setting.

    Args:
        known: What there is.
        owner: Whose settings they are, for the message.
        at: Path of the config inside the value that is validated.

    Raises:
        FieldError: of the first that is wrong.
    """
    for name, value in config.items():
        path = f"{at}.{name}" if at else name
        if name not in known:
            hint = nearest(name, known) if known else "; it has none"
            raise FieldError(path, f"is no setting of {owner}{hint}")
        if fault := known[name](value):
            raise FieldError(path, fault)


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        return None
    return number if number.is_finite() else None


def _positive(value: Any) -> str:
    number = _number(value)
    if number is None or number <= 0 or number.adjusted() > 9:
        return f"must be a number above zero, such as 60, not {_shown(value)}"
    return ""


def _boolean(value: Any) -> str:
    return "" if isinstance(value, bool) else f"must be true or false, not {_shown(value)}"


def _text(value: Any) -> str:
    return "" if isinstance(value, str) else f"must be text, not {_shown(value)}"


def _whole(least: int, most: int) -> Check:
    def fault(value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return ""
        return f"must be a whole number from {least} to {most}, not {_shown(value)}"

    return fault


def _one_of(*words: str) -> Check:
    return lambda value: "" if value in words else f"must be {' or '.join(words)}, not {_shown(value)}"


def _each(inner: Check) -> Check:
    def fault(value: Any) -> str:
        if not isinstance(value, dict):
            return "must be a mapping (key: value)"
        return next((f"of {name} {found}" for name, each in value.items() if (found := inner(each))), "")

    return fault


def _bad_prints(value: Any) -> str:
    if not isinstance(value, dict):
        return "must be a mapping (key: value)"
    for name, each in value.items():
        if name not in _BAD_PRINTS:
            return f"has {_shown(name)}, which is no setting of it{nearest(str(name), _BAD_PRINTS)}"
        if found := _BAD_PRINTS[name](each):
            return f"has a {name} that {found}"
    if value.get("least", 11) > value.get("window", 51):
        return "must not have a least that is greater than its window (51 if not given)"
    return ""


def _intervals(value: Any) -> str:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= _INTERVALS_MAX:
        return f"must be a list of 1 to {_INTERVALS_MAX} intervals such as 1m or 100tick, not {_shown(value)}"
    wrong = [each for each in value if not isinstance(each, str) or not _INTERVAL(each)]
    return f"has {_shown(wrong[0])}, which is no bar: write 1m, 5s, 100tick, 10volume or 50000dollar" if wrong else ""


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "nothing"}[value]
    return repr(value)[:60]


def _from_zero(value: Any) -> str:
    return "" if value in (0, "0") and not isinstance(value, bool) else _positive(value)


_BAD_PRINTS: dict[str, Check] = {
    "window": _whole(3, _PRINTS_MAX),
    "least": _whole(3, _PRINTS_MAX),
    "deviations": _from_zero,
    "floor_bps": _whole(0, 10_000),
    "confirm": _whole(1, _PRINTS_MAX),
}

VENUE_CONFIGS: dict[str, dict[str, Check]] = {
    "replay": {
        "scale": _positive,
        "speed": _positive,
        "loop": _boolean,
        "seed": _whole(0, _SEED_MAX),
        "gap_seconds_max": _positive,
        "direct_orders": _boolean,
    },
    "synthetic": {
        "seed": _whole(0, _SEED_MAX),
        "price": _positive,
        "prices": _each(_positive),
        "trades_per_second": _positive,
        "volatility_bps": _positive,
        "quantity": _positive,
        "direct_orders": _boolean,
    },
}
SERVICE_CONFIGS: dict[str, dict[str, Check]] = {
    "pnl": {"method": _one_of("average", "fifo", "lifo")},
    "ptrc": {
        "settlement_days": _whole(0, _SETTLEMENT_DAYS_MAX),
        "settlement_days_by_symbol": _each(_whole(0, _SETTLEMENT_DAYS_MAX)),
    },
    "normalizer": {
        "intervals": _intervals,
        "window_ms": _whole(0, _WINDOW_MS_MAX),
        "jitter_ms": _whole(0, _WINDOW_MS_MAX),
        "session_seconds": _whole(0, _DAYS_MAX * 86_400),
        "bad_prints": _bad_prints,
    },
    "hot_cache": {"user_keys_max": _whole(1, _USER_KEYS_MAX), "user_bytes_max": _whole(1, _USER_BYTES_MAX)},
    "archive": {"retention_days": _whole(_ORDER_DAYS_MIN, _DAYS_MAX)},
    "strategies": {"catch_up_seconds": _positive, "callback_seconds_max": _positive},
    "sink-ticks": {
        "batch_seconds": _positive,
        "batch_rows": _whole(1, _ROWS_MAX),
        "compact_minutes": _positive,
        "retention_hours": _whole(1, 24 * _DAYS_MAX),
    },
    "sink-alt": {
        "batch_seconds": _positive,
        "batch_rows": _whole(1, _ROWS_MAX),
        "compact_minutes": _positive,
        "retention_hours": _whole(1, 24 * _DAYS_MAX),
    },
    "monitoring": {"look_seconds": _positive, "scrape_seconds": _positive},
    "logger": {
        "key_file": _text,
        "batch_seconds": _positive,
        "checkpoint_records": _whole(1, _ROWS_MAX),
        "checkpoint_seconds": _positive,
        "retention_days": _whole(0, _DAYS_MAX),
    },
    "questdb_writer": {
        "batch_rows": _whole(1, _ROWS_MAX),
        "batch_seconds": _positive,
        "memory_mib_max": _whole(32, _MIB_MAX),
        "retention_days": _each(_whole(0, _DAYS_MAX)),
        "query_seconds_max": _positive,
    },
}
