"""Who is asking: bearer keys with a role and accounts; open only where nobody else can knock.

Keys are kept as SHA-256 hashes in a file: `{"keys": [{"principal", "role", "accounts", "sha256"}]}`.
"""

import hashlib
import hmac
import re
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

ROLES = ("viewer", "trader", "risk", "admin")
"""Each may do what those before it may."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class ConfigurationError(Exception):
    """A process was told to run in a way that is not safe; the message says what to change."""


class Principal(msgspec.Struct, frozen=True):
    """Somebody. `accounts` is None for all."""

    name: str
    role: str
    accounts: frozenset[str] | None = None

    def may(self, role: str) -> bool:
        """Whether this role includes another."""
        return ROLES.index(self.role) >= ROLES.index(role)


class KeyEntry(msgspec.Struct, frozen=True):
    """One line of the keys file."""

    principal: str
    role: str
    sha256: str
    accounts: list[str] | None = None


class _KeysFile(msgspec.Struct):
    keys: list[KeyEntry]


LOCAL = Principal("local", "admin")


def new_key(principal: str, role: str, accounts: list[str] | None = None) -> tuple[str, KeyEntry]:
    """Make a key: the clear text to hand over once, and the entry to keep."""
    if role not in ROLES:
        raise ConfigurationError(f"role is one of {', '.join(ROLES)}, not {role!r}")
    clear = f"t26_{secrets.token_urlsafe(32)}"
    return clear, KeyEntry(principal, role, hashlib.sha256(clear.encode()).hexdigest(), accounts)


def is_loopback(host: str) -> bool:
    """Whether a host name or address, with or without a port, is this machine's own."""
    return (urlsplit(f"//{host}").hostname or "") in _LOOPBACK


def _fault(entry: KeyEntry) -> str:
    """What is wrong with an entry: a typo must not become a key that silently lets nobody, or everybody, in."""
    if entry.role not in ROLES:
        return f"has the role {entry.role!r}; it is one of {', '.join(ROLES)}"
    if not re.fullmatch(r"[0-9a-f]{64}", entry.sha256):
        return "has no SHA-256 in hexadecimal: make keys with `trade2026 keys new`, which keeps their hash"
    if not entry.principal or not entry.principal.isprintable():
        return "has no principal"
    return ""


class Keyring:
    """Turns an Authorization header into a principal.

    Raises:
        ConfigurationError: open on an address that others can reach, or an unreadable keys file.
    """

    def __init__(self, keys_file: str, host: str) -> None:
        self.open = not keys_file
        self._keys: list[KeyEntry] = []
        if self.open:
            if not is_loopback(host):
                raise ConfigurationError(
                    f"without keys a service listens on loopback only, not on {host}: set keysFile"
                )
            return
        try:
            self._keys = msgspec.json.decode(Path(keys_file).read_bytes(), type=_KeysFile).keys
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the keys file {keys_file} cannot be used: {error}") from error
        for number, entry in enumerate(self._keys):
            if fault := _fault(entry):
                raise ConfigurationError(f"the keys file {keys_file} cannot be used: keys[{number}] {fault}")

    def principal_of(self, authorization: str) -> Principal | None:
        """Return who holds this key; None for nobody. In open mode everybody is `local`."""
        if self.open:
            return LOCAL
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest = hashlib.sha256(key.strip().encode()).hexdigest()
        found = None
        for entry in self._keys:
            if hmac.compare_digest(entry.sha256, digest):
                accounts = frozenset(entry.accounts) if entry.accounts is not None else None
                found = Principal(entry.principal, entry.role, accounts)
        return found
