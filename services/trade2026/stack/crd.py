"""The custom resource definitions of `TradingStack` and `Strategy`, from their models.

Usage: python -m trade2026.stack.crd [--check] [FOLDER]
"""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from trade2026.stack.facts import API_VERSION
from trade2026.stack.model import TradingStack
from trade2026.stack.schema import Schema, structural
from trade2026.stack.status import StrategyStatus, TradingStackStatus
from trade2026.stack.strategy import Strategy

GROUP, _, VERSION = API_VERSION.partition("/")
CATEGORY = "trade2026"
_NOTICE = "# Written by `make crds` from the models in services/trade2026/stack; never edited by hand.\n"
_TYPES = {
    "apiVersion": "Group and version of this resource.",
    "kind": "Kind of this resource.",
}


def definitions() -> dict[str, Schema]:
    """Each custom resource definition, by the name of its file."""
    made = (
        _definition(
            TradingStack,
            TradingStackStatus,
            "ts",
            [
                _condition("Ready", "Ready", "status"),
                _column("Version", ".status.version", "Of the platform, that runs and is final."),
                _column("Services", ".status.servicesReady", "Services that are ready."),
                _condition("SLO", "SLOMet", "status"),
                _condition("Reason", "Ready", "reason"),
                _condition("Paused", "Paused", "status"),
                _condition("Drifted", "Drifted", "status"),
            ],
        ),
        _definition(
            Strategy,
            StrategyStatus,
            "strat",
            [
                _column("Stage", ".status.stage", "What it does."),
                _column("Mode", ".spec.mode", "What it is to do."),
                _column("Replicas", ".status.replicas", "Processes that share its symbols.", kind="integer"),
                _column("Position", ".status.position", "Net, of its first symbol."),
                _column("PnL", ".status.pnl", "Realised and open."),
                _column("Drawdown", ".status.drawdown", "From its highest profit."),
                _condition("Ready", "Ready", "status"),
                _condition("Reason", "Ready", "reason", wide=True),
                _column("Stack", ".status.stack", "That it trades on.", wide=True),
            ],
            scale={
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        ),
    )
    return {f"{each['metadata']['name'].replace(f'.{GROUP}', '')}.{GROUP}.yaml": each for each in made}


def _definition(
    model: type[BaseModel],
    status: type[BaseModel],
    short_name: str,
    columns: list[Schema],
    scale: dict[str, str] | None = None,
) -> Schema:
    kind = model.__name__
    plural = "strategies" if kind == "Strategy" else f"{kind.lower()}s"
    age = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
    wide = [column for column in columns if column.get("priority")]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root(model, status)},
        "subresources": {"status": {}, **({"scale": scale} if scale else {})},
        "additionalPrinterColumns": [*(column for column in columns if column not in wide), age, *wide],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short_name],
                "categories": [CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def _root(model: type[BaseModel], status: type[BaseModel]) -> Schema:
    """The whole object: Kubernetes itself knows what type and metadata are, but not which names are right."""
    found = structural(model)
    fields = found["properties"]
    name = fields["metadata"]["properties"]["name"]
    rules = [
        {**rule, "rule": rule["rule"].replace("self.", "self.metadata.name.", 1), "fieldPath": ".metadata.name"}
        for rule in name.pop("x-kubernetes-validations")
    ]
    for rule in rules:
        del rule["fieldPath"]  # it may lead nowhere into metadata
        rule["message"] = f"metadata.name {rule['message']}"
    fields |= {kind: {"type": "string", "description": said} for kind, said in _TYPES.items()}
    fields["metadata"] = {"type": "object", "properties": {"name": name}}
    fields["status"] = {**_without_defaults(structural(status)), "description": "Written by the operator."}
    return {**found, "required": ["spec"], "x-kubernetes-validations": rules}


def _without_defaults(schema: Schema) -> Schema:
    """A status is read back as it was written: an operator that found more in it would write it again and again."""
    found = {key: value for key, value in schema.items() if key != "default"}
    for key in ("items", "additionalProperties"):
        if key in found:
            found[key] = _without_defaults(found[key])
    if "properties" in found:
        found["properties"] = {name: _without_defaults(inner) for name, inner in found["properties"].items()}
    return found


def _column(name: str, path: str, description: str, *, kind: str = "string", wide: bool = False) -> Schema:
    column = {"name": name, "type": kind, "description": description, "jsonPath": path}
    return {**column, "priority": 1} if wide else column


def _condition(name: str, condition: str, field: str, *, wide: bool = False) -> Schema:
    path = f'.status.conditions[?(@.type=="{condition}")].{field}'
    return _column(name, path, f"{field.capitalize()} of the condition {condition}.", wide=wide)


class _Dumper(yaml.SafeDumper):
    """Lists are indented, and nothing is written by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def text_of(definition: Schema) -> str:
    """A definition as it is kept in a file."""
    return _NOTICE + yaml.dump(definition, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; with `--check`, write nothing and return 1 when one differs."""
    parser = argparse.ArgumentParser(description="Write custom resource definitions from the models.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("crds"))
    parser.add_argument("--check", action="store_true", help="write nothing, and fail when a file differs")
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    differing = 0
    for name, definition in definitions().items():
        path, text = folder / name, text_of(definition)
        old = path.read_text("utf-8") if path.exists() else ""
        if old == text:
            continue
        differing += 1
        if options.check:
            difference = difflib.unified_diff(
                old.splitlines(), text.splitlines(), str(path), "what the models say", "", "", 1, ""
            )
            print("\n".join(difference), file=sys.stderr)
        else:
            folder.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
            print(f"wrote {path}")
    if options.check and differing:
        print(f"{folder} is out of date: run `make crds`", file=sys.stderr)
    return int(bool(options.check and differing))


if __name__ == "__main__":
    sys.exit(main())
