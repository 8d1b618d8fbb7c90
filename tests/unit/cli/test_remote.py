"""Commands about a stack in a cluster: how it is found, how it is reached, and what is said when it can't be."""

import base64
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from trade2026.cli import remote, target
from trade2026.cli.forwarding import Forwarding
from trade2026.kit.own_key import KEY_VARIABLE

pytest.importorskip("kubernetes")
SERVICES = "/api/v1/namespaces/trading/services"
PODS = "/api/v1/namespaces/trading/pods"
SECRET = "/api/v1/namespaces/trading/secrets/desk-keys"


class ApiServer:
    """Answers by path; what it does not know is forbidden."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                found = outer.answers.get(path)
                denied = {"message": f'User "ann" cannot list {path}', "code": 403, "reason": "Forbidden"}
                content = json.dumps(found or denied).encode()
                self.send_response(200 if found else 403)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def serves(self, *stacks: str, phase: str = "Running") -> None:
        """Stacks with an order service, in one pod each."""
        services, pods = [], []
        for stack in stacks:
            labels = {"trade2026.io/stack": stack, "app.kubernetes.io/component": "stack"}
            for name in ("oms", "risk"):
                meta = {"name": f"{stack}-{name}", "labels": {**labels, "trade2026.io/service": name}}
                spec = {"selector": labels, "clusterIP": "10.0.0.1", "ports": [{"port": 8099}]}
                services.append({"metadata": meta, "spec": spec})
            ready = {"type": "Ready", "status": "True"}
            status = {"phase": phase, "conditions": [ready] if phase == "Running" else []}
            container = {"name": "orders", "image": "trade2026:0.1.0"}
            meta = {"name": f"{stack}-0", "labels": labels}
            pods.append({"metadata": meta, "spec": {"containers": [container]}, "status": status})
            data = {"key": base64.b64encode(b"t26_own").decode()}
            self.answers[f"/api/v1/namespaces/trading/secrets/{stack}-keys"] = {"data": data}
        self.answers[SERVICES] = {"items": services}
        self.answers[PODS] = {"items": pods}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    made = ApiServer()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "ann", "namespace": "trading"}}],
        "clusters": [{"name": "lab", "cluster": {"server": made.url}}],
        "users": [{"name": "ann", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv(KEY_VARIABLE, "")
    remote.find_in_cluster.cache_clear()
    yield made
    target.mean(None)
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def forwarded(api: ApiServer, stack: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every forwarded port leads to the fake stack."""
    port = stack.state.running()["ports"]["oms"]
    monkeypatch.setattr(remote, "_stream", lambda core, place, service: socket.create_connection(("127.0.0.1", port)))
    api.serves("desk")
    return stack


def test_a_command_reaches_the_stack_with_its_own_key(forwarded: Any, cli: Any) -> None:
    forwarded.answers["POST /orders/cancel-all"] = (200, {"scope": "stack", "asked": 2})
    done = cli("--context", "lab", "order", "cancel", "--all")
    assert (done.code, done.out) == (0, "stack: asked to cancel 2 order(s)\n")
    assert forwarded.headers[-1]["Authorization"] == "Bearer t26_own"


def test_ones_own_key_is_shown_and_the_secret_is_not_needed(
    forwarded: Any, api: ApiServer, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "t26_ann")
    del api.answers[SECRET]
    forwarded.answers["POST /orders/cancel-all"] = (200, {"scope": "stack", "asked": 0})
    assert cli("-n", "trading", "--stack", "desk", "order", "cancel", "--all").code == 0
    assert forwarded.headers[-1]["Authorization"] == "Bearer t26_ann"


