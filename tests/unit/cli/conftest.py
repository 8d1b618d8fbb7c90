"""A stack that answers from a table, and the command line called in this process."""

import functools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer.main

from trade2026.cli import main
from trade2026.local.state import StateDir
from trade2026.stack.facts import SERVICES


@dataclass
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Result]
_built = functools.cache(typer.main.get_command)
"""A process builds the tree of all commands once, as it does for a user; built for each call it took most of the time."""


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the command line in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRADE2026_STATE_DIR", raising=False)
    monkeypatch.setattr(typer.main, "get_command", _built)

    def call(*arguments: str) -> Result:
        code = 0
        try:
            main(list(arguments))
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        printed = capsys.readouterr()
        return Result(code, printed.out, printed.err)

    return call


@dataclass
class FakeStack:
    """Answers by `METHOD path`, a list one after the other and then its last; keeps what it was asked."""

    state: StateDir
    answers: dict[str, tuple[int, Any] | list[tuple[int, Any]]] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[FakeStack]:
    """A stack under the working directory whose services all listen on one port, except risk, which is down."""
    state = StateDir(tmp_path / ".trade2026" / "desk")
    fake = FakeStack(state)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            body = json.loads(self.rfile.read(length)) if length else None
            key = f"{self.command} {self.path}"
            fake.asked.append((key, body))
            fake.headers.append(dict(self.headers))
            found = fake.answers.get(key, (404, {"detail": f"no {key}", "status": 404, "code": "not_found"}))
            if isinstance(found, list):
                found = found.pop(0) if len(found) > 1 else found[0]
            status, answer = found
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.open()
    closed = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=True)
    ports = dict.fromkeys(SERVICES, server.server_address[1]) | {"risk": closed.server_address[1]}
    closed.server_close()
    state.write_running({"stack": "desk", "host": "127.0.0.1", "ports": ports})
    yield fake
    state.unlock()
    server.shutdown()
    server.server_close()
