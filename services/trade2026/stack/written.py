"""How values are written in a manifest: checked by the model, and told to an API server in the same words."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from trade2026.domain.numbers import NANOS_MAX, SCALE, to_text
from trade2026.stack.cel import quoted
from trade2026.stack.units import amount_nanos, basis_points, byte_count, duration_ns, fraction, quantity


@dataclass(frozen=True)
class Form:
    """One way to write a value.

    Attributes:
        pattern: Of text; the digits are those of ASCII, for the three engines that read it differ in others.
        says: What it must be, in words.
        whole_max: The largest whole number that may stand for it without quotes; None: it needs them.
        not_zero: Whether zero is refused, in other words, which `zero_says` has.
        length_max: Characters of text.
    """

    pattern: str
    says: str
    whole_max: int | None = None
    not_zero: bool = False
    zero_says: str = ""
    length_max: int = 40

    def schema(self) -> dict[str, Any]:
        """Its JSON schema, with what only Kubernetes reads."""
        text: dict[str, Any] = {"pattern": self.pattern, "maxLength": self.length_max}
        if self.whole_max is None:
            text = {"type": "string", **text}
            rule, positive = f"self.matches({quoted(self.pattern)})", "self.matches('[1-9]')"
        else:
            kinds = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
            text = {**kinds, **text, "minimum": 0, "maximum": self.whole_max}
            matches = f"string(self).matches({quoted(self.pattern)})"
            rule = f"type(self) == int ? self >= 0 && self <= {self.whole_max} : {matches}"
            positive = "string(self).matches('[1-9]')"
        rules = [{"rule": rule, "message": self.says}]
        if self.not_zero:
            rules.append({"rule": positive, "message": self.zero_says})
        return {**text, "x-kubernetes-validations": rules}

    def check(self, value: object) -> None:
        """Raise a `ValueError` for text that an API server would not take."""
        if isinstance(value, str) and (len(value) > self.length_max or not re.fullmatch(self.pattern, value)):
            raise ValueError(f"{self.says}, not {value[:60]!r}")


_UNITS = "ns|us|ms|s|m|h|d"
_AMOUNT_WORDS = 'must be a number or decimal text such as "0.01"'
_ABOVE_ZERO = 'must be above zero, such as "0.01"'
_AMOUNT = r"^([0-8]?[0-9]{1,9}(\.[0-9]{1,9})?|9000000000(\.0{1,9})?)$"
_SPAN = rf"^([0-9]{{1,9}}(\.[0-9]{{1,9}})?({_UNITS}))+$"
_SPAN_WORDS = 'must be a duration such as "250ms", "1s" or "1h30m"'

AMOUNT = Form(_AMOUNT, _AMOUNT_WORDS, NANOS_MAX // SCALE)
STEP = Form(_AMOUNT, _AMOUNT_WORDS, NANOS_MAX // SCALE, True, _ABOVE_ZERO)
SPAN = Form(_SPAN, _SPAN_WORDS)
WINDOW = Form(_SPAN, _SPAN_WORDS, not_zero=True, zero_says='must be above zero, such as "1s"')
AGE = Form(_SPAN, _SPAN_WORDS, not_zero=True, zero_says="must be longer than 0; leave it out to keep everything")
BPS = Form(
    r"^([0-9]{1,7}(\.[0-9]{1,2})?%|[0-9]{1,9}bps)$", 'must be basis points (100 is 1 %) such as "25bps", or "10%"'
)
BYTES = Form(
    r"^([0-9]{1,18}|[0-9]{1,15}Ki|[0-9]{1,12}Mi|[0-9]{1,9}Gi|[0-9]{1,6}Ti)$",
    'must be bytes or text such as "256Mi" or "1Gi"',
    10**18 - 1,
)
SHARE = Form(
    r"^(0?(\.[0-9]{1,9})|0|1(\.0{1,9})?|[0-9]{1,2}(\.[0-9]{1,9})?%|100(\.0{1,9})?%)$",
    'must be between 0 and 1, such as "0.01", or a percentage such as "1%"',
    1,
)
QUANTITY = Form(
    r"^[0-9]{1,15}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$",
    'must be a quantity such as "250m" (of a core), "1" or "256Mi"',
    10**15 - 1,
)

ADDRESSES = Form(
    r"^[A-Za-z0-9._\[\]:-]+:[0-9]{1,5}(,[A-Za-z0-9._\[\]:-]+:[0-9]{1,5})*$",
    'must be host:port[,host:port], such as "kafka-1:9092,kafka-2:9092"',
    length_max=2048,
)


def _amount(value: object) -> str:
    nanos = amount_nanos(value)
    if nanos < 0:
        raise ValueError(f"must not be negative, not {value}")
    AMOUNT.check(value)
    return to_text(nanos)


def _step(value: object) -> str:
    text = _amount(value)
    if text == "0":
        raise ValueError(_ABOVE_ZERO)
    return text


def _span(value: object) -> str:
    duration_ns(value)
    SPAN.check(value)
    return str(value)


def _above_zero(form: Form) -> Callable[[object], str]:
    def check(value: object) -> str:
        text = _span(value)
        if not duration_ns(text):
            raise ValueError(form.zero_says)
        return text

    return check


def _bps(value: object) -> str:
    if basis_points(value) < 0:
        raise ValueError(f"must not be negative, not {value}")
    BPS.check(value)
    return str(value)


def _bytes(value: object) -> str | int:
    byte_count(value)
    BYTES.check(value)
    return value  # type: ignore[return-value]


def _share(value: object) -> str:
    found = fraction(value)
    SHARE.check(value)
    return str(found)


def _quantity(value: object) -> str:
    quantity(value)
    return str(value)


def _addresses(value: object) -> object:
    ADDRESSES.check(value)
    return value


def _plain(value: Any) -> Any:
    """Free-form configuration as plain JSON values: decimals that a YAML reader made become floats."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    number = float(value)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("must be a finite number")
    return number


