"""How the replicas of a service are named: `oms` is the first, `oms-1` the next."""

from collections.abc import Collection


def instance_name(name: str, replica: int) -> str:
    """The name of a replica, of its port, of its process: the first has the service's own."""
    return f"{name}-{replica}" if replica else name


def instances(service: str, known: Collection[str]) -> list[str]:
    """The names of a service's replicas, of all names that are known."""
    found = [service]
    while (name := instance_name(service, len(found))) in known:
        found.append(name)
    return found


def replica_of(instance: str) -> int:
    """Its number among the replicas; the first is 0."""
    _, _, number = instance.rpartition("-")
    return int(number) if service_of(instance) != instance else 0


def service_of(instance: str) -> str:
    """Of which service it is a replica."""
    name, _, number = instance.rpartition("-")
    return name if name and number.isdecimal() else instance
