"""QuestDB over HTTP: lines to `/write`, statements to `/exec`, on one connection that is made when it is needed."""

import base64
import contextlib
import http.client
import os
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from trade2026.stores.timeseries.port import StoreUnavailable

PASSWORD_VARIABLE = "TRADE2026_QUESTDB_PASSWORD"
SECONDS_MAX = 30.0
"""For an answer to what we ask ourselves."""
_PIECE_BYTES = 256 * 1024


class QuestDbSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of `spec.stores.timeseries`."""

    url: str
    type: str = "questdb"
    username: str = ""
    password_file: str = ""

    def headers(self) -> dict[str, str]:
        """Who we are, where that is asked. Raises `StoreUnavailable`: the password can't be read."""
        if not self.username:
            return {}
        try:
            password = Path(self.password_file).read_text("utf-8").strip() if self.password_file else ""
        except OSError as error:
            raise StoreUnavailable(f"the password of QuestDB can't be read: {error}") from error
        pair = f"{self.username}:{password or os.environ.get(PASSWORD_VARIABLE, '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


class Refused(Exception):
    """QuestDB understood, and says no (400). `answer` is what it says."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(str(answer.get("error") or answer.get("message") or answer))
        self.answer = answer


class AnswerTooLarge(Exception):
    """An answer has more bytes than were allowed."""


class QuestDbHttp:
    """One connection. For one thread at a time, but for `abort`."""

    def __init__(self, settings: QuestDbSettings) -> None:
        self.settings = settings
        self._where = urlsplit(settings.url)
        self._connection: http.client.HTTPConnection | None = None
        self._headers: dict[str, str] = {}
        """Of the connection: a password is read when it is made."""
        self._aborted = False

    def write(self, lines: bytes) -> None:
        """Write lines, all of them or none.

        Raises:
            Refused: one of them can't be; `line` in the answer is which, from 1.
            StoreUnavailable: it is not known whether they are.
        """
        self._request("POST", "/write?precision=u", lines, SECONDS_MAX)

    def execute(self, sql: str, *, seconds_max: float | None = None, bytes_max: int = 0, **parameters: str) -> Any:
        """The answer to a statement, as QuestDB's JSON, within `SECONDS_MAX` if nothing is said.

        Raises:
            Refused, AnswerTooLarge, StoreUnavailable
            TimeoutError: it took longer; QuestDB ends a query whose connection is gone.
        """
        target = f"/exec?{urlencode({'query': sql, **parameters})}"
        seconds = SECONDS_MAX if seconds_max is None else seconds_max
        return msgspec.json.decode(self._request("GET", target, None, seconds, bytes_max))

    def rows(self, sql: str) -> list[list[Any]]:
        """The rows of a query of ours. Raises `StoreUnavailable`."""
        try:
            return self.execute(sql).get("dataset", [])
        except (Refused, TimeoutError) as error:
            raise StoreUnavailable(f"QuestDB at {self.settings.url}: {error or 'no answer in time'}") from error

    def abort(self) -> None:
        """End what is under way, from another thread, and ask nothing more."""
        self._aborted = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(2)
        self.close()

    def close(self) -> None:
        """Let the connection go. Idempotent."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _request(self, method: str, target: str, body: bytes | None, seconds: float, bytes_max: int = 0) -> bytes:
        reused = self._connection is not None
        try:
            try:
                status, answer = self._exchange(method, target, body, seconds, bytes_max)
            except (ConnectionError, http.client.BadStatusLine):
                self.close()
                if not reused:
                    raise
                status, answer = self._exchange(method, target, body, seconds, bytes_max)
        except BaseException as error:
            self.close()
            if self._aborted and isinstance(error, Exception):
                raise StoreUnavailable(f"the connection to QuestDB at {self.settings.url} was ended here") from error
            if isinstance(error, TimeoutError) and body is None:
                raise
            if isinstance(error, OSError | http.client.HTTPException):
                said = str(error) or type(error).__name__
                raise StoreUnavailable(f"QuestDB at {self.settings.url} can't be reached: {said}") from error
            raise
        if status in (200, 204):
            return answer
        if status == 400:
            with contextlib.suppress(msgspec.DecodeError):
                raise Refused(msgspec.json.decode(answer, type=dict[str, Any]))
        self.close()  # the next one knows a password that was changed
        said = answer[:200].decode(errors="replace").strip()
        raise StoreUnavailable(f"QuestDB at {self.settings.url} answers {status}: {said}")

    def _exchange(
        self, method: str, target: str, body: bytes | None, seconds: float, bytes_max: int
    ) -> tuple[int, bytes]:
        deadline = time.monotonic() + seconds
        connection = self._connected(seconds)
        connection.request(method, target, body, self._headers)
        socket = connection.sock
        response = connection.getresponse()
        pieces: list[bytes] = []
        size = 0
        while piece := response.read1(_PIECE_BYTES):
            pieces.append(piece)
            size += len(piece)
            if bytes_max and size > bytes_max:
                raise AnswerTooLarge
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            socket.settimeout(left)
        response.read()  # at its end already; the connection notices only now
        return response.status, b"".join(pieces)

    def _connected(self, seconds: float) -> http.client.HTTPConnection:
        if self._aborted:
            raise ConnectionError
        if self._connection is None:
            self._headers = self.settings.headers()
            host, port = self._where.hostname or "", self._where.port
            if self._where.scheme == "https":
                context = ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=seconds)
            self._connection.connect()
        self._connection.sock.settimeout(seconds)
        return self._connection
