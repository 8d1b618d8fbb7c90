"""The lake of a process: a folder of its state directory, or the bucket that the manifest names."""

from collections.abc import Collection
from pathlib import Path

import msgspec

from trade2026.kit.identity import ConfigurationError
from trade2026.kit.settings import ProcessSettings
from trade2026.stores.delta import DeltaLake
from trade2026.stores.lake import LakeError
from trade2026.stores.object_lake import ObjectLake
from trade2026.stores.s3 import S3Settings


def is_folder(settings: ProcessSettings) -> bool:
    """Whether the lake needs room on this machine's disk."""
    return "lake" not in settings.stores


def folder_of(state: Path, *parts: str) -> Path:
    """Where an embedded lake lies in a state directory."""
    return state.joinpath("lake", *parts)


def open_lake(settings: ProcessSettings, *parts: str, names: Collection[str] = (), retention_hours: int) -> DeltaLake:
    """Open the lake; nothing is read or written yet.

    Args:
        parts: Below the lake's root, where it holds several.
        names: Of the tables that may be there: objects are not listed.
        retention_hours: How far back versions are kept.

    Raises:
        ConfigurationError: what the manifest says of it can't be.
    """
    if is_folder(settings):
        return DeltaLake(folder_of(settings.state, *parts), retention_hours=retention_hours)
    bucket = msgspec.convert(settings.stores["lake"], S3Settings)
    root = "/".join((bucket.url.rstrip("/"), *parts))
    try:
        options = bucket.options()
    except LakeError as error:
        raise ConfigurationError(str(error)) from error
    return ObjectLake(root, options, names=names, retention_hours=retention_hours)
