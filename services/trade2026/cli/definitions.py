"""Strategies as documents of a manifest: what a command line means, and what a running stack has."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trade2026.cli.manifests import wrong
from trade2026.cli.output import FAILED, UNREACHABLE, USAGE, CliError

if TYPE_CHECKING:
    from trade2026.domain.instruments import Instrument
    from trade2026.local.state import StateDir
    from trade2026.stack.manifest import Manifest
    from trade2026.strategies.loading import StrategySettings


@dataclass(frozen=True)
class Running:
    """What a stack trades with, as its manifest has it.

    Args:
        base: Against which the files of its strategies are meant.
    """

    text: str
    base: str = "."

    @cached_property
    def specs(self) -> dict[str, dict[str, Any]]:
        """Of each strategy."""
        import yaml

        return {name: yaml.safe_load(part)["spec"] for name, part in split(self.text) if name}

    @property
    def first_symbol(self) -> str:
        """Of its instruments: what a strategy trades that does not say."""
        from trade2026.stack.manifest import load_all

        return load_all(self.text).stack.spec.instruments[0].symbol

    def place_of(self, spec: dict[str, Any]) -> str:
        """The file or class that a strategy comes from."""
        source = spec["source"]
        return (
            str(Path(self.base, source["file"].partition(":")[0]).absolute()) if "file" in source else source["class"]
        )


def described(
    source: str,
    name: str,
    symbols: list[str],
    params: list[str],
    account: str,
    running: Running,
    *,
    reset: bool = False,
) -> list[dict[str, Any]]:
    """The `Strategy` documents that a command line means.

    What a command line does not say of a strategy that runs already stays as it is, its ceilings above all.

    Args:
        reset: Its parameters do not stay: those that are not said are the class's own.

    Raises:
        CliError: one of this name runs from another source.
    """
    if source.endswith((".yaml", ".yml", ".json")):
        if name or symbols or params or account or reset:
            raise CliError(
                "what a manifest says is not said again: leave --name, --symbol, --param, --reset, --account", USAGE
            )
        return _from_manifest(Path(source))
    place, _, make = source.partition(":")
    is_file = place.endswith(".py")
    name = name or _name_of(Path(place).stem if is_file else place.rpartition(".")[2])
    before = running.specs.get(name)
    if before is not None and running.place_of(before) != (str(Path(place).absolute()) if is_file else source):
        raise CliError(
            f"{name!r} runs already, from {running.place_of(before)}; choose another --name, "
            f"or end it first: trade2026 strategy stop {name}",
            USAGE,
        )
    code = {"file": f"{Path(place).absolute()}:{make}".rstrip(":")} if is_file else {"class": source}
    spec: dict[str, Any] = {"symbols": [running.first_symbol], **(before or {}), "source": code}
    if symbols:
        spec["symbols"] = symbols
    kept = {} if reset else spec.pop("parameters", {})
    spec["parameters"] = {**kept, **dict(_parameter(text) for text in params)}
    if not spec["parameters"]:
        del spec["parameters"]
    if account:
        spec["account"] = account
    return [{"apiVersion": "trade2026.io/v1alpha1", "kind": "Strategy", "metadata": {"name": name}, "spec": spec}]


def refuse_what_cannot_run(running: Running, names: Collection[str]) -> None:
    """Raise a `CliError` if one of these strategies would fail as soon as it begins, or do nothing.

    Args:
        running: As it would be with them.
    """
    import msgspec

    from trade2026.domain.instruments import Instrument
    from trade2026.stack.planner import PlanError, plan
    from trade2026.strategies.loading import StrategySettings

    manifest = _fitting(running.text)
    wanted = [strategy for strategy in manifest.strategies if strategy.metadata.name in names]
    try:
        release = plan(manifest.stack, wanted).release("strategies")
    except PlanError as error:
        raise CliError(str(error), USAGE) from error
    assert release is not None
    instruments = msgspec.convert(release.settings["instruments"], list[Instrument])
    settings = release.settings["config"]["strategies"]["strategies"]
    for one in msgspec.convert(settings, list[StrategySettings]):
        if trouble := _trouble(one, instruments):
            hint = "; --reset begins with the class's own parameters" if one.parameters else ""
            raise CliError(f"{one.name} can't run, and nothing was changed: {trouble}{hint}", FAILED)


def _fitting(text: str) -> "Manifest":
    from trade2026.stack.manifest import ManifestError, load_all

    try:
        return load_all(text)
    except ManifestError as error:
        told = [fault.message if not fault.path else f"{fault.path}: {fault.message}" for fault in error.faults]
        raise CliError("the strategy does not fit the stack:\n  " + "\n  ".join(told), USAGE) from error


def _trouble(one: "StrategySettings", instruments: "list[Instrument]") -> str:
    """Why a strategy can't run; "" also where only the stack's own process could say."""
    from importlib.util import find_spec

    from trade2026.sdk.lint import doubts
    from trade2026.strategies.loading import find_class, load

    if one.module and find_spec(one.module.partition(".")[0].partition(":")[0]) is None:
        return ""  # it is on the path of the stack, not on ours
    if trouble := load(one, instruments).trouble:
        return trouble
    make, source = find_class(one.module, one.file)
    return "\n".join(map(str, doubts(make, source.decode())))


def _name_of(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "strategy"


def _from_manifest(file: Path) -> list[dict[str, Any]]:
    from trade2026.stack.manifest import ManifestError, load_strategies, read

    try:
        found = load_strategies(read(file))
    except ManifestError as error:
        raise wrong(file, error) from error
    documents = [strategy.model_dump(mode="json", by_alias=True, exclude_defaults=True) for strategy in found]
    for document, strategy in zip(documents, found, strict=True):
        document |= {"apiVersion": strategy.api_version, "kind": strategy.kind}
        if path := strategy.spec.source.file:
            place, colon, name = path.partition(":")
            document["spec"]["source"]["file"] = f"{(file.parent / place).absolute()}{colon}{name}"
    return documents


def _parameter(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CliError(f"{text!r} is not written name=value, e.g. quantity=0.02", USAGE)
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise CliError(f"the value of {name} can't be read: {str(error).splitlines()[0]}", USAGE) from error
    return name, value if isinstance(read, float) else read


def manifest_of(state: "StateDir") -> str:
    if not state.is_locked:
        raise CliError(f"{state.path.name} is not up; start it with `trade2026 up`", UNREACHABLE)
    return (state.path / "manifest.yaml").read_text("utf-8")


def split(text: str) -> list[tuple[str, str]]:
    """The documents of a manifest as they are written, each with the strategy's name ("" for the stack)."""
    import yaml

    found: list[tuple[str, str]] = []
    for part in re.split(r"^---[ \t]*$", text, flags=re.MULTILINE):
        try:
            document = yaml.safe_load(part)
        except yaml.YAMLError as error:
            raise CliError(f"the manifest can't be read: {' '.join(str(error).split())}", USAGE) from error
        if isinstance(document, dict):
            is_strategy = document.get("kind") == "Strategy"
            found.append((_named(document) if is_strategy else "", part.strip("\n")))
    return found


def _named(document: dict[str, Any]) -> str:
    """A document's name; "" where it has none, which whoever reads the manifest complains of."""
    metadata = document.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def names_of(text: str) -> list[str]:
    return [name for name, _ in split(text) if name]


def with_documents(text: str, documents: list[dict[str, Any]], *, remove: set[str]) -> str:
    """A manifest with other strategies; what else is written there stays as it is."""
    import yaml

    parts = [part for name, part in split(text) if name not in remove]
    parts += [yaml.safe_dump(document, sort_keys=False, allow_unicode=True).strip("\n") for document in documents]
    return "\n---\n".join(parts) + "\n"