def _quantile(value: object) -> float:
    """A quantile is no money: a binary float will do."""
    found = fraction(value)
    if isinstance(value, str) or not 0.5 <= found <= 0.9999:
        raise ValueError(f"must be a number from 0.5 to 0.9999, such as 0.99, not {value!r}")
    return found


Amount = Annotated[str, BeforeValidator(_amount), WithJsonSchema(AMOUNT.schema())]
"""Not negative, up to nine decimals."""
Step = Annotated[str, BeforeValidator(_step), WithJsonSchema(STEP.schema())]
"""Above zero, up to nine decimals."""
Duration = Annotated[str, BeforeValidator(_span), WithJsonSchema(SPAN.schema())]
Window = Annotated[str, BeforeValidator(_above_zero(WINDOW)), WithJsonSchema(WINDOW.schema())]
"""A duration above zero."""
Age = Annotated[str, BeforeValidator(_above_zero(AGE)), WithJsonSchema(AGE.schema())]
"""How long something is kept."""
Bps = Annotated[str, BeforeValidator(_bps), WithJsonSchema(BPS.schema())]
"""`25bps` or `10%`; a bare number is refused."""
Bytes = Annotated[str | int, BeforeValidator(_bytes), WithJsonSchema(BYTES.schema())]
"""A whole number, or `256Mi`."""
Share = Annotated[str, BeforeValidator(_share), WithJsonSchema(SHARE.schema())]
"""`"0.01"` or `1%`."""
Quantity = Annotated[str, BeforeValidator(_quantity), WithJsonSchema(QUANTITY.schema())]
"""Of a processor or of memory, as Kubernetes writes it."""
Addresses = Annotated[str, BeforeValidator(_addresses), WithJsonSchema(ADDRESSES.schema())]
"""`host:port`, several with commas between."""
Quantile = Annotated[
    float, BeforeValidator(_quantile), WithJsonSchema({"type": "number", "minimum": 0.5, "maximum": 0.9999})
]

Text = Annotated[str, Field(max_length=253)]
FilePath = Annotated[str, Field(max_length=1024)]
Url = Annotated[str, Field(max_length=2048)]
Name = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", max_length=64, examples=["BTCUSDT", "main-1"])
]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=253, examples=["PASSWORD_OF_DESK"])]
"""Name of an environment variable."""
Config = Annotated[dict[str, Any], Field(max_length=256), AfterValidator(_plain)]
"""Free-form."""


def fixed(says: str) -> dict[str, Any]:
    """For a field that can't be changed once it is there."""
    return {"x-kubernetes-validations": [{"rule": "self == oldSelf", "message": says}]}
