"""The bearer key that a process of a stack shows to the others, and a person to all of them."""

import os

KEY_VARIABLE = "TRADE2026_KEY"
"""Environment variable with the key, for a stack that asks for one."""


def own_key() -> str:
    """The key; empty where the stack is open."""
    return os.environ.get(KEY_VARIABLE, "")


def own_authorization() -> str:
    """The same as a header's value."""
    key = own_key()
    return f"Bearer {key}" if key else ""
