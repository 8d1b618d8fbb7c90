"""What a cluster says of itself, asked as it is asked when it runs: by HTTPS with the admin's key, from its network."""

import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trade2026.local.cluster import certificates, health
from trade2026.local.cluster.place import Place

READY = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A cluster whose network is this machine's; nothing answers in it yet."""
    certificates.write(tmp_path / "pki", tmp_path)
    monkeypatch.setattr(health, "joined", lambda pid: contextlib.nullcontext())
    monkeypatch.setattr(health, "_PROBES", {})
    monkeypatch.setattr(health, "NODE_IP", "127.0.0.1")
    monkeypatch.setattr(health, "API_PORT", 1)
    return Place(tmp_path)


@contextlib.contextmanager
def answering(answers: dict[str, Any], pki: Path | None = None) -> Iterator[int]:
    """A server of documents by path, over TLS where there are keys for it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path)
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if pki is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
            context.load_verify_locations(pki / "ca.crt")
            context.verify_mode = ssl.CERT_REQUIRED
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def test_who_does_not_answer_is_waited_for_by_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering({"/ready": "ok"}) as port:
        monkeypatch.setattr(health, "_PROBES", {"kubelet": (1, "/healthz"), "coredns": (port, "/ready")})
        assert health.unready(place, 1) == ["kubelet", "the API server"]


def test_a_node_that_is_ready_is_not_enough_without_the_account_of_pods(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: dict[str, Any] = {"/api/v1/nodes/node-0": {"status": {}}}
    with answering(answers, place.state / "pki") as port:
        monkeypatch.setattr(health, "API_PORT", port)
        assert health.unready(place, 1) == ["the node", f"{ACCOUNT}: 404 Not Found"]
        answers["/api/v1/nodes/node-0"] = READY
        assert health.unready(place, 1) == [f"{ACCOUNT}: 404 Not Found"]
        answers[ACCOUNT] = {}
        assert health.unready(place, 1) == []


def test_nodes_and_pods_are_counted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"metadata": {"name": "node-0"}, **READY}
    answers = {
        "/version": {"gitVersion": "v1.37.2"},
        "/api/v1/nodes": {"items": [node]},
        "/api/v1/pods": {"items": [READY, {"status": {}}]},
    }
    with answering(answers, place.state / "pki") as port:
        monkeypatch.setattr(health, "API_PORT", port)
        assert health.inside(place, 1) == {
            "kubernetes": "1.37.2",
            "nodes": [{"name": "node-0", "ready": True}],
            "pods": {"all": 2, "ready": 1},
        }
