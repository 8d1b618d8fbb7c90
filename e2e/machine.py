"""Brings what the cluster of these tests needs of this machine, so that no test waits for it.

`python -m e2e.machine`: installs Debian's packages where they are missing and this is root, and builds the programs.
"""

import os
import shutil
import subprocess

from trade2026.local.cluster import prerequisites
from trade2026.local.cluster.binaries import programs
from trade2026.local.cluster.place import ClusterError

KUBECONFIG_VARIABLE = "E2E_KUBECONFIG"
"""Environment variable with the kubeconfig of a cluster that is there already; none is started then."""
IMAGE_VARIABLE = "E2E_IMAGE"
"""Environment variable with the name under which that cluster has the platform's image."""
HOST_VARIABLE = "E2E_HOST"
"""Environment variable with an address of this machine that pods of that cluster reach, for servers beside it."""
_INSTALL_SECONDS_MAX = 600


def prepare() -> None:
    """Install and build what is missing.

    Raises:
        ClusterError: it can't be.
    """
    prerequisites.require_root("a cluster")
    packages = prerequisites.missing_packages()
    if packages and shutil.which("apt-get"):
        for command in (["apt-get", "update", "-qq"], [*prerequisites.install_command(packages), "-qq"]):
            print(" ".join(command), flush=True)
            subprocess.run(
                command, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, timeout=_INSTALL_SECONDS_MAX, check=True
            )  # fmt: skip
    prerequisites.require()
    programs(lambda text: print(text, flush=True))


if __name__ == "__main__":
    if not os.environ.get(KUBECONFIG_VARIABLE):
        try:
            prepare()
        except (ClusterError, subprocess.SubprocessError) as error:
            if os.environ.get("CI") == "true":
                raise
            print(f"the tests on a cluster are skipped: {error}")
