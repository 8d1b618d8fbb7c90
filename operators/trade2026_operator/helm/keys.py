"""The keys of a stack in a cluster, where every service can be reached and none may be open."""

import hashlib
import json

from trade2026_operator.helm.manifests import Manifest
from trade2026_operator.helm.releases import MANAGER, STACK_LABEL, keys_name

PRINCIPAL = "trade2026"
"""In whose name processes of the stack act on each other."""
ROLE = "risk"
"""The least that they need: strategies send orders, and risk stops them."""
KEYS, OWN_KEY = "keys.json", "key"
"""What is in the Secret: the hashes of all keys, and the key of the stack's own processes."""


def keys_secret(stack: str, namespace: str, token: str) -> Manifest:
    """The Secret of a stack that has none yet. A person adds keys of people to `keys.json`, and it stays as it is then.

    Args:
        token: Random text, 32 bytes or more of it.
    """
    key = f"t26_{token}"
    entry = {"principal": PRINCIPAL, "role": ROLE, "sha256": hashlib.sha256(key.encode()).hexdigest()}
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
        "stringData": {KEYS: json.dumps({"keys": [entry]}, indent=2), OWN_KEY: key},
    }
