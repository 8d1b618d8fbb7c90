"""Talk to a runner: one JSON line asked, one answered, over its Unix socket."""

import json
import socket
from typing import Any

from trade2026.local.state import StateDir


class NotRunning(Exception):
    """No runner answers for this state directory."""


class Refused(Exception):
    """The runner would not; the message says why."""


def ask(state: StateDir, op: str, *, timeout_seconds: float = 10.0, **values: Any) -> dict[str, Any]:
    """Ask the runner of a state directory.

    Raises:
        NotRunning: there is none, or it does not answer in time.
        Refused: it answered that it can't.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_seconds)
            connection.connect(str(state.socket))
            connection.sendall(json.dumps({"op": op, **values}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer = json.loads(lines.readline())
    except (OSError, ValueError) as error:
        raise NotRunning(f"no stack runs in {state.path} ({error})") from error
    if not answer.pop("ok"):
        raise Refused(answer["error"])
    return answer
