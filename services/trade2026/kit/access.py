"""Who may come in: the key and its role, or, in an open service, only this machine's own programs and pages.

Without keys, a web page that the user has open elsewhere must not be able to trade. Its requests come from
this machine too, so Host (DNS rebinding) and Origin (cross-site requests) have to be loopback.
"""

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from trade2026.kit.identity import ROLES, Keyring, Principal, is_loopback
from trade2026.kit.problem import Problem

ANONYMOUS = Principal("anonymous", "viewer", frozenset())
"""Somebody without a key, at an endpoint that everyone may see."""

_RANK = {role: rank for rank, role in enumerate(ROLES)}
_GOOD_HOSTS_MAX = 64

Headers = Mapping[bytes, bytes]


class Witness(Protocol):
    """Is told of the keys that are shown."""

    def used(self, principal: Principal) -> None: ...
    def refused(self) -> None: ...


class Access:
    """Decides about every request and WebSocket of a process."""

    def __init__(self, keyring: Keyring, witness: Witness | None = None) -> None:
        self._keyring, self._witness = keyring, witness
        self._good_hosts: set[bytes] = set()

    @property
    def open(self) -> bool:
        """Whether nobody needs a key."""
        return self._keyring.open

    def admit(self, headers: Headers, role: str | None) -> Principal:
        """Return who asks.

        Args:
            headers: Names in lower case.
            role: The least that is needed; None lets everyone in who is no foreign web page.

        Raises:
            Problem: 401 `missing_key` or `wrong_key`; 403 `foreign_host`, `foreign_origin` or `role_needed`.
        """
        if self._keyring.open:
            self._check_place(headers)
        if role is None:
            return ANONYMOUS
        header = headers.get(b"authorization", b"").decode("latin-1")
        principal = self._keyring.principal_of(header)
        if principal is None:
            if not header:
                raise Problem(401, "missing_key", "send the header: Authorization: Bearer KEY")
            if self._witness is not None:
                self._witness.refused()
            raise Problem(401, "wrong_key", "this is no key that is known here; send: Authorization: Bearer KEY")
        if self._witness is not None and not self._keyring.open:
            self._witness.used(principal)
        if _RANK.get(principal.role, -1) < _RANK[role]:
            raise Problem(403, "role_needed", f"this needs the role {role}; {principal.name} is {principal.role}")
        return principal

    def _check_place(self, headers: Headers) -> None:
        host = headers.get(b"host", b"")
        if host not in self._good_hosts:
            if not _is_local_host(host.decode("latin-1")):
                raise Problem(
                    403, "foreign_host", "without keys, Host must be localhost, 127.0.0.1 or [::1]; set keysFile"
                )
            if len(self._good_hosts) < _GOOD_HOSTS_MAX:
                self._good_hosts.add(host)
        origin = headers.get(b"origin")
        if origin is not None and not _is_local_origin(origin.decode("latin-1")):
            raise Problem(
                403, "foreign_origin", "without keys, web pages of other sites may not call this service; set keysFile"
            )


def _is_local_host(host: str) -> bool:
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
        return parts.netloc == host and "@" not in host and is_loopback(host)
    except ValueError:
        return False


def _is_local_origin(origin: str) -> bool:
    scheme, separator, host = origin.partition("://")
    return bool(separator) and scheme in ("http", "https") and _is_local_host(host)
