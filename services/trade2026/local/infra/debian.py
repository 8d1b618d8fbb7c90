"""Programs that only Debian has built: packages with the libraries they need, unpacked into the cache, never installed."""

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from trade2026.local.infra.artefacts import cache_folder
from trade2026.local.infra.component import InfraError

_FETCH_SECONDS_MAX = 300
_DEPENDS = ("depends", "--recurse", *(f"--no-{kind}" for kind in (
    "recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"
)))  # fmt: skip
_LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")


def unpacked(component: str, version: str, packages: Sequence[str]) -> Path:
    """The folder with a component's files, fetched first where they are missing.

    Args:
        packages: What it is made of; the libraries that they need and this machine lacks come along.

    Raises:
        InfraError: they are missing and can't be fetched.
    """
    folder = cache_folder() / f"{component}-{version}"
    if folder.is_dir():
        return folder
    if not all(map(shutil.which, ("apt-get", "apt-cache", "dpkg-deb", "dpkg-query"))):
        raise InfraError(
            f"{component} {version} is not here yet, and apt, which fetches it, is missing: "
            f"unpack the packages {', '.join(packages)} into {folder}"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be fetching the same
        if not folder.is_dir():
            _fetch(component, version, packages, folder)
    return folder


def library_path(folder: Path) -> str:
    """`LD_LIBRARY_PATH` of what was unpacked."""
    return ":".join(str(folder / each) for each in _LIBRARIES)


def _fetch(component: str, version: str, packages: Sequence[str], folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{component}-") as work:
        needed = _ran(["apt-cache", *_DEPENDS, *packages], component, version, work).split()
        libraries = sorted({name for name in needed if name.startswith("lib")} - _installed(work))
        _ran(["apt-get", "download", *packages, *libraries], component, version, work)
        files = Path(work) / "files"
        for package in sorted(Path(work).glob("*.deb")):
            _ran(["dpkg-deb", "--extract", str(package), str(files)], component, version, work)
        files.rename(folder)


def _installed(work: str) -> set[str]:
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}${Package}\n"],
        cwd=work, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {line.removeprefix("ii ").strip() for line in done.stdout.splitlines() if line.startswith("ii ")}


def _ran(command: list[str], component: str, version: str, work: str) -> str:
    try:
        done = subprocess.run(
            command, cwd=work, capture_output=True, text=True, timeout=_FETCH_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InfraError(f"{component} {version} was not fetched within {_FETCH_SECONDS_MAX} s") from error
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if line.startswith("E:")), "no word of why")
        raise InfraError(f"{component} {version} could not be fetched by apt ({said}); try `apt-get update` first")
    return done.stdout
