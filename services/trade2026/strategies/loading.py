"""From what a manifest says to a class that can run: import, check, hash."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from trade2026.domain.instruments import Instrument
from trade2026.sdk.hosted import Definition, Hosted
from trade2026.sdk.lint import check
from trade2026.sdk.strategy import Strategy
from trade2026.strategies.machine import Loaded, Parked
from trade2026.strategies.shards import assignment

SOURCE_BYTES_MAX = 1024 * 1024


class StrategySettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One strategy as the planner hands it over: `module` (`package.module:Class`) or `file` (`path.py[:Class]`)."""

    name: str
    account: str
    instruments: list[str]
    module: str = ""
    file: str = ""
    parameters: dict[str, Any] = {}
    seed: int = 0
    bars: list[str] = []
    """Intervals of the bars in `market.bars`."""
    digest: str = ""
    """Of the file, where the manifest names one: another content is another strategy."""
    shadow: bool = False
    """It is run, and none of its orders is sent."""
    shards: int = 1
    """So many processes share its instruments."""


class NotLoadable(Exception):
    """Why a strategy can't run; the message says what to change."""


def load(settings: StrategySettings, instruments: Sequence[Instrument], shard: int = 0) -> Loaded:
    """Return the strategy of these settings, as one of its processes runs it; what is wrong with it is in `trouble`,
    never raised."""
    definition = Definition(
        name=settings.name,
        account=settings.account,
        instruments=assignment(settings.instruments, settings.shards)[shard],
        parameters=settings.parameters,
        seed=settings.seed,
        bars=settings.bars,
        shard=shard,
    )
    try:
        make, source = find_class(settings.module, settings.file)
    except NotLoadable as error:
        return Loaded(definition, Parked, "", str(error))
    try:
        code = hashlib.sha256(source + _said(definition)).hexdigest()[:16]
        named = [instrument for instrument in instruments if instrument.instrument_id in definition.instruments]
        Hosted(make, definition, named)
    except msgspec.ValidationError as error:
        return Loaded(definition, Parked, "", f"its parameters are wrong: {error}; {_parameters(make)}")
    except ValueError as error:
        return Loaded(definition, Parked, "", str(error))
    except Exception as error:
        return Loaded(definition, Parked, "", f"it can't be made: {type(error).__name__}: {error}")
    return Loaded(definition, make, code)


def _said(definition: Definition) -> bytes:
    """What is part of a strategy's code: one that shares its symbols with nobody is what it was before it could."""
    said = msgspec.to_builtins(definition)
    if not definition.shard:
        del said["shard"]
    return msgspec.json.encode(said, order="sorted")


def _parameters(make: type[Strategy[Any]]) -> str:
    names = ", ".join(field.encode_name for field in msgspec.structs.fields(make.parameters))
    return f"it has {names}" if names else "it has none"


def find_class(module: str = "", file: str = "") -> tuple[type[Strategy[Any]], bytes]:
    """Return a strategy's class and the source that it comes from.

    Args:
        module: `package.module:Class`.
        file: `path.py`, or `path.py:Class` where the file has several strategies.

    Raises:
        NotLoadable: there is no such class, its file does what a strategy must not do, or it can't be imported.
    """
    place, _, name = (file or module).partition(":")
    if file:
        loaded, source = _from_file(Path(place))
    else:
        loaded, source = _from_module(place)
    found = {
        found.__name__: found
        for found in vars(loaded).values()
        if inspect.isclass(found) and issubclass(found, Strategy) and found.__module__ == loaded.__name__
    }
    if name:
        if name not in found:
            raise NotLoadable(f"{place} has no strategy {name!r}; it has {', '.join(found) or 'none'}")
        return found[name], source
    if len(found) != 1:
        what = (
            f"has several strategies ({', '.join(found)}): say which, as {place}:CLASS" if found else "has no strategy"
        )
        raise NotLoadable(f"{place} {what}")
    return next(iter(found.values())), source


def _from_file(path: Path) -> tuple[ModuleType, bytes]:
    try:
        if path.stat().st_size > SOURCE_BYTES_MAX:
            raise NotLoadable(f"{path} is larger than {SOURCE_BYTES_MAX} bytes; is it a strategy?")
        source = path.read_bytes()
        text = source.decode()
    except OSError as error:
        raise NotLoadable(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise NotLoadable(f"{path} is no UTF-8 text") from error
    if findings := check(text):
        raise NotLoadable("\n".join(f"{path} {finding}" for finding in findings))
    name = f"trade2026_strategy_{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except Exception as error:
        raise NotLoadable(f"{path} can't be imported: {type(error).__name__}: {error}") from error
    return module, source


def _from_module(name: str) -> tuple[ModuleType, bytes]:
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise NotLoadable(f"{name} can't be imported: {type(error).__name__}: {error}") from error
    return module, Path(str(module.__file__)).read_bytes()
