"""Structural schemas for Kubernetes from the typed models: nothing by reference, nothing that an API server refuses."""

from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from trade2026.stack.cel import quoted

Schema = dict[str, Any]

_KEPT = (
    "description", "type", "format", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems",
    "maxItems", "minProperties", "maxProperties", "required", "anyOf",
)  # fmt: skip
"""Of JSON Schema; the rest is for other readers."""
_INT64 = {"minimum": -(2**63), "maximum": 2**63 - 1}


class _WithDefaults(GenerateJsonSchema):
    """Schemas that also have the defaults that a model makes anew each time."""

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        factory = schema.get("default_factory")
        return cast("Any", factory)() if factory is not None else super().get_default_value(schema)

    def encode_default(self, dft: Any) -> Any:
        return dft.model_dump(mode="json", by_alias=True, exclude_none=True) if isinstance(dft, BaseModel) else dft


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of a model."""
    made = model.model_json_schema(by_alias=True, mode="validation", schema_generator=_WithDefaults)
    return _structural(made, made.get("$defs", {}))


def _structural(schema: Schema, models: dict[str, Schema]) -> Schema:
    schema = _inlined(schema, models)
    found: Schema = {key: schema[key] for key in _KEPT if key in schema}
    if "const" in schema:
        found["enum"] = [schema["const"]]
    if schema.get("default") is not None:
        found["default"] = schema["default"]
    if schema.get("type") == "integer":
        found["format"] = "int64"
        if all(found.get(bound) == at for bound, at in _INT64.items()):
            del found["minimum"], found["maximum"]
    if "properties" in schema:
        found["properties"] = {name: _structural(inner, models) for name, inner in schema["properties"].items()}
    if "items" in schema:
        found["items"] = _structural(schema["items"], models)
    if schema.get("additionalProperties") is True:
        found.pop("maxProperties", None)  # the API server counts none of what it does not know
        found["x-kubernetes-preserve-unknown-fields"] = True
    elif schema.get("additionalProperties"):
        found["additionalProperties"] = _structural(schema["additionalProperties"], models)
    found |= {key: value for key, value in schema.items() if key.startswith("x-kubernetes-")}
    form = next((rule["message"] for rule in schema.get("x-kubernetes-validations", ())), "")
    if form.startswith("must be "):  # `kubectl explain` knows no other place for how a value is written
        found["description"] = f"{found.get('description', '')} It {form}.".strip()
    if rules := [*_words_for_pattern(schema), *schema.get("x-kubernetes-validations", ())]:
        found["x-kubernetes-validations"] = rules
    return found


def _inlined(schema: Schema, models: dict[str, Schema]) -> Schema:
    """The same without references, and without `null`: what is omitted in Kubernetes is not there."""
    here = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf")}
    if "$ref" in schema:
        return _inlined(models[schema["$ref"].rpartition("/")[2]], models) | here
    options = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(options) == 1:
        return _inlined(options[0], models) | here
    return here | ({"anyOf": options} if options else {})


def _words_for_pattern(schema: Schema) -> list[Schema]:
    """A pattern says that a value is wrong; an example says what would be right."""
    if "pattern" not in schema or "examples" not in schema:
        return []
    rule = f"self.matches({quoted(schema['pattern'])})"
    return [{"rule": rule, "message": f"is not written as it must be, such as {schema['examples'][0]}"}]
