"""The bearer keys of a stack: made once, kept in a Secret, never seen in a manifest, a log or a status."""

import base64
import hashlib
import json
import secrets

from trade2026_operator.helm.releases import MANAGER, keys_name
from trade2026_operator.reconcile.objects import GROUP, STACK_LABEL, Manifest

PRINCIPAL = "trade2026"
"""In whose name processes of the stack act on each other."""
_MADE = f"{GROUP}/made-key"
"""Annotation: the hash of the key that was made with the Secret."""
ROLE = "risk"
"""The least that they need: strategies send orders, and risk stops them."""


def keys_secret(stack: str, namespace: str) -> Manifest:
    """A Secret with a new key: `key` in clear for the stack's own processes, `keys.json` with its hash.

    A person adds the keys of people to `keys.json`, and it stays as it is then.
    """
    clear = f"t26_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(clear.encode()).hexdigest()
    entries = {"keys": [{"principal": PRINCIPAL, "role": ROLE, "sha256": digest}]}
    annotations = {_MADE: digest}
    labels = {
        "app.kubernetes.io/part-of": "trade2026",
        "app.kubernetes.io/managed-by": MANAGER,
        "app.kubernetes.io/component": "keys",
        STACK_LABEL: stack,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": keys_name(stack), "namespace": namespace, "labels": labels, "annotations": annotations},
        "data": {"key": _base64(clear), "keys.json": _base64(json.dumps(entries, indent=2))},
    }


def made_at(secret: Manifest) -> str:
    """When its key was made here, in RFC 3339; empty where somebody has put another one into it."""
    made = (secret["metadata"].get("annotations") or {}).get(_MADE)
    try:
        clear = base64.b64decode((secret.get("data") or {}).get("key", ""))
    except ValueError:
        return ""
    is_that = made is not None and hashlib.sha256(clear).hexdigest() == made
    return secret["metadata"].get("creationTimestamp", "") if is_that else ""


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
