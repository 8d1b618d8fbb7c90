"""Bring a cluster up, use it, bring it down."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from trade2026.local.cluster import certificates, configuration, health, machine_state, network, prerequisites
from trade2026.local.cluster.binaries import Report, programs
from trade2026.local.cluster.place import FORMAT, INIT, ClusterError, Place

COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd",
    "kubelet",
    "kube-proxy",
    "coredns",
)
"""What runs on the node, each with a log of that name; one that ends is started again."""
READY_SECONDS_MAX = 120.0
_END_SECONDS_MAX = 30.0
_IMPORT_SECONDS_MAX = 600.0
_REST_SECONDS = 0.1
_REPORT_SECONDS = 5.0
_LINES = 20


def up(place: Place, report: Report, seconds_max: float = READY_SECONDS_MAX) -> float:
    """Start the cluster, and return when pods can be made; what it had before is there again.

    Args:
        seconds_max: How long it may take to be ready, once its programs are there.

    Returns:
        How long it took, in seconds; 0 if it was up already.

    Raises:
        ClusterError: it can't start, or is not ready in time. What has started runs on, for its logs.
    """
    prerequisites.require()
    found = programs(report)
    with _held(place):
        if place.pid() is not None:
            return 0.0
        began = time.monotonic()
        _prepare(place, found)
        starter = _start(place, found)
        _wait(place, starter, report, seconds_max)
        return time.monotonic() - began


def _start(place: Place, found: Path) -> "subprocess.Popen[bytes]":
    with (place.logs / "init.log").open("ab") as log:
        return subprocess.Popen(
            init_command(place),
            env=os.environ | configuration.init_environment(place, str(found)),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def init_command(place: Place) -> list[str]:
    """How the process is started that everything lives with; the process that starts it ends it with its own end."""
    return [
        *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"),
        *("bash", str(INIT), str(place.state)),
    ]


def _prepare(place: Place, found: Path) -> None:
    if not place.mark.exists() and any(path.name != "lock" for path in place.state.iterdir()):
        raise ClusterError(f"{place.state} is not empty, and not a cluster's: name another directory")
    place.state.chmod(0o700)
    place.mark.write_text(json.dumps({"format": FORMAT, "programs": str(found)}))
    for name in ("log", "etcd", "cni", "run", "volumes"):
        (place.state / name).mkdir(exist_ok=True)
    for volume in configuration.volumes(place):
        Path(volume["spec"]["local"]["path"]).mkdir(exist_ok=True)
    certificates.write(place.state / "pki", place.state)
    for name, text in configuration.documents(place).items():
        (place.state / name).write_text(text)
    machine_state.remember_settings(place.state / "settings.json")
    machine_state.make_cgroups(place.cgroup)


def _wait(place: Place, starter: "subprocess.Popen[bytes]", report: Report, seconds_max: float) -> None:
    began = told = time.monotonic()
    while True:
        pid = place.pid()
        waits_for = ["its first process"] if pid is None else health.unready(place, pid)
        if not waits_for:
            return
        if starter.poll() is not None:
            raise ClusterError(f"the cluster ended while it was starting:\n{log_end(place, 'init')}")
        now = time.monotonic()
        if now - began > seconds_max:
            raise ClusterError(
                f"the cluster is not ready after {seconds_max:.0f} s, and waits for {', '.join(waits_for)}: "
                f"look into {place.logs}, then `trade2026 cluster down`"
            )
        if now - told > _REPORT_SECONDS:
            told = now
            report(f"  {now - began:.0f} s: waits for {', '.join(waits_for)}")
        time.sleep(_REST_SECONDS)


def log_end(place: Place, name: str, lines: int = _LINES) -> str:
    """The last lines of a component's log; empty where there is none."""
    try:
        return "\n".join((place.logs / f"{name}.log").read_text("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""


def down(place: Place, keep: bool = False) -> bool:
    """End the cluster and everything in it, and remove what it left.

    Args:
        keep: Leave the state directory for the next `up`.

    Returns:
        Whether there was one.

    Raises:
        ClusterError: the directory is no cluster's, or something can't be removed.
    """
    prerequisites.require_root("a cluster")
    if not place.state.exists():
        return False
    if not place.mark.exists():
        raise ClusterError(f"{place.state} is not a cluster's, and stays as it is: name the right --state-dir")
    with _held(place):
        if (pid := place.pid()) is not None:
            _end(pid)
        left = machine_state.remove_cgroups(place.cgroup)
        machine_state.restore_settings(place.state / "settings.json")
        if not keep:
            shutil.rmtree(place.state)
    with contextlib.suppress(OSError):  # others have something there, or it never was
        Path("/var/lib/cni").rmdir()
    if left:
        raise ClusterError(f"these can't be removed, because something still runs in them: {', '.join(map(str, left))}")
    return True


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _END_SECONDS_MAX
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise ClusterError(f"process {pid} does not end: something in the kernel hangs")
        time.sleep(_REST_SECONDS / 10)


@contextlib.contextmanager
def _held(place: Place) -> Iterator[None]:
    """Let one at a time start or end the cluster; who comes after the directory was removed makes it anew."""
    path = place.state / "lock"
    while True:
        place.state.mkdir(parents=True, exist_ok=True)
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                yield
                return


def require_up(place: Place) -> int:
    """The process whose network is the cluster's.

    Raises:
        ClusterError: it is not up.
    """
    prerequisites.require_root("a cluster")
    if (pid := place.pid()) is None:
        raise ClusterError(f"no cluster is up in {place.state}: start it with `trade2026 cluster up`")
    return pid


def programs_of(place: Place) -> Path:
    """The programs that a cluster was started with."""
    return Path(json.loads(place.mark.read_text())["programs"])


def run(place: Place, command: Sequence[str]) -> NoReturn:
    """Become a command in the cluster's network, with `kubectl` and `helm` set up for it.

    Raises:
        ClusterError: the cluster is not up, or there is no such command.
    """
    pid = require_up(place)
    environment = os.environ | place.environment(programs_of(place))
    network.join(pid)
    try:
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        raise ClusterError(f"{command[0]} can't be run: {error.strerror}") from error


def load(place: Place, archive: Path) -> list[str]:
    """Import the images of an archive; pods made from now on use them.

    Returns:
        The images' names.

    Raises:
        ClusterError: the cluster is not up, or the archive can't be read.
    """
    said = _ctr(place, "images", "import", str(archive), what=f"{archive} can't be imported")
    return [line.split()[1] for line in said.splitlines() if line.startswith("unpacking ")]


def contents(place: Place) -> set[str]:
    """Digests of the layers that the cluster has, which an archive for it may leave out.

    Raises:
        ClusterError: the cluster is not up.
    """
    return set(_ctr(place, "content", "ls", "--quiet", what="containerd does not say what it has").split())


def _ctr(place: Place, *words: str, what: str) -> str:
    require_up(place)
    done = subprocess.run(
        ["ctr", *words],
        env=os.environ | place.environment(programs_of(place)),
        capture_output=True,
        text=True,
        timeout=_IMPORT_SECONDS_MAX,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ClusterError(f"{what}: {said[-1] if said else 'no word of why'}")
    return done.stdout


def kill(place: Place, components: Sequence[str]) -> None:
    """End components with SIGKILL, which come back by themselves.

    Raises:
        ClusterError: the cluster is not up, or has no such component.
    """
    pid = require_up(place)
    if unknown := [name for name in components if name not in COMPONENTS]:
        raise ClusterError(f"there is no component {', '.join(unknown)}: choose of {', '.join(COMPONENTS)}")
    for name in components:
        number = (place.state / "run" / name).read_text().strip()
        # The number is that of the cluster's own process namespace.
        subprocess.run(
            ["nsenter", f"--target={pid}", "--pid", "sh", "-c", f"kill -9 {number}"], check=False, capture_output=True
        )


def status(place: Place) -> dict[str, Any]:
    """Whether the cluster is up and ready, and what is in it."""
    pid = place.pid()
    told: dict[str, Any] = {"up": pid is not None, "state": str(place.state)}
    if pid is None:
        return told
    waits_for = health.unready(place, require_up(place))
    told |= {"pid": pid, "ready": not waits_for, "waits_for": waits_for, "programs": str(programs_of(place))}
    with contextlib.suppress(OSError, LookupError):  # `waits_for` says so
        told |= health.inside(place, pid)
    return told
