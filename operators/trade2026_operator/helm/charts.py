"""A chart as a folder, and as Helm keeps a copy of it in the record of each release."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import yaml

_HIDDEN = "."


def charts_folder() -> Path:
    """Where the platform's charts are: in the package, which in the source tree has a link to them."""
    return Path(__file__).parents[1] / "charts"


class ChartUnreadable(ValueError):
    """A folder is no chart; the message says what is missing."""


@dataclass(frozen=True)
class Chart:
    """The files of a chart by their path in it."""

    place: Path
    files: dict[str, bytes]

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """`Chart.yaml`."""
        return _mapping(self.files, "Chart.yaml")

    @property
    def name(self) -> str:
        return str(self.metadata["name"])

    @property
    def version(self) -> str:
        return str(self.metadata["version"])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all its files: it changes with any of them."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{len(name)} {name} {len(content)} ".encode())
            digest.update(content)
        return digest.hexdigest()

    def copy(self) -> dict[str, Any]:
        """The chart as it stands in a release's record, whole, so that Helm can render it again.

        It is always the same one, and not to be changed.
        """
        return self._copy

    @cached_property
    def _copy(self) -> dict[str, Any]:
        templates = {name: data for name, data in self.files.items() if name.startswith("templates/")}
        own = {"Chart.yaml", "values.yaml", "values.schema.json", *templates}
        schema = self.files.get("values.schema.json")
        return {
            "metadata": self.metadata,
            "lock": None,
            "templates": _copies(templates),
            "values": _mapping(self.files, "values.yaml"),
            "schema": None if schema is None else base64.b64encode(schema).decode(),
            "files": _copies({name: data for name, data in self.files.items() if name not in own}),
        }


def read_chart(place: Path) -> Chart:
    """Read a chart.

    Raises:
        ChartUnreadable: there is none, or it has charts within, which a record of ours does not keep.
    """
    paths = sorted(path for path in place.rglob("*") if path.is_file())
    names = {path.relative_to(place).as_posix(): path for path in paths}
    shown = {name: path for name, path in names.items() if not any(part[0] == _HIDDEN for part in Path(name).parts)}
    if "Chart.yaml" not in shown:
        raise ChartUnreadable(f"{place} is no chart: it has no Chart.yaml")
    if any(name.startswith("charts/") for name in shown):
        raise ChartUnreadable(f"{place} has charts within: put their templates into its own")
    return Chart(place, {name: path.read_bytes() for name, path in shown.items()})


def _copies(files: dict[str, bytes]) -> list[dict[str, str]]:
    return [{"name": name, "data": base64.b64encode(data).decode()} for name, data in sorted(files.items())]


def _mapping(files: dict[str, bytes], name: str) -> dict[str, Any]:
    found: Any = yaml.safe_load(files.get(name, b"{}")) or {}
    if not isinstance(found, dict):
        raise ChartUnreadable(f"{name} is no mapping")
    return cast("dict[str, Any]", found)
