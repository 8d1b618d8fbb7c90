"""The cluster's programs: built by Go from sources that are pinned by hash, once, into the cache outside the tree."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from trade2026.local.cluster.oci import ImageConfig, pack_archive, pack_layer
from trade2026.local.cluster.place import FILES, ClusterError
from trade2026.local.infra.artefacts import cache_folder

Report = Callable[[str], None]
"""Hears how far a long work is, in words for a person."""

SOURCES = FILES / "go"
PAUSE_IMAGE = "localhost/pause:1"
_TARGETS = (".", "./coredns", "./pause", "helm.sh/helm/v4/cmd/helm")
_VERSION = re.compile(r"^\s*k8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)$", re.MULTILINE)
_BUILD = 1
"""Raised when the same sources are built in another way."""
_REPORT_SECONDS = 10.0
_BUILD_SECONDS_MAX = 3600.0
_FREE_BYTES_MIN = 8 * 1024**3


def version(sources: Path = SOURCES) -> str:
    """The version of Kubernetes, without a `v`."""
    found = _VERSION.search((sources / "go.mod").read_text())
    assert found is not None, f"{sources}/go.mod names no k8s.io/kubernetes"
    return ".".join(found.groups())


def folder(sources: Path = SOURCES) -> Path:
    """Where the programs of these sources belong; it is there when they are."""
    return cache_folder() / "cluster" / f"{version(sources)}-{digest_of(sources)}"


def digest_of(sources: Path) -> str:
    """Another one for other sources."""
    digest = hashlib.sha256(str(_BUILD).encode())
    for path in sorted(path for path in sources.rglob("*") if path.is_file()):
        digest.update(f"\0{path.relative_to(sources)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def build_command(output: Path, sources: Path = SOURCES) -> list[str]:
    """How Go is called. Without the names of its version, Kubernetes says v0.0.0-master of itself."""
    number = version(sources)
    major, minor, _ = number.split(".")
    names = {"gitVersion": f"v{number}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    defined = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in names.items())
    return [
        *("go", "build", "-v", "-trimpath", "-buildvcs=false"),
        *("-ldflags", f"-s -w {defined}"),
        *("-o", f"{output}/", *_TARGETS),
    ]


def programs(report: Report, sources: Path = SOURCES) -> Path:
    """The folder with hyperkube, kubectl, helm, coredns and the image of pause, built first where they are missing.

    Raises:
        ClusterError: they are missing and can't be built.
    """

    def make(work: Path) -> None:
        report(f"building Kubernetes {version(sources)}, once: about 10 minutes of one core")
        go(build_command(work, sources), sources, "Kubernetes", report)
        (work / "kubectl").symlink_to("hyperkube")
        pack_program(work / "pause", PAUSE_IMAGE, work / "pause.tar")

    return made_once(folder(sources), f"Kubernetes {version(sources)}", make, report)


def made_once(ready: Path, what: str, make: Callable[[Path], None], report: Report) -> Path:
    """A folder of the cache, filled first where it is missing; of several processes one fills it.

    Raises:
        ClusterError: it is missing and can't be filled.
    """
    if ready.is_dir():
        return ready
    if shutil.which("go") is None:
        raise ClusterError(
            f"{what} is built here once, and Go 1.26 or newer, which does it, is missing: "
            f"install it, or put the programs of another machine into {ready}"
        )
    ready.parent.mkdir(parents=True, exist_ok=True)
    with (ready.parent / f".{ready.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be building the same
        if not ready.is_dir():
            _make(ready, what, make)
            report(f"{what} is in {ready}")
    return ready


def _make(ready: Path, what: str, make: Callable[[Path], None]) -> None:
    free = shutil.disk_usage(ready.parent).free
    if free < _FREE_BYTES_MIN:
        raise ClusterError(
            f"building {what} takes {_FREE_BYTES_MIN // 1024**3} GiB, and {free / 1024**3:.1f} GiB are free "
            f"at {ready.parent}: free some"
        )
    with tempfile.TemporaryDirectory(dir=ready.parent, prefix=".building-") as work:
        made = Path(work) / "programs"
        made.mkdir()
        make(made)
        made.rename(ready)


def pack_program(program: Path, name: str, out: Path) -> None:
    """Make a program the only file of an image, which is an archive then, and remove it."""
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".image-") as work:
        alone = Path(work) / "root"
        alone.mkdir()
        shutil.move(program, alone / program.name)
        layer = pack_layer(alone, "/", Path(work) / "layer.tar")
        pack_archive(out, name, [layer], ImageConfig(entrypoint=(f"/{program.name}",)))


def go(command: list[str], sources: Path, what: str, report: Report) -> None:
    """Have Go build something.

    Raises:
        ClusterError: it can't.
    """
    environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"}
    with subprocess.Popen(
        command, cwd=sources, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        try:
            said = follow(process.stderr, report, time.monotonic)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise ClusterError(f"Go could not build {what}: {said or 'no word of why'}")


def follow(lines: Iterable[str], report: Report, clock: Callable[[], float]) -> str:
    """Tell now and then how far Go is, and return the last of what it said that is no progress.

    Raises:
        ClusterError: it takes longer than an hour.
    """
    began = told = clock()
    compiled = downloaded = 0
    errors: list[str] = []
    for line in lines:
        text = line.strip()
        if text.startswith("go: downloading "):
            downloaded += 1
        elif " " not in text:
            compiled += 1
        elif not text.startswith("#"):
            errors.append(text)
        now = clock()
        if now - began > _BUILD_SECONDS_MAX:
            raise ClusterError(f"Go has not ended within {_BUILD_SECONDS_MAX / 60:.0f} minutes")
        if now - told >= _REPORT_SECONDS:
            told = now
            report(f"  {now - began:.0f} s: {downloaded} modules fetched, {compiled} packages compiled")
    return "; ".join(errors[-3:])
