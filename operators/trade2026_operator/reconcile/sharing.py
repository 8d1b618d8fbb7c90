"""Whether two stacks would keep one log: topics begin with a stack's name, and no broker knows of namespaces. Pure."""

from collections.abc import Iterable

from trade2026_operator.reconcile.objects import Manifest, uid_of

_LOCAL = (".svc.cluster.local", ".svc")


def shared_log(stack: Manifest, others: Iterable[Manifest]) -> str:
    """Why a stack may not begin, in words for a person; empty if it may: of two the older one has the log.

    Args:
        others: Stacks that are known, this one among them.
    """
    meta, ours = stack["metadata"], _brokers(stack)
    if not ours:
        return ""
    for other in others:
        theirs = other["metadata"]
        if theirs["name"] != meta["name"] or theirs["namespace"] == meta["namespace"]:
            continue
        if _age(other) < _age(stack) and (same := ours & _brokers(other)):
            where = f"TradingStack {theirs['name']} in {theirs['namespace']} keeps its log at {min(same)}, too"
            return f"spec.bus.kafka: {where}, in the same topics: give this one another name, or brokers of its own"
    return ""


def _age(stack: Manifest) -> tuple[str, str]:
    return stack["metadata"].get("creationTimestamp", ""), uid_of(stack)


def _brokers(stack: Manifest) -> set[str]:
    """Where its log is, by names that mean the same in every namespace; none of one that keeps its log itself."""
    kafka = (stack["spec"].get("bus") or {}).get("kafka") or {}
    addresses = [each.strip() for each in kafka.get("bootstrapServers", "").split(",") if each.strip()]
    return {_everywhere(each, stack["metadata"]["namespace"]) for each in addresses}


def _everywhere(address: str, namespace: str) -> str:
    host, _, port = address.rpartition(":")
    for ending in _LOCAL:
        host = host.removesuffix(ending)
    return f"{host}:{port}" if "." in host or ":" in host else f"{host}.{namespace}:{port}"
