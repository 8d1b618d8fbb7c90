"""From a chart and values to objects. The same input gives the same objects, so what was rendered once is kept."""

import hashlib
import json
import os
import subprocess
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trade2026_operator.helm.charts import Chart
from trade2026_operator.helm.manifests import Manifest, parse

SECONDS_MAX = 30.0
_REFUSED = 1
"""Exit code of Helm for what it can't render; one that was killed, or has panicked, has another."""
_KEPT_MAX = 32
"""About 200 KiB each. It is for a stack of which one release of many has changed: what is wanted of each is kept packed."""


class RenderError(Exception):
    """A chart can't be rendered with these values; the message is Helm's."""


class RenderFailed(Exception):
    """Nothing was rendered, whatever the values are: it is to be tried again."""


class HelmMissing(RenderFailed):
    """There is no `helm` to render with."""


@dataclass(frozen=True)
class Capabilities:
    """Of the API server: what charts may ask about."""

    kube_version: str = "1.37.0"
    """Without a `v`."""
    api_versions: tuple[str, ...] = ()
    """Beyond those of Kubernetes itself, such as `monitoring.coreos.com/v1/ServiceMonitor`."""


@dataclass(frozen=True)
class Rendered:
    """What a release is made of."""

    text: str
    """As Helm writes it, for the release's record."""
    objects: list[Manifest]
    """The same, in the order in which Helm installs kinds. Not to be changed: it is shared."""


class Renderer(Protocol):
    """Whatever turns charts into objects."""

    def render(
        self, chart: Chart, name: str, namespace: str, values: dict[str, Any], capabilities: Capabilities
    ) -> Rendered:
        """Render a release.

        Raises:
            RenderError: the values don't fit the chart's schema, or a template fails.
            RenderFailed: it can't be said yet, e.g. because the machine is busy.
        """
        ...


class HelmCli:
    """`helm template`: 60 ms a call, and 55 MB while it runs, so that one runs at a time.

    Args:
        program: Path of Helm 4.
    """

    def __init__(self, program: Path) -> None:
        self.program = program
        self._alone = threading.Lock()

    def render(
        self, chart: Chart, name: str, namespace: str, values: dict[str, Any], capabilities: Capabilities
    ) -> Rendered:
        """See `Renderer.render`."""
        command = [str(self.program), "template", name, str(chart.place), "--namespace", namespace]
        command += ["--skip-tests", "--kube-version", capabilities.kube_version, "--values", "-"]
        for version in capabilities.api_versions:
            command += ["--api-versions", version]
        with self._alone:
            text = self._run(command, json.dumps(values))
        return Rendered(text, parse(text))

    def _run(self, command: list[str], given: str) -> str:
        # No cluster is asked: a kubeconfig that hangs must not hold up what needs none.
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
        try:
            done = subprocess.run(
                command, input=given, capture_output=True, text=True, timeout=SECONDS_MAX, env=surroundings, check=False
            )
        except FileNotFoundError as error:
            raise HelmMissing(f"{self.program} is missing: install Helm 4, or name it") from error
        except subprocess.TimeoutExpired as error:
            raise RenderFailed(f"helm has not rendered {command[2]} within {SECONDS_MAX:.0f} s") from error
        if done.returncode == _REFUSED:
            raise RenderError(done.stderr.strip().removeprefix("Error: ") or f"helm has not rendered {command[2]}")
        if done.returncode:  # it was killed, or is broken
            last = done.stderr.strip().rpartition("\n")[2]
            raise RenderFailed(f"helm ended with {done.returncode}{': ' if last else ''}{last}")
        return done.stdout


class Remembering:
    """Renders what it has not rendered yet.

    Args:
        renderer: Does the work.
        kept_max: So many results are kept, those that were used last.
    """

    def __init__(self, renderer: Renderer, kept_max: int = _KEPT_MAX) -> None:
        self._renderer, self._kept_max = renderer, kept_max
        self._kept: OrderedDict[str, Rendered] = OrderedDict()
        self._lock = threading.Lock()

    def render(
        self, chart: Chart, name: str, namespace: str, values: dict[str, Any], capabilities: Capabilities
    ) -> Rendered:
        """See `Renderer.render`; what failed is tried again."""
        key = content_hash(chart, name, namespace, values, capabilities)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = self._renderer.render(chart, name, namespace, values, capabilities)
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        return found


def content_hash(chart: Chart, name: str, namespace: str, values: dict[str, Any], capabilities: Capabilities) -> str:
    """SHA-256 of all that a rendering depends on."""
    about = [chart.digest, name, namespace, values, capabilities.kube_version, list(capabilities.api_versions)]
    return hashlib.sha256(json.dumps(about, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
