"""What every part of a manifest is made of."""

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from trade2026.stack.cel import validation
from trade2026.stack.rules import Rule, broken


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

    @model_validator(mode="after")
    def _keeps_its_rules(self) -> Self:
        broken(self.rules, self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core_schema)
        if cls.rules:
            handler.resolve_ref_schema(schema)["x-kubernetes-validations"] = [validation(rule) for rule in cls.rules]
        return schema
