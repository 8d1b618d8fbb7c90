"""Which stack a command is about, and how its services are reached."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trade2026.cli.output import REFUSED, UNREACHABLE, USAGE, CliError
from trade2026.domain.replicas import instances
from trade2026.local.state import StateDir
from trade2026.stack.facts import SERVICES, ports_of

if TYPE_CHECKING:
    from http.client import HTTPResponse

STATE_ROOT = Path(".trade2026")


@dataclass(frozen=True)
class InCluster:
    """A stack in a cluster; what is empty is the kubeconfig's to say, or the only one there is."""

    context: str = ""
    namespace: str = ""
    stack: str = ""


_in_cluster: InCluster | None = None


def mean(stack: InCluster | None) -> None:
    """From now on a stack in a cluster is meant, or one of this machine."""
    global _in_cluster
    _in_cluster = stack


_TIMEOUT_SECONDS = 15.0


def path_to(*names: str) -> str:
    """The path of a name under others; each may be any text: `#`, `/` and `%` are part of an account's name.

    Raises:
        CliError: a name is empty.
    """
    from urllib.parse import quote

    if not all(names):
        raise CliError(f"the name is empty: say which of the {names[0]}", USAGE)
    return "".join(f"/{quote(name, safe='', errors='surrogateescape')}" for name in names)


@dataclass(frozen=True)
class Target:
    """A stack: its state directory if it runs here, and the ports of its services."""

    name: str
    state: StateDir | None
    host: str
    ports: dict[str, int]

    def call(
        self,
        service: str,
        method: str,
        path: str,
        body: Any = None,
        query: dict[str, Any] | None = None,
        *,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> Any:
        """Ask a service and return its JSON.

        Args:
            path: Of a name that somebody gave, it is made by `path_to`.

        Raises:
            CliError: nobody answers, or the answer is a problem.
        """
        import http.client
        import json
        import urllib.parse

        from trade2026.kit.own_key import own_authorization

        filled = {name: str(value) for name, value in (query or {}).items() if value is not None}
        address = path + (f"?{urllib.parse.urlencode(filled, errors='surrogateescape')}" if filled else "")
        headers = {"Accept": "application/json"}
        if authorization := own_authorization():
            headers["Authorization"] = authorization
        payload = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload = json.dumps(body)
        *others, last = instances(service, self.ports)
        for name in (*others, last):
            connection = http.client.HTTPConnection(self.host, self.ports[name], timeout=timeout_seconds)
            try:
                connection.request(method, address, payload, headers)
                response = connection.getresponse()
                return _answer(service, response, response.read())
            except (OSError, http.client.HTTPException) as error:
                # Another replica answers for it; what may have been done by one that hangs is not asked for again.
                if name == last or not (method == "GET" or isinstance(error, ConnectionRefusedError)):
                    raise CliError(self._unreachable(name, error), UNREACHABLE) from error
            finally:
                connection.close()
        raise AssertionError("unreachable")

    def _unreachable(self, service: str, error: Exception) -> str:
        where = f"{service} of {self.name} at {self.host}:{self.ports[service]}"
        if isinstance(error, ConnectionRefusedError):
            if self.state is not None and self.state.is_locked:
                return f"{where} is not listening; see `trade2026 status` and {self.state.logs}"
            return f"{where} is not listening: the stack is not up; start it with `trade2026 up -f MANIFEST`"
        return f"{where} does not answer: {error}"


def _answer(service: str, response: "HTTPResponse", content: bytes) -> Any:
    import json

    from trade2026.kit.own_key import KEY_VARIABLE, own_key

    try:
        body = json.loads(content) if content else None
    except ValueError:
        body = content.decode("utf-8", "replace")
    if response.status < 400:
        return body
    if not isinstance(body, dict):
        raise CliError(f"{service} answered {response.status} {response.reason}: {str(body)[:300]}", REFUSED)
    message = str(body.get("detail") or body.get("title") or response.reason)
    if code := body.get("reject_code") or body.get("code"):
        message = f"{message} [{code}]"
    if retry := response.headers.get("Retry-After"):
        message = f"{message}; try again in {retry} s"
    if response.status in (401, 403) and not own_key():
        message = f"{message}; put your key into the environment variable {KEY_VARIABLE}"
    raise CliError(message, REFUSED, body)


def find(state_dir: Path | None, file: Path | None = None) -> Target:
    """The stack that is meant: by directory, by manifest, or the one under the working directory.

    Raises:
        CliError: it can't be told which.
    """
    if _in_cluster is not None:
        from trade2026.cli.remote import find_in_cluster

        return find_in_cluster(_in_cluster)
    if state_dir is None and file is not None:
        from trade2026.cli.manifests import read

        state_dir = STATE_ROOT / read(file).metadata.name
    if state_dir is not None:
        if not (state_dir / "VERSION").exists():
            raise CliError(f"{state_dir} is no state directory: no stack was ever up there", USAGE)
        return _of(StateDir(state_dir))
    # What a restore has put aside lies there, too: it is meant only when it is named.
    kept = [path.parent for path in sorted(STATE_ROOT.glob("*/VERSION")) if ".before-" not in path.parent.name]
    found = [StateDir(path) for path in kept]
    running = [state for state in found if state.is_locked]
    candidates = running or found
    if len(candidates) > 1:
        names = ", ".join(str(STATE_ROOT / state.path.name) for state in candidates)
        raise CliError(f"several stacks are here: say which one with --state-dir: {names}", USAGE)
    if candidates:
        return _of(candidates[0])
    return Target("the stack", None, "127.0.0.1", _ports())


def find_state(state_dir: Path | None, file: Path | None = None) -> StateDir:
    """As `find`, where the state directory itself is needed."""
    if _in_cluster is not None:
        raise CliError(
            "this needs the files of a stack, and those of one in a cluster are there: see `kubectl get ts,strat`",
            USAGE,
        )
    state = find(state_dir, file).state
    if state is None:
        raise CliError(
            f"no stack has been up under {STATE_ROOT.absolute()}: go where it was started, or give --state-dir", USAGE
        )
    return state


def _ports() -> dict[str, int]:
    """Where everything listens by default."""
    return {name: port for service in SERVICES for name, port in ports_of(service).items()}


def _of(state: StateDir) -> Target:
    record = state.running()
    ports = _ports() | record.get("ports", {})
    return Target(record.get("stack", state.path.name), state, record.get("host", "127.0.0.1"), ports)
