"""A desk whose version changes, and what its releases say of it then."""

from datetime import timedelta

from tests.unit.operator.operated import Desk

from trade2026_operator.helm.records import Record, from_secret

OLD, NEW = "0.0.9", "0.1.0"
KAFKA = {"bus": {"type": "kafka", "kafka": {"bootstrapServers": "broker:9092"}}, "placement": "grouped"}
DEADLINE = timedelta(minutes=10)


def records(desk: Desk, release: str = "desk") -> list[Record]:
    found = [from_secret(each) for each in desk.kube.objects.values() if each.get("type") == "helm.sh/release.v1"]
    return sorted((each for each in found if each.name == release), key=lambda record: record.revision)


def revisions(desk: Desk) -> list[tuple[int, str]]:
    """Of the only release."""
    return [(each.revision, each.status.value) for each in records(desk)]


def states(desk: Desk, release: str = "desk") -> list[tuple[int, str, str]]:
    return [(each.revision, each.status.value, each.origin.version) for each in records(desk, release)]


def images(desk: Desk) -> dict[str, str]:
    return {
        ref.name: found["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2]
        for ref, found in desk.kube.objects.items()
        if ref.kind == "StatefulSet"
    }


def said(desk: Desk, kind: str) -> tuple[str, str]:
    found = desk.condition(kind)
    return found["status"], found["reason"]


async def upgraded() -> Desk:
    """A desk with its services apart, of which each runs the new version."""
    desk = Desk()
    await desk.run(version=OLD, **KAFKA)
    await desk.apply(version=NEW)
    await desk.settle()
    for _ in range(8):
        desk.become_ready()
        await desk.settle()
    return desk
