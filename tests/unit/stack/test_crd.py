"""The custom resource definitions: structural, complete, bounded, and of one mind with the models."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.wrong_manifests import TAKES_IT, Wrong, good_manifests, wrong_manifests
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from trade2026.stack import crd
from trade2026.stack.manifest import ManifestError, parse, parse_strategy
from trade2026.stack.model import TradingStack
from trade2026.stack.rules import FieldError, Misfits, Rule, broken
from trade2026.stack.schema import Schema
from trade2026.stack.strategy import Strategy

ROOT = Path(__file__).parents[3]
MODELS: dict[str, type[BaseModel]] = {"TradingStack": TradingStack, "Strategy": Strategy}
DEFINITIONS = {each["spec"]["names"]["kind"]: each for each in crd.definitions().values()}
SCHEMAS = {kind: each["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for kind, each in DEFINITIONS.items()}


def below(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema in a schema, with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from below(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from below(schema[key], f"{path}[]")


EVERY = [(f"{kind}{path}", inner) for kind, schema in SCHEMAS.items() for path, inner in below(schema)]


def test_the_files_are_what_the_models_say() -> None:
    assert crd.main(["--check", str(ROOT / "crds")]) == 0


def test_files_that_differ_are_told_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--check", str(tmp_path)]) == 1
    assert "run `make crds`" in capsys.readouterr().err
    assert crd.main([str(tmp_path)]) == 0
    assert crd.main(["--check", str(tmp_path)]) == 0


# What an API server asks of a structural schema: kubernetes.io/docs, "Specifying a structural schema".
FORBIDDEN = {"$ref", "$defs", "definitions", "deprecated", "discriminator", "id", "patternProperties", "readOnly"} | {
    "title", "uniqueItems", "writeOnly", "xml", "const", "oneOf", "allOf", "not", "exclusiveMinimum"
}  # fmt: skip


@pytest.mark.parametrize(("path", "schema"), EVERY, ids=[path for path, _ in EVERY])
def test_schemas_are_structural_described_and_bounded(path: str, schema: Schema) -> None:
    assert not FORBIDDEN & set(schema)
    assert not {"properties", "additionalProperties"} <= set(schema), "either fields or a map"
    if schema.get("x-kubernetes-int-or-string"):
        assert "type" not in schema
        assert schema["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    else:
        assert schema["type"] in ("object", "array", "string", "integer", "number", "boolean")
        assert "anyOf" not in schema
    if not path.endswith(("[]", ".metadata")):  # of metadata only what names are right may be said
        assert schema.get("description"), "kubectl explain teaches nothing here"
    if path.split(".")[-1] not in ("apiVersion", "kind"):
        kind = "string" if schema.get("x-kubernetes-int-or-string") else schema["type"]
        if kind == "string" and "enum" not in schema:
            assert "maxLength" in schema
        if kind == "array":
            assert "maxItems" in schema
            assert "items" in schema
        if "additionalProperties" in schema:
            assert "maxProperties" in schema
    free_form = path.split(".")[-1] in ("config", "parameters")
    assert bool(schema.get("x-kubernetes-preserve-unknown-fields")) == free_form
    for rule in schema.get("x-kubernetes-validations", ()):
        assert rule["message"]
        assert "\n" not in rule["message"] + rule["rule"]


def test_lists_that_are_maps_have_keys_that_are_always_there() -> None:
    for path, schema in EVERY:
        for key in schema.get("x-kubernetes-list-map-keys", ()):
            item = schema["items"]
            assert key in item["required"] or "default" in item["properties"][key], path


@pytest.mark.parametrize("kind", MODELS)
def test_every_field_of_the_models_is_there_with_its_description_and_default(kind: str) -> None:
    left = [(MODELS[kind].model_fields["spec"].annotation, SCHEMAS[kind]["properties"]["spec"])]
    seen = 0
    while left:
        model, schema = left.pop()
        for name, field in model.model_fields.items():
            seen += 1
            found = schema["properties"][field.alias or name]
            assert found["description"].startswith(field.description)
            assert (field.alias or name in schema.get("required", ())) or not field.is_required()
            default = field.get_default(call_default_factory=True) if not field.is_required() else None
            plain = default.model_dump(mode="json", by_alias=True, exclude_none=True) if _is_model(default) else default
            assert found.get("default") == plain
            left += [(inner, _models_schema(found)) for inner in _models(field.annotation)]
    assert seen > 15


def _is_model(value: object) -> bool:
    return isinstance(value, BaseModel)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)


def _models_schema(schema: Schema) -> Schema:
    return schema.get("items") or schema.get("additionalProperties") or schema


def test_people_find_their_resources() -> None:
    for kind, short in (("TradingStack", "ts"), ("Strategy", "strat")):
        spec = DEFINITIONS[kind]["spec"]
        assert spec["names"]["shortNames"] == [short]
        assert spec["names"]["categories"] == ["trade2026"]
        assert spec["scope"] == "Namespaced"
        (version,) = spec["versions"]
        assert version["subresources"]["status"] == {}
        properties = SCHEMAS[kind]["properties"]
        for column in version["additionalPrinterColumns"]:
            first, *rest = column["jsonPath"].partition("[?")[0].strip(".").split(".")
            inner = properties[first] if first != "metadata" else {"properties": {rest[0]: {}}}
            assert rest[0] in inner["properties"]


def test_a_strategy_is_scaled_by_what_is_in_its_schema() -> None:
    (version,) = DEFINITIONS["Strategy"]["spec"]["versions"]
    for path in version["subresources"]["scale"].values():
        part, field = path.strip(".").split(".")
        assert field in SCHEMAS["Strategy"]["properties"][part]["properties"]


def test_a_status_has_no_defaults_so_that_it_is_read_back_as_it_was_written() -> None:
    assert not [path for path, schema in EVERY if ".status" in path and "default" in schema]


# --- one mind -------------------------------------------------------------------------------------------------------


def closed(schema: Schema) -> Schema:
    """As `kubectl apply` checks it: a field that is not known is refused."""
    found = {**schema}
    if "properties" in schema:
        found["properties"] = {name: closed(inner) for name, inner in schema["properties"].items()}
        found["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found[key] = closed(schema[key])
    return found


def _validator(kind: str) -> Draft202012Validator:
    schema = closed(SCHEMAS[kind])
    schema["properties"]["metadata"]["additionalProperties"] = True
    return Draft202012Validator(schema)


VALIDATORS = {kind: _validator(kind) for kind in SCHEMAS}


@pytest.mark.parametrize(("title", "manifest"), good_manifests(), ids=[title for title, _ in good_manifests()])
def test_a_right_manifest_is_right_here_and_there(title: str, manifest: dict[str, Any]) -> None:
    assert _laptop(manifest) == TAKES_IT
    assert not [error.message for error in VALIDATORS[manifest["kind"]].iter_errors(manifest)]


@pytest.mark.parametrize("wrong", wrong_manifests(), ids=lambda wrong: wrong.title)
def test_a_laptop_refuses_in_the_words_of_the_cluster_or_its_own(wrong: Wrong) -> None:
    assert wrong.laptop in _laptop(wrong.manifest)


def test_at_least_sixty_wrong_manifests_are_tried() -> None:
    assert len(wrong_manifests()) >= 60


def _laptop(manifest: dict[str, Any]) -> str:
    try:
        (parse_strategy if manifest["kind"] == "Strategy" else parse)(manifest)
    except ManifestError as error:
        return str(error)
    return TAKES_IT


VALUES: list[Any] = [
    True, False, -1, 0, 1, 2, 7, 65, 10**12, 2.5, "", "x", "1", "0", "0.5", "-1", "1e3", "5%", "200%", "25bps", "1s", "0s", "1h30m", "5 s",
    "256Mi", "a b", "SIM", "BTCUSDT", "spread", "kafka", "http://a:1", "x" * 300, "\u0663", [], ["a"], [1], {}, {"a": 1}, {"min": 1}, {"max": 2},
]  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document: what holds it, and its key."""
    for key, inner in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def mutated(manifest: dict[str, Any], chance: random.Random) -> tuple[dict[str, Any], Any]:
    """A manifest with one thing changed, and what it was changed to."""
    found = copy.deepcopy(manifest)
    holder, key = chance.choice([place for place in places(found["spec"]) if not _free_form(found, place)])
    how = chance.randrange(8)
    value: Any = chance.choice(VALUES)
    if how == 0 and isinstance(holder, dict):
        del holder[key]
        value = None
    elif how == 1 and isinstance(holder, dict):
        holder[chance.choice(["min", "type", "unknownField"])] = value
    else:
        holder[key] = value
    return found, value


