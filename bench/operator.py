"""`python -m bench.operator`: what the operator takes while it keeps many stacks in which nothing happens.

A real API server with its etcd, and nothing behind it: no pod runs, and this program says in place of the controllers
that all of them are ready. Every request of the operator is in the API server's audit log.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from e2e.api_server import ApiServer, running

from bench.stack import ROOT
from trade2026.local.cluster.binaries import programs
from trade2026_operator.kube import HttpKube, access_of
from trade2026_operator.reconcile.objects import API_VERSION, STACK_LABEL, Manifest, Ref, condition_of, ref_of

USER = "operator"
STACKS_PER_NAMESPACE = 50
WAIT_SECONDS_MAX = 900.0
_REST_SECONDS = 0.5
_AT_ONCE = 16
_TICK = os.sysconf("SC_CLK_TCK")
IDLE = re.compile(r"/leases/|watch=true")
"""Requests that an operator makes while nothing happens."""


@dataclass
class Figures:
    """What was measured.

    Attributes:
        released_seconds: From the first `kubectl apply` until each stack has its objects.
        mib: Resident memory of the operator, without what it shares with nobody here.
        look_ms: Mean of a look that finds nothing to do, and the share of them that took at most 20 ms.
        cpu_us_per_look: Of the whole process, watch and all, for such a look.
        idle: Requests while nothing happened, by verb and kind.
        again: Writes after everything was applied once more.
    """

    stacks: int
    released_seconds: float = 0.0
    mib: float = 0.0
    mib_max: float = 0.0
    idle_cores: float = 0.0
    idle_seconds: float = 0.0
    look_ms: float = 0.0
    looks_within_20_ms: float = 0.0
    cpu_us_per_look: float = 0.0
    idle: Counter[str] = field(default_factory=Counter[str])
    again: Counter[str] = field(default_factory=Counter[str])


class Operator:
    """One operator beside an API server, and what it costs."""

    def __init__(self, server: ApiServer, kubeconfig: Path, helm: Path, folder: Path) -> None:
        self.server, self._begin = server, 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = ["--kubeconfig", str(kubeconfig), "--helm", str(helm), "--metrics-port", str(self.port)]
        paths = os.pathsep.join([str(ROOT / "services"), str(ROOT / "operators")])
        with (folder / "operator.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trade2026_operator", *words],
                env=os.environ | {"PYTHONPATH": paths}, stdout=log, stderr=log,
            )  # fmt: skip

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def mib(self, name: str = "VmRSS") -> float:
        """Resident memory; `VmHWM` for the most there ever was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1]) / 1024  # type: ignore[index]

    def cpu_seconds(self) -> float:
        """Of the process alone: what renders charts is not of it."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / _TICK

    def metrics(self) -> dict[str, float]:
        """By name with labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and line[0] != "#")
        return {name: float(value) for name, _, value in pairs}

    def requests(self) -> Counter[str]:
        """Since they were asked for last, by verb and kind; without what is made while nothing happens."""
        assert self.server.audit is not None
        with self.server.audit.open() as file:
            file.seek(self._begin)
            lines = file.readlines()
            self._begin = file.tell()
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return Counter(
            f"{one['verb']} {one.get('objectRef', {}).get('resource', one['requestURI'])}"
            for one in found
            if not IDLE.search(one["requestURI"])
        )


def stacks(count: int) -> Iterator[Manifest]:
    """The quickstart, many times."""
    documents = list(yaml.safe_load_all((ROOT / "manifests" / "quickstart.yaml").read_text()))
    (spec,) = (each["spec"] for each in documents if each["kind"] == "TradingStack")
    for number in range(count):
        meta = {"name": f"desk-{number:03}", "namespace": f"many-{number // STACKS_PER_NAMESPACE}"}
        yield {"apiVersion": API_VERSION, "kind": "TradingStack", "metadata": meta, "spec": spec}


def apply(server: ApiServer, objects: list[Manifest]) -> None:
    """`kubectl apply`."""
    for begin in range(0, len(objects), 100):
        given = {"apiVersion": "v1", "kind": "List", "items": objects[begin : begin + 100]}
        succeeded, said = server.kubectl("apply", "--server-side", "-f", "-", given=given)
        assert succeeded, said


def wait_for(what: str, condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS_MAX:.0f} s: {what}"
        time.sleep(_REST_SECONDS)


