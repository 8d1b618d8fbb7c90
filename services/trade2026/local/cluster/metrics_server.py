"""The server of `metrics.k8s.io`, which `kubectl top` and an HPA on CPU ask, for those who want it.

It is the one of Kubernetes SIGs, built by Go from its module once, and runs as a pod. The rest of the platform does without:
its autoscalers go by latency objectives.
"""

import os
import re
import subprocess
import time
from pathlib import Path

from trade2026.local.cluster import cluster
from trade2026.local.cluster.binaries import Report, digest_of, go, made_once, pack_program
from trade2026.local.cluster.network import joined
from trade2026.local.cluster.place import FILES, ClusterError, Place
from trade2026.local.infra.artefacts import cache_folder

SOURCES = FILES / "go-metrics-server"
MANIFEST = FILES / "files" / "metrics-server.yaml"
IMAGE = "localhost/metrics-server:1"
API_SERVICE = "v1beta1.metrics.k8s.io"
_PROGRAM = "sigs.k8s.io/metrics-server/cmd/metrics-server"
_VERSION = re.compile(r"sigs\.k8s\.io/metrics-server v([\d.]+)")
READY_SECONDS_MAX = 60.0
_CALL_SECONDS_MAX = 60.0
_REST_SECONDS = 0.5


def version(sources: Path = SOURCES) -> str:
    """Without a `v`."""
    found = _VERSION.search((sources / "go.mod").read_text())
    assert found is not None, f"{sources}/go.mod names no metrics-server"
    return found.group(1)


def archive(report: Report, sources: Path = SOURCES) -> Path:
    """Its image, built first where it is missing.

    Raises:
        ClusterError: it is missing and can't be built.
    """

    def make(work: Path) -> None:
        report(f"building metrics-server {version(sources)}, once: about 5 minutes of one core")
        command = ["go", "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", f"{work}/", _PROGRAM]
        go(command, sources, "metrics-server", report)
        pack_program(work / "metrics-server", IMAGE, work / "metrics-server.tar")

    ready = cache_folder() / "metrics-server" / f"{version(sources)}-{digest_of(sources)}"
    return made_once(ready, f"metrics-server {version(sources)}", make, report) / "metrics-server.tar"


def install(place: Place, report: Report, seconds_max: float = READY_SECONDS_MAX) -> None:
    """Run it in a cluster that is up, and return when it has measured pods; a second time changes nothing.

    Raises:
        ClusterError: it can't be built, or does not answer in time.
    """
    pid = cluster.require_up(place)
    cluster.load(place, archive(report))
    with joined(pid):
        _kubectl(place, "apply", "--server-side", "--force-conflicts", "-f", str(MANIFEST))
        deadline = time.monotonic() + seconds_max
        while "items" not in _kubectl(place, "get", "--raw", "/apis/metrics.k8s.io/v1beta1/pods", check=False):
            if time.monotonic() > deadline:
                said = _kubectl(
                    place, "get", "apiservice", API_SERVICE, "-o", "jsonpath={.status.conditions[0].message}"
                )
                raise ClusterError(f"metrics-server does not answer after {seconds_max:.0f} s: {said}")
            time.sleep(_REST_SECONDS)


def _kubectl(place: Place, *words: str, check: bool = True) -> str:
    done = subprocess.run(
        ["kubectl", *words],
        env=os.environ | place.environment(cluster.programs_of(place)),
        capture_output=True,
        text=True,
        timeout=_CALL_SECONDS_MAX,
        check=False,
    )
    if check and done.returncode:
        raise ClusterError(f"kubectl {words[0]}: {done.stderr.strip() or 'no word of why'}")
    return done.stdout
