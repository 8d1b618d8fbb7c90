"""The bearer keys of a stack: made once, kept in a Secret, never seen in a manifest, a log or a status."""

import base64
import hashlib
import json
import secrets

from trade2026_operator.helm.releases import MANAGER, keys_name
from trade2026_operator.reconcile.objects import STACK_LABEL, Manifest


def keys_secret(stack: str, namespace: str) -> Manifest:
    """A Secret with a new key: `key` in clear for the stack's own processes, `keys.json` with its hash."""
    clear = f"t26_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(clear.encode()).hexdigest()
    entries = {"keys": [{"principal": "platform", "role": "admin", "sha256": digest}]}
    labels = {"app.kubernetes.io/part-of": "trade2026", "app.kubernetes.io/managed-by": MANAGER, STACK_LABEL: stack}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": keys_name(stack), "namespace": namespace, "labels": labels},
        "data": {"key": _base64(clear), "keys.json": _base64(json.dumps(entries))},
    }


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