class Controllers:
    """Say in place of the controllers what they would, and tell what is there."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    def count(self, api_version: str, kind: str) -> int:
        return len(asyncio.run(self._listed(api_version, kind, STACK_LABEL)))

    def ready_stacks(self) -> int:
        found = asyncio.run(self._listed(API_VERSION, "TradingStack"))
        conditions = (condition_of(stack, "Ready") for stack in found)
        return sum(condition is not None and condition["status"] == "True" for condition in conditions)

    def make_ready(self) -> None:
        """Every pod runs, every claim is bound."""
        asyncio.run(self._make_ready())

    def touch(self, mark: str) -> None:
        """Change of each stack what means nothing, so that it is looked at."""
        asyncio.run(self._touch(mark))

    async def _listed(self, api_version: str, kind: str, selector: str = "") -> list[Manifest]:
        kube = HttpKube(access_of(self._kubeconfig, {}))
        try:
            return await kube.listed(api_version, kind, "", selector)
        finally:
            await kube.close()

    async def _make_ready(self) -> None:
        ready = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "currentReplicas": 1}
        sets = await self._listed("apps/v1", "StatefulSet", STACK_LABEL)
        claims = await self._listed("v1", "PersistentVolumeClaim", STACK_LABEL)
        told = [(ref_of(one), {**ready, "observedGeneration": one["metadata"]["generation"]}) for one in sets]
        await self._merged([(ref, {"status": status}, "status") for ref, status in told])
        await self._merged([(ref_of(one), {"status": {"phase": "Bound"}}, "status") for one in claims])

    async def _touch(self, mark: str) -> None:
        found = await self._listed(API_VERSION, "TradingStack")
        patch = {"metadata": {"annotations": {"bench": mark}}}
        await self._merged([(ref_of(stack), patch, "") for stack in found])

    async def _merged(self, patches: list[tuple[Ref, Manifest, str]]) -> None:
        kube, gate = HttpKube(access_of(self._kubeconfig, {})), asyncio.Semaphore(_AT_ONCE)

        async def one(ref: Ref, patch: Manifest, subresource: str) -> None:
            async with gate:
                await kube.merge(ref, patch, subresource)

        try:
            await asyncio.gather(*(one(*each) for each in patches))
        finally:
            await kube.close()


@contextmanager
def api_server() -> Iterator[tuple[ApiServer, Path, Path]]:
    """One that knows our custom resources, where the programs are, and its folder."""
    found = programs(print)
    with (
        tempfile.TemporaryDirectory(prefix="trade2026-many-") as name,
        running(found, Path(name), audited=USER) as server,
    ):
        crds = ("-f", str(ROOT / "crds"))
        assert server.kubectl("apply", "--server-side", *crds)[0]
        assert server.kubectl("wait", "--for=condition=Established", "--timeout=60s", *crds)[0]
        yield server, found, Path(name)


def measure(count: int, idle_seconds: float, say: Callable[[str], None]) -> Figures:
    """Everything, of so many stacks."""
    figures = Figures(count, idle_seconds=idle_seconds)
    with api_server() as (server, found, folder):
        all_stacks = list(stacks(count))
        names = sorted({stack["metadata"]["namespace"] for stack in all_stacks})
        apply(server, [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names])
        operator = Operator(server, folder / f"{USER}.conf", found / "helm", folder)
        try:
            _measured(figures, operator, Controllers(server.kubeconfig), all_stacks, say)
        except BaseException as error:
            error.add_note((folder / "operator.log").read_text()[-4_000:])
            raise
        finally:
            operator.stop()
    return figures


def _measured(
    figures: Figures, operator: Operator, controllers: Controllers, all_stacks: list[Manifest], say: Callable[[str], None]
) -> None:  # fmt: skip
    count, began = len(all_stacks), time.monotonic()
    apply(operator.server, all_stacks)
    wait_for("each has its pods", lambda: controllers.count("apps/v1", "StatefulSet") == count)
    figures.released_seconds = time.monotonic() - began
    say(f"{count} stacks have their objects after {figures.released_seconds:.0f} s")
    controllers.make_ready()
    wait_for("all are ready", lambda: controllers.ready_stacks() == count)
    say(f"all are ready after {time.monotonic() - began:.0f} s")
    _settle(operator)
    cpu = operator.cpu_seconds()
    time.sleep(figures.idle_seconds)
    figures.idle_cores = (operator.cpu_seconds() - cpu) / figures.idle_seconds
    figures.idle = operator.requests()
    figures.mib, figures.mib_max = operator.mib(), operator.mib("VmHWM")
    apply(operator.server, all_stacks)
    _settle(operator, figures.again)
    before, cpu = operator.metrics(), operator.cpu_seconds()
    controllers.touch("looked at")
    _settle(operator, figures.again)
    after = operator.metrics()

    def more(name: str) -> float:
        return after[f"trade2026_operator_{name}"] - before[f"trade2026_operator_{name}"]

    looks = more("look_seconds_count")
    figures.look_ms = 1_000 * more("look_seconds_sum") / looks
    figures.looks_within_20_ms = more('look_seconds_bucket{le="0.02"}') / looks
    figures.cpu_us_per_look = 1e6 * (operator.cpu_seconds() - cpu) / looks


def _settle(operator: Operator, found: "Counter[str] | None" = None) -> None:
    """Until it has asked for nothing for three seconds."""
    quiet = 0
    while quiet < 6:
        time.sleep(_REST_SECONDS)
        requests = operator.requests()
        quiet = 0 if requests else quiet + 1
        if found is not None:
            found.update(requests)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.operator", description=__doc__)
    parser.add_argument("--stacks", type=int, default=500)
    parser.add_argument("--idle-seconds", type=float, default=30.0)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    found = measure(options.stacks, options.idle_seconds, lambda text: print(text, flush=True))
    for name, value in vars(found).items():
        print(f"  {name:20} {dict(value) if isinstance(value, Counter) else round(value, 4)}")
    if options.json:
        options.json.write_text(json.dumps(vars(found), indent=2) + "\n")


if __name__ == "__main__":
    main()
