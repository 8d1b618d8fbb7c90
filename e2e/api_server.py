"""A real API server and its etcd, and nothing else: what a custom resource definition takes and refuses needs no node.

It listens on loopback, so it needs no rights; it is up in two seconds, and ends with the test run.
"""

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trade2026.local.cluster.binaries import programs
from trade2026.local.cluster.place import ClusterError

_UP_SECONDS_MAX = 120.0
_CALL_SECONDS_MAX = 120.0
_REST_SECONDS = 0.1


@dataclass(frozen=True)
class ApiServer:
    """Attributes:
    kubectl_program: How kubectl is called.
    audit: Every request that was answered, a line of JSON each, if that was asked for.
    """

    kubectl_program: tuple[str, ...]
    kubeconfig: Path
    audit: Path | None = None

    def kubectl(self, *words: str, given: Any = None) -> tuple[bool, str]:
        """Whether `kubectl` succeeded, and all that it printed; `given` is a document for its standard input."""
        done = subprocess.run(
            [*self.kubectl_program, "--kubeconfig", str(self.kubeconfig), *words],
            input=None if given is None else json.dumps(given),
            capture_output=True,
            text=True,
            timeout=_CALL_SECONDS_MAX,
            check=False,
        )
        return not done.returncode, done.stdout + done.stderr


def programs_or_skip() -> Path:
    """The folder with its programs; without them a test is skipped, but never in CI."""
    try:
        return programs(print)
    except ClusterError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"without an API server: {error}")


@contextmanager
def running(programs: Path, folder: Path, *, audited: str = "") -> Iterator[ApiServer]:
    """An API server that has its state in a folder.

    Args:
        audited: Name of a user who gets a kubeconfig, `NAME.conf`, and whose requests are noted in `audit.log`.
    """
    hyperkube = str(programs / "hyperkube")
    client, peer, port = _free_ports(3)
    etcd = f"http://127.0.0.1:{client}"
    token, other = secrets.token_hex(16), secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n{other},{audited or 'nobody'},other\n")
    auditing = _auditing(folder, audited) if audited else ()
    if audited:
        _kubeconfig(folder / f"{audited}.conf", port, other)
    key = folder / "service-accounts.pem"
    key.write_bytes(_new_key())
    server = ApiServer(
        (hyperkube, "kubectl", f"--cache-dir={folder / 'cache'}"),
        _kubeconfig(folder / "admin.conf", port, token),
        folder / "audit.log" if audited else None,
    )
    with ExitStack() as started:
        started.enter_context(
            _started(
                folder / "etcd.log",
                *(hyperkube, "etcd", "--name=a", f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync"),
                *(f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}", "--log-level=warn"),
                *(f"--listen-peer-urls=http://127.0.0.1:{peer}", f"--initial-cluster=a=http://127.0.0.1:{peer}"),
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            )
        )
        started.enter_context(
            _started(
                folder / "api-server.log",
                *(hyperkube, "kube-apiserver", f"--etcd-servers={etcd}", f"--secure-port={port}"),
                *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--cert-dir={folder / 'certificates'}"),
                *("--authorization-mode=AlwaysAllow", f"--token-auth-file={folder / 'tokens.csv'}"),
                *("--service-cluster-ip-range=10.99.0.0/16", "--endpoint-reconciler-type=none"),
                *("--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}"),
                *(f"--service-account-signing-key-file={key}", "--disable-admission-plugins=ServiceAccount"),
                *auditing,
            )
        )
        _wait_until_ready(server, folder / "api-server.log")
        yield server


def _auditing(folder: Path, user: str) -> tuple[str, ...]:
    policy = folder / "audit.json"
    rules = [{"level": "Metadata", "users": [user]}, {"level": "None"}]
    stages = ["RequestReceived"]
    said = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules, "omitStages": stages}
    policy.write_text(json.dumps(said))
    return f"--audit-policy-file={policy}", f"--audit-log-path={folder / 'audit.log'}", "--audit-log-mode=blocking"


@contextmanager
def _started(log: Path, *command: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(server: ApiServer, log: Path) -> None:
    deadline = time.monotonic() + _UP_SECONDS_MAX
    while not server.kubectl("get", "namespace", "default")[0] or not server.kubectl("get", "--raw=/readyz")[0]:
        assert time.monotonic() < deadline, f"no API server within {_UP_SECONDS_MAX:.0f} s:\n{log.read_text()[-4000:]}"
        time.sleep(_REST_SECONDS)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _new_key() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _kubeconfig(path: Path, port: int, token: str) -> Path:
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "default",
        "clusters": [{"name": "default", "cluster": cluster}],
        "users": [{"name": "default", "user": {"token": token}}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document))
    return path
