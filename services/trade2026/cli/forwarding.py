"""Ports of this machine that lead into a cluster: what connects to one of them speaks with a pod.

The API server's other way, its proxy of Services, was weighed: it keeps the `Authorization` header for itself, and so no
key of a stack would arrive. A forwarded port carries bytes, WebSockets too, and asks for the same right as
`kubectl port-forward`.
"""

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Protocol

_CHUNK_BYTES = 65_536
_HOST = "127.0.0.1"


class Stream(Protocol):
    """A connection into a pod, as the client of Kubernetes has it: a socket by all but its type."""

    def fileno(self) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...


class Forwarding:
    """Listens as long as this process lives.

    Args:
        connect: Opens a connection to a service; what it raises is kept in `fault`, and the caller is hung up on.
    """

    host = _HOST

    def __init__(self, connect: Callable[[str], Stream]) -> None:
        self.fault: Exception | None = None
        """Why the last connection could not be opened."""
        self._connect = connect
        self._selector = selectors.DefaultSelector()

    def listen(self, services: list[str]) -> dict[str, int]:
        """Return the port of each service, on loopback."""
        ports: dict[str, int] = {}
        for service in services:
            listener = socket.create_server((_HOST, 0))
            self._selector.register(listener, selectors.EVENT_READ, service)
            ports[service] = listener.getsockname()[1]
        threading.Thread(target=self._accept, name="forwarded ports", daemon=True).start()
        return ports

    def _accept(self) -> None:
        while True:
            for key, _ in self._selector.select():
                assert isinstance(key.fileobj, socket.socket)
                caller, _ = key.fileobj.accept()
                threading.Thread(target=self._serve, args=(caller, key.data), daemon=True).start()

    def _serve(self, caller: socket.socket, service: str) -> None:
        with caller:
            try:
                stream = self._connect(service)
            except Exception as error:  # whatever it is: who asked is to read it, and no thread may end with it
                self.fault = error
                return
            with contextlib.closing(stream):
                _pass_on(caller, stream)


def _pass_on(caller: socket.socket, stream: Stream) -> None:
    """Both ways, until one side ends."""
    with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
        selector.register(caller, selectors.EVENT_READ, (caller, stream))
        selector.register(stream, selectors.EVENT_READ, (stream, caller))
        while True:
            for key, _ in selector.select():
                source, sink = key.data
                data = source.recv(_CHUNK_BYTES)
                if not data:
                    return
                sink.sendall(data)
