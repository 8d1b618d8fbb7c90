"""How amounts, durations, basis points and bytes are written in a manifest, and what they are inside.

The model keeps the text that the user wrote, so that a manifest reads back as it was; the planner asks
here for integers.
"""

import re
from decimal import Decimal, InvalidOperation

from trade2026.domain.numbers import BPS, NumberError, to_nanos

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d)", re.ASCII)
_BYTES = re.compile(r"(\d{1,19})(Ki|Mi|Gi|Ti|)", re.ASCII)
_UNIT_BYTES = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)(m|k|M|G|T|Ki|Mi|Gi|Ti|)", re.ASCII)
_UNIT_QUANTITY = {
    **{unit: Decimal(factor) for unit, factor in _UNIT_BYTES.items()},
    "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
}  # fmt: skip
_DURATION_NS_MAX = 100 * 365 * 86_400 * 10**9
_BASIS_POINTS_MAX = 10**9
_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}


def amount_nanos(value: object) -> int:
    """Return a number or decimal text in nanos.

    Raises:
        ValueError: it is no exact amount; the message says what would be.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise ValueError(f'must be a number or decimal text such as "0.01", not {_shown(value)}')
    try:
        return to_nanos(repr(value) if isinstance(value, float) else value)
    except NumberError as error:
        if error.fault == "not_a_number":
            raise ValueError(f'must be a number or decimal text such as "0.01", not {_shown(value)}') from error
        raise ValueError(str(error)) from error


def duration_ns(value: object) -> int:
    """Return a duration such as `250ms`, `1s` or `1h30m` in nanoseconds.

    Raises:
        ValueError: it is no duration.
    """
    if isinstance(value, str) and value:
        parts = _DURATION.findall(value)
        if parts and "".join(number + unit for number, unit in parts) == value:
            duration = int(sum(Decimal(number) * _UNIT_NS[unit] for number, unit in parts))
            if duration > _DURATION_NS_MAX:
                raise ValueError(f"must be at most 100 years, not {_shown(value)}")
            return duration
    raise ValueError(f'must be a duration such as "250ms", "1s" or "1h30m", not {_shown(value)}')


def basis_points(value: object) -> int:
    """Return text such as `10%` or `25bps` as basis points. A bare number could mean either, a hundred times apart.

    Raises:
        ValueError: it is neither, or not a whole number of basis points.
    """
    help_text = f'must be basis points (100 is 1 %) such as "25bps", or "10%", not {_shown(value)}'
    if isinstance(value, bool):
        raise ValueError(help_text)
    if isinstance(value, int):
        number = Decimal(value)
    elif isinstance(value, str):
        text = value.strip()
        digits, factor = (
            (text[:-1], BPS // 100) if text.endswith("%") else (text[:-3], 1) if text.endswith("bps") else (text, 1)
        )
        try:
            number = Decimal(digits.strip()) * factor
        except InvalidOperation as error:
            raise ValueError(help_text) from error
    else:
        raise ValueError(help_text)
    if not number.is_finite() or abs(number) > _BASIS_POINTS_MAX or number != number.to_integral_value():
        raise ValueError(help_text)
    if not str(value).strip().endswith(("%", "bps")):
        text = str(value).strip()
        raise ValueError(f'needs its unit: "{text}bps" (basis points, 100 is 1 %) or "{text}%"')
    return int(number)


def byte_count(value: object) -> int:
    """Return bytes, written as a whole number or text such as `256Mi` or `1Gi`.

    Raises:
        ValueError: it is neither, or more than a disk has.
    """
    help_text = f'must be bytes or text such as "256Mi" or "1Gi", not {_shown(value)}'
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(help_text)
    match = _BYTES.fullmatch(str(value))
    count = int(match[1]) * _UNIT_BYTES[match[2]] if match else -1
    if not 0 <= count < 2**63:
        raise ValueError(help_text)
    return count


def quantity(value: object) -> Decimal:
    """Return a quantity of Kubernetes, such as `250m` of a core or `256Mi` of memory, in cores or bytes.

    Raises:
        ValueError: it is none.
    """
    match = _QUANTITY.fullmatch(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if match is None:
        raise ValueError(f'must be a quantity such as "250m" (of a core), "1" or "256Mi", not {_shown(value)}')
    return Decimal(match[1]) * _UNIT_QUANTITY[match[2]]


def fraction(value: object) -> float:
    """Return a share between 0 and 1, written as a number, decimal text, or `5%`.

    Raises:
        ValueError: it is no such share.
    """
    help_text = f'must be between 0 and 1, such as "0.01", or a percentage such as "1%", not {_shown(value)}'
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise ValueError(help_text)
    text = str(value).strip()
    try:
        number = Decimal(text[:-1]) / 100 if text.endswith("%") else Decimal(text)
    except InvalidOperation as error:
        raise ValueError(help_text) from error
    if not number.is_finite() or not 0 <= number <= 1:
        raise ValueError(help_text)
    return float(number)


def _shown(value: object) -> str:
    text = {True: "true", False: "false", None: "nothing"}.get(value) if isinstance(value, bool | None) else None  # type: ignore[arg-type]
    return text or (str(value) if isinstance(value, Decimal) else repr(value))[:60]
