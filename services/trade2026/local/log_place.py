"""Where the log of a stack is kept, which can't be changed: what was written stays there."""

from typing import Any

from trade2026.local.state import StateDir
from trade2026.stack.manifest import ManifestError, load
from trade2026.stack.planner import Plan, PlanError, plan


class AnotherLog(Exception):
    """A manifest asks for the log elsewhere than it is; the message says what to do."""


def log_of(planned: Plan) -> dict[str, Any]:
    """The kind of bus, and in how many parts an account's records are spread."""
    settings = planned.releases[0].settings
    partitions = next(topic["partitions"] for topic in settings["topics"] if topic["name"] == "orders.events")
    return {"bus": settings["bus"]["type"], "partitions": partitions}


def log_in(state: StateDir) -> dict[str, Any]:
    """The same of what was written here; empty if nothing was."""
    if record := state.running():
        return {"bus": record.get("bus", ""), "partitions": record.get("partitions", 1)}
    try:  # a restored copy has been told, and has run nothing yet
        return log_of(plan(load(state.path / "manifest.yaml")))
    except (OSError, ManifestError, PlanError):
        return {}


def refuse_another_log(before: dict[str, Any], planned: Plan) -> None:
    """Raise `AnotherLog` if the log would lie elsewhere: snapshots and orders beside it would be of no use."""
    wanted = log_of(planned)
    if before.get("bus") and before["bus"] != wanted["bus"]:
        raise AnotherLog(
            f"spec.bus.type is {wanted['bus']}, but this stack has its log on {before['bus']}: "
            "its log does not move by itself: `trade2026 migrate` moves an embedded one. Choose another --state-dir "
            "for a stack that begins anew"
        )
    if before.get("partitions", wanted["partitions"]) != wanted["partitions"]:
        raise AnotherLog(
            f"spec.bus.partitions is {wanted['partitions']}, but this stack's log has {before['partitions']}, and "
            f"that can't be changed: an account would be looked for where it is not. Put {before['partitions']} back, or choose another --state-dir for a "
            "stack that begins anew"
        )
