"""What every part of a manifest is made of."""

from collections.abc import Iterator
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from trade2026.stack.cel import validation
from trade2026.stack.rules import FieldError, Misfits, Rule, broken


class Model(BaseModel):
    """Base: camelCase outside, snake_case inside, nothing unknown, nothing coerced."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=False,
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()
    """What must hold between its fields, here and in a cluster."""
    transitions: ClassVar[tuple[dict[str, str], ...]] = ()
    """What must hold between what it was and what it becomes, in CEL: an API server alone knows both."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if faults := [*broken(self.rules, self), *self.misfits()]:
            raise Misfits(faults)  # all of them at once
        return self

    def misfits(self) -> Iterator[FieldError]:
        """What is wrong between its fields that no rule can say: a cluster's operator checks it."""
        return iter(())

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core_schema)
        if cls.rules or cls.transitions:
            held = [*map(validation, cls.rules), *cls.transitions]
            handler.resolve_ref_schema(schema)["x-kubernetes-validations"] = held
        return schema
