"""What of a stack may not trade now, for whoever looks at it: every kill and halt, who did it and how it ends."""

from typing import Any

from trade2026.kit.own_key import own_key
from trade2026.local import probe
from trade2026.local.process import stats_of

_TIMEOUT_SECONDS = 0.5


async def stops_of(host: str, port: int) -> list[dict[str, Any]] | None:
    """Every stop that the risk service knows, with the command that releases it; None if it can't be asked."""
    status, body = await probe.get(host, port, "/killed", key=own_key(), timeout_seconds=_TIMEOUT_SECONDS)
    if status != 200:
        return None
    found: list[dict[str, Any]] = stats_of(body).get("killed", [])
    return [{**stop, "release": f"trade2026 resume --scope {stop['scope']} --reason …"} for stop in found]


def trading(stops: list[dict[str, Any]] | None) -> str:
    """In words whether a stack may trade."""
    if stops is None:
        return "not known"
    if any(stop["scope"] == "stack" for stop in stops):
        return "halted"
    return "halted in part" if stops else "allowed"