def _free_form(manifest: dict[str, Any], place: tuple[Any, Any]) -> bool:
    """Whether a place is inside what the schema says nothing of."""
    free = [manifest["spec"].get("parameters"), *(each.get("config") for each in manifest["spec"].get("venues", ()))]
    free += [each.get("config") for each in manifest["spec"].get("services", {}).values()]
    inside = [holder for each in free if isinstance(each, dict) for holder, _ in [(each, ""), *places(each)]]
    return any(place[0] is holder for holder in inside)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), which=st.sampled_from([m for t, m in good_manifests() if "good" in t]))
def test_the_schema_takes_what_the_model_takes_and_refuses_what_it_refuses(seed: int, which: dict[str, Any]) -> None:
    """But for what a rule says: that the API server evaluates, and here only the model."""
    manifest, value = mutated(which, random.Random(seed))
    if isinstance(value, float):
        return  # a laptop also takes decimals without quotes
    schema_refuses = [error.message for error in VALIDATORS[manifest["kind"]].iter_errors(manifest)]
    model_refuses, by_rule = _refused(manifest)
    assert bool(schema_refuses) == model_refuses or (model_refuses and by_rule), (manifest, schema_refuses)


def _refused(manifest: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the model refuses a manifest, and whether a rule is among the reasons."""
    try:
        MODELS[manifest["kind"]].model_validate(manifest)
    except ValidationError as error:
        values = [item["ctx"]["error"] for item in error.errors() if item["type"] == "value_error"]
        return True, any(map(_is_rule, values))
    return False, False


def _is_rule(error: Exception) -> bool:
    """Whether CEL says so, too: between fields, of free-form settings, or that something must not be zero."""
    return (
        isinstance(error, FieldError | Misfits)
        or "above zero" in str(error)
        or "longer than 0" in str(error)
        or "give each its own name" in str(error)
    )


# --- rules ----------------------------------------------------------------------------------------------------------


class Part(BaseModel):
    name: str
    of: str | None = None


class Whole(BaseModel):
    parts: list[Part]


def test_a_rule_that_does_not_hold_says_where_and_what_to_do() -> None:
    rule = Rule(
        "each.of is None or any(other.name == each.of for other in self.parts)",
        "'{each.of}' is no part",
        at="of", over="self.parts", name="each.of", known="[part.name for part in self.parts]",
    )  # fmt: skip
    whole = Whole(parts=[Part(name="wheel"), Part(name="tyre", of="weel")])
    (fault,) = broken((rule,), whole)
    assert (fault.path, str(fault)) == ("parts[1].of", "'weel' is no part; did you mean 'wheel'?")


@pytest.mark.parametrize(
    ("python", "cel"),
    [
        ("self.max_open is None or self.min <= self.max_open", "(!has(self.maxOpen)) || (self.min <= self.maxOpen)"),
        ("not (self.class_ == 'a')", '!(self.class == "a")'),
        ("len(self.symbols) > 1 and self.on == True", "(size(self.symbols) > 1) && (self.on == true)"),
        ("each not in ['a', 'b']", '!(each in ["a", "b"])'),
        ("all(one.x != 1 for one in self.xs if one.y == 2)", "self.xs.filter(one, (one.y == 2)).all(one, one.x != 1)"),
        ("(self.a if self.b is not None else self.c) == 'x'", '(has(self.b) ? self.a : self.c) == "x"'),
        ("self.names['a'].size + 1", 'self.names["a"].size + 1'),
        ("self.a.endswith(self.b)", "self.a.endsWith(self.b)"),
        ("subset(self.a, self.b)", "sets.contains(self.b, self.a)"),
        ("disjoint(self.a, self.b)", "!sets.intersects(self.a, self.b)"),
    ],
)
def test_a_rule_reads_the_same_in_both_languages(python: str, cel: str) -> None:
    from trade2026.stack.cel import translated

    assert translated(python) == cel


@pytest.mark.parametrize("python", ["self.a.lower()", "lambda: 1", "self.a ** 2", "1 < self.a < 3", "print(1)"])
def test_what_the_other_language_can_not_say_is_no_rule(python: str) -> None:
    from trade2026.stack.cel import translated

    with pytest.raises(ValueError, match="can't say this in CEL"):
        translated(python)
