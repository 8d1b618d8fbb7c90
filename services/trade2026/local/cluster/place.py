"""Where a cluster keeps what, and which process it lives and dies with."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

STATE_VARIABLE = "TRADE2026_CLUSTER_DIR"
"""Environment variable with the cluster's state directory."""
FORMAT = 1
PATH_BYTES_MAX = 80
"""Sockets lie below the state directory, and the kernel takes 108 bytes for a socket's path."""

NODE = "node-0"
NODE_IP = "10.200.0.1"
POD_CIDR = "10.201.0.0/16"
SERVICE_CIDR = "10.202.0.0/16"
API_SERVICE_IP = "10.202.0.1"
"""The first address of the Services: that of the Service `kubernetes`."""
API_PORT = 6443

FILES = Path(__file__).parent
INIT = FILES / "init.sh"


class ClusterError(Exception):
    """The cluster can't do what was asked; the message says why and what to do."""


def default_state() -> Path:
    """The state directory where none is named: one cluster a user, found from every working directory."""
    if chosen := os.environ.get(STATE_VARIABLE):
        return Path(chosen)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "trade2026" / "cluster"


@dataclass(frozen=True)
class Place:
    """The state directory of one cluster; several run side by side, each in its own."""

    state: Path

    @classmethod
    def at(cls, path: Path | None) -> "Place":
        """The place of a cluster, which need not exist.

        Raises:
            ClusterError: the path is too long for the sockets below it.
        """
        state = (path or default_state()).expanduser().resolve()
        if len(os.fsencode(state)) > PATH_BYTES_MAX:
            raise ClusterError(
                f"{state} is too long for the sockets in it: choose one of at most {PATH_BYTES_MAX} bytes"
            )
        return cls(state)

    @property
    def mark(self) -> Path:
        """Says that the directory is a cluster's, so that no other is ever removed."""
        return self.state / "cluster.json"

    @property
    def kubeconfig(self) -> Path:
        """For `kubectl`, `helm` and clients, with all rights."""
        return self.state / "admin.conf"

    @property
    def logs(self) -> Path:
        """A file for each component."""
        return self.state / "log"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd listens."""
        return self.state / "run" / "containerd.sock"

    @property
    def cgroup(self) -> str:
        """The cgroup below which everything of the cluster runs; another name for each state directory."""
        return f"trade2026-{hashlib.sha256(os.fsencode(self.state)).hexdigest()[:10]}"

    def pid(self) -> int | None:
        """The process that the cluster's namespaces live with; `None` if it is not up."""
        wanted = [b"bash", os.fsencode(INIT), os.fsencode(self.state), b""]
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _words(entry) == wanted and _is_first_in_namespace(entry):
                return int(entry.name)
        return None

    def environment(self, programs: Path) -> dict[str, str]:
        """What a command needs to find the cluster and its programs, beside what it has."""
        return {
            "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            STATE_VARIABLE: str(self.state),
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.state / "kubecache"),
            "CONTAINERD_ADDRESS": str(self.containerd_socket),
            "CONTAINERD_NAMESPACE": "k8s.io",
        }


def _words(process: Path) -> list[bytes]:
    try:
        return (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _is_first_in_namespace(process: Path) -> bool:
    """Whether it is process 1 to itself: its own children have the same words on their command lines."""
    try:
        status = (process / "status").read_text()
    except OSError:
        return False
    return any(line.startswith("NSpid:") and line.split()[-1] == "1" for line in status.splitlines())
