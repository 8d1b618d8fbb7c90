"""A cluster as the tests here see it: `kubectl`, the platform's image, and, where it is ours, its components."""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trade2026.local.cluster import cluster as local
from trade2026.local.cluster.place import Place

WAIT_SECONDS = 120.0
"""Only a test that fails waits so long."""
_CALL_SECONDS_MAX = 180.0
_REST_SECONDS = 0.2


@dataclass(frozen=True)
class Cluster:
    """Attributes:
    image: Name of the platform's image, which is in the cluster.
    place: Where it keeps its state, if it was started by these tests.
    """

    kubeconfig: Path
    image: str
    place: Place | None = None

    def kubectl(self, *words: str, given: Any = None, check: bool = True) -> str:
        """What `kubectl` prints.

        Args:
            given: A document, or a list of them, for its standard input.
        """
        return self.call("kubectl", *words, given=given, check=check)

    def helm(self, *words: str, check: bool = True) -> str:
        """What `helm` prints."""
        return self.call("helm", *words, check=check)

    def call(self, *words: str, given: Any = None, check: bool = True) -> str:
        """What a program prints that finds the cluster by its environment; standard error is part of it if it failed."""
        done = subprocess.run(
            words,
            input=None if given is None else json.dumps(_one_document(given)),
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=_CALL_SECONDS_MAX,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout if not done.returncode else done.stdout + done.stderr

    def environment(self) -> dict[str, str]:
        """Of programs that are to find the cluster."""
        found = {"KUBECONFIG": str(self.kubeconfig)}
        return os.environ | (found if self.place is None else self.place.environment(local.programs_of(self.place)))

    def get(self, *words: str) -> dict[str, Any]:
        """One thing, or a list, as the API server has it."""
        return json.loads(self.kubectl("get", *words, "--output=json"))

    def kill(self, *components: str) -> None:
        """End components of a cluster of ours with SIGKILL."""
        assert self.place is not None, "only a cluster that these tests have started may be harmed"
        local.kill(self.place, components)

    def make_namespace(self, **labels: str) -> str:
        """A namespace of one test, in which only pods with restricted rights are let in."""
        name = f"t-{uuid.uuid4().hex[:8]}"
        enforced = {"pod-security.kubernetes.io/enforce": "restricted", **labels}
        metadata = {"name": name, "labels": enforced}
        self.kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        return name

    def remove_namespace(self, name: str) -> None:
        """With all that is in it, some time from now."""
        self.kubectl("delete", "namespace", name, "--wait=false")


def _one_document(given: Any) -> Any:
    return given if isinstance(given, dict) else {"apiVersion": "v1", "kind": "List", "items": given}


def wait_for(
    what: str, condition: Callable[[], Any], seconds_max: float = WAIT_SECONDS, rest_seconds: float = _REST_SECONDS
) -> Any:
    """What a condition returns, as soon as that is anything; it is asked again after a rest."""
    deadline = time.monotonic() + seconds_max
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds_max:.0f} s: {what}")
        time.sleep(rest_seconds)
    return found
