"""A process that answers like a release: ready at once, unless its settings tell it to fail. Standard library only."""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """`/readyz` and `/stats`."""

    def do_GET(self) -> None:
        """Answer a probe."""
        body = json.dumps({"orders": 3, "p50_ms": 1.5, "pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


settings = json.loads(Path(sys.argv[1]).read_text())
if settings["config"].get("archive", {}).get("retention_days") == 13:
    print("can't start: told to fail", flush=True)
    raise SystemExit(7)
for service in settings["services"]:
    server = ThreadingHTTPServer((settings["host"], settings["ports"][service]), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("serving", flush=True)
assert os.environ["TRADE2026_PARENT_PIPE"] == "1"
sys.stdin.buffer.read()
