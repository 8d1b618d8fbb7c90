"""`doctor`: is this machine fit for a stack?"""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from trade2026.cli.manifests import PortOffset
from trade2026.cli.output import FAILED, AsJson, CliError, SomeManifestPath, StatePath, print_json
from trade2026.cli.target import STATE_ROOT

_FREE_BYTES_MIN = 2 * 1024**3
_FSYNC_MS_MAX = 20.0
_FILES_MIN = 1024
_PACKAGES = ("pydantic", "msgspec", "uvloop", "uvicorn", "starlette", "typer", "rich", "PyYAML")

Check = dict[str, Any]


def doctor(
    file: SomeManifestPath = None,
    port_offset: PortOffset = 0,
    state_dir: StatePath = None,
    fsyncs: Annotated[int, typer.Option(help="How many to measure.", min=1, max=10_000)] = 100,
    as_json: AsJson = False,
) -> None:
    """Check Python, ports, disk and its fsync, the state directory and versions; say what to do where it is wrong.

    Example: trade2026 doctor -f manifests/quickstart.yaml
    """
    name = "quickstart"
    if file is not None:
        from trade2026.cli.manifests import read

        name = read(file).metadata.name
    path = state_dir or STATE_ROOT / name
    place = _existing(path)
    checks = [
        _python(),
        _versions(),
        _state(path),
        _ports(path, port_offset),
        _disk(place),
        _fsync(place, fsyncs),
        _files(),
    ]
    if as_json:
        print_json({"ok": all(check["ok"] for check in checks), "checks": checks})
    else:
        for check in checks:
            typer.echo(f"{'ok  ' if check['ok'] else 'BAD '} {check['name'].ljust(16)} {check['detail']}")
            if not check["ok"]:
                typer.echo(f"     {' ' * 16} {check['do']}")
    if not all(check["ok"] for check in checks):
        bad = ", ".join(check["name"] for check in checks if not check["ok"])
        raise CliError(f"not fit: {bad}", FAILED)


def _check(name: str, ok: bool, detail: str, do: str = "") -> Check:
    return {"name": name, "ok": ok, "detail": detail, **({} if ok else {"do": do})}


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path


def _python() -> Check:
    import platform
    import sys

    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return _check("python", sys.version_info >= (3, 11), detail, "install Python 3.11 or later")


def _versions() -> Check:
    from importlib import metadata

    from trade2026 import __version__

    found, missing = [f"trade2026 {__version__}"], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    return _check("versions", not missing, ", ".join(found), f"install {', '.join(missing)}")


def _state(path: Path) -> Check:
    from trade2026.local.state import FORMAT, StateDir

    version = path / "VERSION"
    if not version.exists():
        return _check("state directory", True, f"{path} does not exist yet")
    found = version.read_text("utf-8", "replace").strip()
    held = f", in use by process {StateDir(path).holder()}" if StateDir(path).is_locked else ""
    return _check(
        "state directory",
        found == str(FORMAT),
        f"{path} has format {found}{held}",
        f"this version reads format {FORMAT}: install the version that wrote it",
    )


def _ports(path: Path, offset: int) -> Check:
    import socket

    from trade2026.local.state import StateDir
    from trade2026.stack.facts import SERVICES

    ports = {name: facts.port + offset for name, facts in SERVICES.items()}
    if path.exists() and StateDir(path).is_locked:
        return _check("ports", True, "in use by this stack")
    taken = []
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except (OSError, OverflowError):
                taken.append(f"{port} ({name})")
    free = f"{', '.join(map(str, sorted(ports.values())))} are free"
    return _check("ports", not taken, free if not taken else f"in use: {', '.join(taken)}", "use --port-offset 1000")


def _disk(place: Path) -> Check:
    import shutil

    free = shutil.disk_usage(place).free
    return _check(
        "disk", free >= _FREE_BYTES_MIN, f"{free / 1024**3:.1f} GiB free at {place}", "free at least 2 GiB there"
    )


def _fsync(place: Path, count: int) -> Check:
    import os
    import tempfile

    took: list[float] = []
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".trade2026-doctor-") as file:
            for _ in range(count):
                file.write(b"x" * 4096)
                file.flush()
                started = time.perf_counter()
                os.fsync(file.fileno())
                took.append((time.perf_counter() - started) * 1000)
    except OSError as error:
        return _check("fsync", False, f"{place} can't be written: {error.strerror}", "choose another --state-dir")
    took.sort()
    p50, p99 = took[len(took) // 2], took[min(len(took) - 1, len(took) * 99 // 100)]
    return _check(
        "fsync",
        p99 <= _FSYNC_MS_MAX,
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms of {count}",
        f"orders wait for it: use a disk whose p99 is below {_FSYNC_MS_MAX:.0f} ms",
    )


def _files() -> Check:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _check("open files", soft >= _FILES_MIN or soft < 0, f"at most {soft}", f"ulimit -n {_FILES_MIN}")