def test_while_a_connection_opens_the_api_server_answers_other_questions(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.serves("desk")
    opening, opened = threading.Event(), threading.Event()

    def open_slowly(*_: object) -> None:
        opening.set()
        opened.wait(30)
        raise OSError("enough")

    monkeypatch.setattr("kubernetes.stream.ws_client.create_websocket", open_slowly)
    monkeypatch.setattr(remote, "_FRESH_SECONDS", 0.0)
    found = remote.find_in_cluster(target.InCluster("lab", "trading", "desk"))
    with socket.create_connection((found.host, found.ports["oms"])):
        assert opening.wait(30)
        try:
            assert [pod.name for pod in found.place.pods()] == ["desk-0"]
        finally:
            opened.set()


def test_status_is_the_same_table(forwarded: Any, cli: Any) -> None:
    forwarded.answers |= {"GET /readyz": (200, {}), "GET /stats": (200, {"orders": 7}), "GET /health": (200, {})}
    forwarded.answers["GET /killed"] = (200, {"killed": []})
    done = cli("--context", "lab", "status", "--json")
    assert done.code == 0, done.err
    assert (done.json["stack"], done.json["version"], done.json["trading"]) == ("desk", "0.1.0", "allowed")
    (release,) = done.json["releases"]
    assert release["name"] == "stack" and release["services"][0]["stats"] == {"orders": 7}
    forwarded.answers["GET /readyz"] = (503, {"detail": "replayed 5 of 9 events"})
    done = cli("--context", "lab", "status")
    assert done.code == 1 and "oms: replayed 5 of 9 events" in done.out


@pytest.mark.parametrize(
    ("words", "prepare", "code", "said"),
    [
        (["--context", "moon"], lambda api: None, 2, "there is no context 'moon'; known: lab"),
        (["-n", "trading"], lambda api: None, 4, "you have no right to this in lab: User \"ann\" cannot list"),
        (["-n", "trading"], lambda api: api.serves(), 3, "no stack runs in namespace trading of lab"),
        (["--stack", "moon"], lambda api: api.serves("desk"), 3, "no stack moon runs in namespace trading of lab; there is desk"),
        (["-n", "trading"], lambda api: api.serves("a", "b"), 2, "say which one with --stack: a, b"),
        (["-n", "trading"], lambda api: api.serves("desk", phase="Pending"), 3, "does not run yet: pod desk-0 is pending"),
    ],
    ids=["context", "rights", "none", "another", "several", "not ready"],
)  # fmt: skip
def test_what_is_wrong_is_said(
    api: ApiServer, cli: Any, words: list[str], prepare: Callable[[ApiServer], None], code: int, said: str
) -> None:
    prepare(api)
    done = cli(*words, "order", "list")
    assert done.code == code and said in done.err, done.err


def test_an_api_server_that_does_not_answer_is_told(api: ApiServer, cli: Any) -> None:
    api.server.shutdown()
    api.server.server_close()
    done = cli("--context", "lab", "order", "list")
    assert done.code == 3 and "the API server of lab does not answer" in done.err


def test_without_the_right_to_the_key_it_is_said_what_to_do(forwarded: Any, api: ApiServer, cli: Any) -> None:
    del api.answers[SECRET]
    forwarded.answers["GET /orders?status=all&limit=50"] = (401, {"detail": "who are you?", "status": 401})
    forwarded.answers["POST /orders/cancel-all"] = (401, {"detail": "who are you?", "status": 401})
    done = cli("--context", "lab", "order", "cancel", "--all")
    assert done.code == 4 and "you may not read Secret desk-keys in trading" in done.err and KEY_VARIABLE in done.err


@pytest.mark.parametrize("words", [["up", "-f", "x"], ["down"], ["replay"]])
def test_what_is_about_this_machine_is_refused(cli: Any, words: list[str]) -> None:
    done = cli("--context", "lab", *words)
    assert done.code == 2 and "is about this machine" in done.err


def test_without_the_client_it_is_said_how_to_get_it(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.find_in_cluster.cache_clear()
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    done = cli("--context", "lab", "order", "list")
    target.mean(None)
    assert done.code == 2 and "pip install 'trade2026[cluster]'" in done.err


def test_the_command_line_imports_no_client_before_a_cluster_is_meant() -> None:
    code = "import sys, trade2026.cli.app; sys.exit('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(("words", "offered"), [(["sta"], "status"), (["order", "sub"], "submit")])
def test_kubectl_is_told_what_may_come_next(words: list[str], offered: str) -> None:
    code = f"import sys; sys.argv[1:] = {words!r}; from trade2026.cli.plugin import complete; complete()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines[0].split("\t")[0] == offered and lines[-1] == ":4"


def test_bytes_pass_both_ways_and_a_caller_is_hung_up_on_when_nobody_is_there() -> None:
    near, far = socket.socketpair()

    def connect(service: str) -> socket.socket:
        if service == "oms":
            return near
        raise ConnectionError("no pod")

    forwarding = Forwarding(connect)
    ports = forwarding.listen(["oms", "risk"])
    with socket.create_connection((forwarding.host, ports["oms"])) as caller:
        caller.sendall(b"order")
        assert far.recv(100) == b"order"
        far.sendall(b"taken")
        assert caller.recv(100) == b"taken"
        far.close()
        assert caller.recv(100) == b""
    with socket.create_connection((forwarding.host, ports["risk"])) as caller:
        assert caller.recv(100) == b""
    assert str(forwarding.fault) == "no pod"
