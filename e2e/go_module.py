"""A module of Go whose programs tests build: its sources, fetched and checked."""

import json
import subprocess
from pathlib import Path
from typing import Any

from trade2026.local.cluster.place import ClusterError

_SECONDS_MAX = 300


def fetched(module: str, checksum: str) -> Path:
    """Its folder in Go's cache, which is not to be written to.

    Args:
        module: With its version, e.g. github.com/kedacore/keda/v2@v2.21.0.
        checksum: As `go.sum` has it.

    Raises:
        ClusterError: it can't be fetched, or is another one.
    """
    done = subprocess.run(
        ["go", "mod", "download", "-json", module], capture_output=True, text=True, timeout=_SECONDS_MAX, check=False
    )
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    if done.returncode or found.get("Sum") != checksum:
        raise ClusterError(f"{module} can't be had: {found.get('Error') or done.stderr or 'it is another one'}")
    return Path(found["Dir"])
