"""Keys: who holds which, and when a service may be open."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from trade2026.kit.identity import ConfigurationError, Keyring, Principal, is_loopback, new_key


@pytest.fixture
def ring(tmp_path: Path) -> tuple[str, Keyring]:
    clear, entry = new_key("ann", "trader", ["main"])
    path = tmp_path / "keys.json"
    path.write_bytes(msgspec.json.encode({"keys": [entry]}))
    return clear, Keyring(str(path), "0.0.0.0")


def test_a_key_names_its_holder_role_and_accounts(ring: tuple[str, Keyring]) -> None:
    assert ring[1].principal_of(f"Bearer {ring[0]}") == Principal("ann", "trader", frozenset({"main"}))


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic {key}", "{key}"])
def test_anything_else_is_nobody(ring: tuple[str, Keyring], header: str) -> None:
    assert ring[1].principal_of(header.format(key=ring[0])) is None


def test_the_clear_key_is_not_kept() -> None:
    clear, entry = new_key("ann", "viewer")
    assert entry.sha256 == hashlib.sha256(clear.encode()).hexdigest()
    assert clear not in msgspec.json.encode(entry).decode()


def test_a_role_includes_those_below_it() -> None:
    risk = Principal("ann", "risk")
    assert [risk.may(role) for role in ("viewer", "trader", "risk", "admin")] == [True, True, True, False]


def test_without_keys_a_service_is_open_on_loopback_only() -> None:
    assert Keyring("", "127.0.0.1").principal_of("") == Principal("local", "admin")
    with pytest.raises(ConfigurationError, match="keysFile"):
        Keyring("", "0.0.0.0")


def test_an_unknown_role_or_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="role is one of"):
        new_key("ann", "king")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Keyring(str(tmp_path / "absent.json"), "127.0.0.1")


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost:8099", True),
        ("127.0.0.1", True),
        ("[::1]:80", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local
