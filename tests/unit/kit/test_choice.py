"""Which membership the replicas of a process use."""

from typing import Any

import pytest

from trade2026.kit.bus.choice import open_membership
from trade2026.kit.bus.membership import EmbeddedMembership, Member
from trade2026.kit.bus.membership_member import GroupMembership
from trade2026.kit.settings import ProcessSettings

ME = Member("orders-1", "127.0.0.1:8001")


def settings(bus: dict[str, Any]) -> ProcessSettings:
    return ProcessSettings(
        stack="desk",
        release="orders",
        services=["oms"],
        config_hash="",
        allowed_versions=[],
        instruments=[],
        venues=[],
        topics=[],
        ports={},
        bus=bus,
    )


@pytest.mark.parametrize("kind", ["embedded", "memory"])
def test_without_brokers_one_replica_has_all(kind: str) -> None:
    membership = open_membership(settings({"type": kind}), "oms", ME, 4)
    assert isinstance(membership, EmbeddedMembership)
    assert (membership.me, membership.partitions) == (ME, 4)


def test_with_brokers_replicas_are_a_group_whose_sessions_are_as_long_as_the_settings_say() -> None:
    brokers = {"bootstrap_servers": "127.0.0.1:9092", "session_seconds": 20}
    membership = open_membership(settings({"type": "kafka", "kafka": brokers}), "oms", ME, 4)
    assert isinstance(membership, GroupMembership)
    assert (membership.me, membership.partitions, membership.timing.session_seconds) == (ME, 4, 20)
