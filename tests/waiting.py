"""How a test waits: for a condition, never for a time, and with rests, because a loop without rest starves threads."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

SECONDS_MAX = 60.0
"""Only a test that fails waits so long; a slow machine must not make one fail."""
_REST_SECONDS = 0.005


async def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition, which may be a coroutine function, and return what it returned."""
    try:
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                found = condition()
                if inspect.isawaitable(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(_REST_SECONDS)
    except TimeoutError:
        raise AssertionError(f"not within {SECONDS_MAX} s: {what}") from None
