"""What the machine must have before a cluster can start, and the command that brings it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from trade2026.local.cluster.place import ClusterError

PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "unshare": "util-linux",
    "mount": "mount",
    "bash": "bash",
}
"""Debian's package of each program."""
PLUGINS = Path("/usr/lib/cni")
_PLUGIN_NAMES = ("host-local", "loopback", "portmap", "ptp")
_PLUGIN_PACKAGE = "containernetworking-plugins"


def missing_packages(which: Callable[[str], str | None] = shutil.which, plugins: Path = PLUGINS) -> list[str]:
    """Debian's packages that a cluster needs and this machine lacks, each once."""
    packages = [package for program, package in PACKAGES.items() if which(program) is None]
    if not all((plugins / name).exists() for name in _PLUGIN_NAMES):
        packages.append(_PLUGIN_PACKAGE)
    return list(dict.fromkeys(packages))


def install_command(packages: list[str]) -> list[str]:
    """The command that installs packages, and changes none that is there."""
    return ["apt-get", "install", "--yes", "--no-install-recommends", "--no-upgrade", *packages]


def require_root(what: str) -> None:
    """Namespaces, mounts and cgroups are root's.

    Raises:
        ClusterError: this process is somebody else's.
    """
    if os.geteuid() != 0:
        raise ClusterError(f"{what} needs root: try again with `sudo`, or as root in a virtual machine")


def require(which: Callable[[str], str | None] = shutil.which, plugins: Path = PLUGINS) -> None:
    """Check that a cluster can start here.

    Raises:
        ClusterError: it can't; says what to install.
    """
    require_root("a cluster")
    if packages := missing_packages(which, plugins):
        raise ClusterError(f"programs are missing: `{' '.join(install_command(packages))}` brings them")
    if not Path("/sys/fs/cgroup").is_dir():
        raise ClusterError("/sys/fs/cgroup is not mounted, and a cluster needs cgroups")
