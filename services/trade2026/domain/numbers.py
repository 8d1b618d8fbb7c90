"""Exact numbers: prices, quantities and money as integers of 10⁻⁹.

A price of 45,000.01 is the integer 45_000_010_000_000. Binary floats never enter: JSON numbers
are read as decimals. A product of a price and a quantity has the scale 10⁻¹⁸ (`COST_SCALE`) and is
kept like that wherever it is summed, so that no cent is rounded away between two fills.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Literal

SCALE = 10**9
"""One unit of a price, quantity or amount of money, in nanos."""

COST_SCALE = SCALE * SCALE
"""One unit of money where it is the exact product of a price and a quantity."""

BPS = 10_000
"""Basis points in one."""

NANOS_MAX = 9 * 10**18
"""The largest magnitude accepted at the edge: nine thousand million units; it fits a signed 64-bit integer."""

_CHARACTERS_MAX = 40
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII).fullmatch
"""Stricter than `Decimal`, which reads 1_000, spaces and the digits of every script."""

NumberFault = Literal["not_a_number", "not_finite", "too_large", "too_many_decimals"]


class NumberError(ValueError):
    """A text or number that is no exact amount of 10⁻⁹.

    Attributes:
        fault: Which of the four ways it is wrong, a stable word for machines.
    """

    def __init__(self, fault: NumberFault, message: str) -> None:
        super().__init__(message)
        self.fault: NumberFault = fault


class Amount(int):
    """Nanos, from a JSON number or decimal text; what is no exact amount is 0 and has an `error`.

    So one wrong amount in a batch spoils its own order only: whoever reads a field asks for its `error`.
    """

    error: NumberError | None = None


def read_amount(written: object) -> Amount:
    """Return an amount as a client wrote it.

    Raises:
        ValueError: it is neither a number nor text.
    """
    if type(written) is str:
        whole, _, fraction = written.partition(".")
        if whole and len(whole) <= 9 and len(fraction) <= 9 and written.isascii() and (whole + fraction).isdigit():
            return Amount(whole + fraction.ljust(9, "0"))  # as nearly everyone writes it, without a Decimal
    elif type(written) is not int:
        raise ValueError('must be a number or decimal text such as "0.01"')
    try:
        return Amount(to_nanos(written))
    except NumberError as error:
        amount = Amount()
        amount.error = error
        return amount


def to_nanos(value: Decimal | int | str) -> int:
    """Return `value` in nanos, exactly.

    >>> to_nanos("0.001")
    1000000

    Raises:
        NumberError: for text that is no number, NaN, infinities, more than nine decimals, or a
            magnitude above `NANOS_MAX`.
    """
    if type(value) is not Decimal:
        value = _decimal(value)
    if not value.is_finite():
        raise NumberError("not_finite", f"{value} is not a finite number")
    if value.adjusted() > 9:  # before any arithmetic: 1E+400 must not become a 400-digit integer
        raise NumberError("too_large", f"{value:.6E} is larger than {NANOS_MAX // SCALE}")
    if value and value.adjusted() < -9:  # 1E-999999999999999999 would become zero without a word
        raise NumberError("too_many_decimals", f"{value} has more than 9 decimals")
    scaled = value.scaleb(9)
    if len(value.as_tuple().digits) > 28:
        # The default context rounds at 28 digits; such a text cannot be an exact amount anyway.
        raise NumberError("too_many_decimals", "a number has at most 9 decimals")
    nanos = int(scaled)
    if nanos != scaled:
        raise NumberError("too_many_decimals", f"{value} has more than 9 decimals")
    if not -NANOS_MAX <= nanos <= NANOS_MAX:
        raise NumberError("too_large", f"{value} is larger than {NANOS_MAX // SCALE}")
    return nanos


def _decimal(value: int | str | Decimal) -> Decimal:
    if isinstance(value, str) and len(value) > _CHARACTERS_MAX:
        raise NumberError("too_large", f"a number has at most {_CHARACTERS_MAX} characters")
    try:
        number = Decimal(value)
    except (InvalidOperation, ValueError, TypeError) as error:
        raise NumberError("not_a_number", f"{value!r} is not a decimal number") from error
    if isinstance(value, str) and number.is_finite() and _NUMBER(value) is None:
        raise NumberError("not_a_number", f"{value!r} is not a decimal number: digits, a point, an exponent")
    return number


def to_text(nanos: int) -> str:
    """Return nanos as the shortest decimal text: `to_text(1_000_000) == "0.001"`."""
    sign = "-" if nanos < 0 else ""
    whole, fraction = divmod(abs(nanos), SCALE)
    if not fraction:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{fraction:09d}".rstrip("0")


def cost_to_nanos(cost: int) -> int:
    """Return money at `COST_SCALE` as nanos, rounded half to even (the only rounding of money)."""
    whole, rest = divmod(cost, SCALE)
    double = 2 * rest
    if double > SCALE or (double == SCALE and whole & 1):
        whole += 1
    return whole


def cost_of(price: int, quantity: int, multiplier: int = SCALE) -> int:
    """Return what a quantity costs at a price, at `COST_SCALE`: exact without a multiplier, else rounded down.

    Args:
        quantity: nanos, not negative: a sell is worth as much as a buy.
        multiplier: of the instrument, nanos.
    """
    return price * quantity if multiplier == SCALE else price * quantity * multiplier // SCALE


def average_price(cost: int, quantity: int) -> int:
    """Return cost ÷ quantity in nanos (cost at `COST_SCALE`), rounded half to even; 0 for no quantity."""
    if not quantity:
        return 0
    whole, rest = divmod(cost, quantity)
    double = 2 * rest
    if double > quantity or (double == quantity and whole & 1):
        whole += 1
    return whole
