"""The bearer keys of a stack: made once, kept in a Secret, never seen in a manifest, a log or a status."""

import base64
import hashlib
import json
import secrets

from trade2026_operator.helm.releases import MANAGER, keys_name
from trade2026_operator.reconcile.objects import STACK_LABEL, Manifest

PRINCIPAL = "trade2026"
"""In whose name processes of the stack act on each other."""
ROLE = "risk"
"""The least that they need: strategies send orders, and risk stops them."""


def keys_secret(stack: str, namespace: str) -> Manifest:
    """A Secret with a new key: `key` in clear for the stack's own processes, `keys.json` with its hash.

    A person adds the keys of people to `keys.json`, and it stays as it is then.
    """
    clear = f"t26_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(clear.encode()).hexdigest()
    entries = {"keys": [{"principal": PRINCIPAL, "role": ROLE, "sha256": digest}]}
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
        "metadata": {"name": keys_name(stack), "namespace": namespace, "labels": labels},
        "data": {"key": _base64(clear), "keys.json": _base64(json.dumps(entries, indent=2))},
    }


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
