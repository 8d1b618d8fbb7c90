"""The password of QuestDB: read with each connection, so that no request needs the file and a new one is found."""

import base64
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from trade2026.stores.timeseries.port import StoreUnavailable
from trade2026.stores.timeseries.questdb_http import QuestDbHttp, QuestDbSettings


class Door(BaseHTTPRequestHandler):
    """Lets in who knows the password, on a connection that stays."""

    protocol_version = "HTTP/1.1"
    password = "open sesame"

    def do_GET(self) -> None:
        expected = f"Basic {base64.b64encode(f'ann:{self.password}'.encode()).decode()}"
        known = self.headers["Authorization"] == expected
        answer = b'{"dataset": [[1]]}' if known else b"who are you?"
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_password_is_read_when_a_connection_is_made(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("open sesame\n")
    with contextlib.closing(QuestDbHttp(QuestDbSettings(url, username="ann", password_file=str(file)))) as http:
        assert http.rows("SELECT 1") == [[1]]
        file.unlink()
        assert http.rows("SELECT 1") == [[1]], "the connection is known already"
        file.write_text("shazam")
        monkeypatch.setattr(Door, "password", "shazam")
        with pytest.raises(StoreUnavailable, match="answers 401: who are you"):
            http.rows("SELECT 1")
        assert http.rows("SELECT 1") == [[1]], "the next connection knows the new one"
