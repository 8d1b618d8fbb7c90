"""What a cluster changes of the machine outside its namespaces, and puts back: cgroups, and some kernel settings."""

import contextlib
import json
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
SETTINGS = Path("/proc/sys")
_KUBELET_SETS = (
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_EMPTY_SECONDS_MAX = 10.0
_REST_SECONDS = 0.05


def remember_settings(file: Path, settings: Path = SETTINGS) -> None:
    """Write down what the kubelet will change; what was written down before a crash stays."""
    if not file.exists():
        file.write_text(json.dumps({name: (settings / name).read_text().strip() for name in _KUBELET_SETS}))


def restore_settings(file: Path, settings: Path = SETTINGS) -> None:
    """Put back what was written down; nothing where nothing was."""
    if file.exists():
        for name, value in json.loads(file.read_text()).items():
            (settings / name).write_text(value)
        file.unlink()


def make_cgroups(name: str, root: Path = CGROUPS) -> None:
    """Make the cgroup below which the kubelet puts pods, in every hierarchy that there is."""
    if (root / "cgroup.controllers").exists():  # version 2
        (root / name).mkdir(exist_ok=True)
        for controller in (root / "cgroup.controllers").read_text().split():
            with contextlib.suppress(OSError):  # some can't be passed on, and are not needed
                (root / "cgroup.subtree_control").write_text(f"+{controller}")
        return
    for hierarchy in sorted({path.parent.resolve() for path in root.glob("*/cgroup.procs")}):
        made = hierarchy / name
        made.mkdir(exist_ok=True)
        for inherited in ("cpuset.cpus", "cpuset.mems"):
            if (made / inherited).exists():
                (made / inherited).write_text((hierarchy / inherited).read_text())


def remove_cgroups(name: str, root: Path = CGROUPS) -> list[Path]:
    """Remove a cgroup and all below it, and return what can't be: somebody is still in it.

    The kernel takes a moment to let go of the last process.
    """
    deadline = time.monotonic() + _EMPTY_SECONDS_MAX
    while left := [path for path in (root / name, *root.glob(f"*/{name}")) if path.is_dir()]:
        for path in left:
            folders = [path, *(each for each in path.rglob("*") if each.is_dir())]
            for each in reversed(folders):
                with contextlib.suppress(OSError):
                    each.rmdir()
        if time.monotonic() > deadline:
            return [path for path in left if path.is_dir()]
        time.sleep(_REST_SECONDS)
    return []
