"""The key that signs checkpoints: Ed25519, made on the first start, readable by its owner only."""

import hashlib
import os
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from trade2026.kit.bus.files import make_folders, sync_folder
from trade2026.logger.machine import Checkpoint


class KeyUnusable(Exception):
    """The signing key can't be used; the message says what to do."""


class Signer:
    """Signs checkpoints.

    Attributes:
        public: The public key, 32 bytes in hexadecimal.
        key: Its fingerprint.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.public, self.key = raw.hex(), fingerprint(raw)

    def sign(self, checkpoint: Checkpoint) -> Checkpoint:
        """The same with its signature."""
        return msgspec.structs.replace(checkpoint, signature=self._private.sign(checkpoint.signed_bytes()).hex())


def fingerprint(public: bytes) -> str:
    """The first 16 hexadecimal digits of a public key's SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def load_or_make(path: Path, *, given: bool) -> Signer:
    """Read the private key, or make it.

    Args:
        given: It was named by a setting: then it must be there.

    Raises:
        KeyUnusable: it is missing, readable by others, or no Ed25519 key.
    """
    if not path.exists() and not given:
        _make(path)
    try:
        mode = path.stat().st_mode & 0o077
        if mode:
            raise KeyUnusable(f"{path} can be read by others: chmod 600 {path}")
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise KeyUnusable(
            f"{path} can't be read ({error.strerror}): make it with `openssl genpkey -algorithm ed25519 -out {path}`"
        ) from error
    except (ValueError, TypeError) as error:
        raise KeyUnusable(f"{path} holds no private key in PEM without a password: {error}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyUnusable(f"{path} holds another kind of key than Ed25519")
    return Signer(private)


def _make(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    make_folders(path.parent)
    partial = path.with_suffix(".partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def public_of(path: Path) -> str:
    """The public key in a PEM file, in hexadecimal.

    Raises:
        KeyUnusable: there is none.
    """
    try:
        found = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KeyUnusable(f"{path} holds no public key in PEM: {error}") from error
    if not isinstance(found, Ed25519PublicKey):
        raise KeyUnusable(f"{path} holds another kind of key than Ed25519")
    return found.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()


def is_signed(checkpoint: Checkpoint, keys: dict[str, str]) -> bool:
    """Whether a checkpoint is signed by one of these public keys (hexadecimal, by fingerprint)."""
    public = keys.get(checkpoint.key, "")
    try:
        raw = bytes.fromhex(public)
        if fingerprint(raw) != checkpoint.key:
            return False
        key = Ed25519PublicKey.from_public_bytes(raw)
        key.verify(bytes.fromhex(checkpoint.signature), checkpoint.signed_bytes())
    except (ValueError, InvalidSignature):
        return False
    return True
