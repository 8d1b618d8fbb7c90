"""Which components a plan asks for, and where its processes find them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trade2026.local.infra.clickhouse import ClickHouse
from trade2026.local.infra.component import Component, InfraError
from trade2026.local.infra.kafka import Kafka
from trade2026.local.infra.questdb import QuestDb
from trade2026.local.infra.seaweedfs import SeaweedFs
from trade2026.local.infra.valkey import Valkey
from trade2026.stack.planner import Plan

_STORES: Mapping[str, tuple[type[Component], str]] = {
    "questdb": (QuestDb, "url"),
    "valkey": (Valkey, "url"),
    "clickhouse": (ClickHouse, "url"),
    "s3": (SeaweedFs, "endpoint"),
}
"""Servers that we can start, by the type of the store, and the field with their address."""


def wanted(plan: Plan, folder: Path, port_offset: int) -> list[Component]:
    """What the manifest names and we can start: on its port, moved like all others.

    Args:
        folder: Of all components; each has one of its own in it.

    Raises:
        InfraError: what it asks for can't be started.
    """
    found: list[Component] = []
    bus = plan.releases[0].settings["bus"]
    if bus["type"] == "kafka":
        if bus["kafka"]["tls"] is not None or bus["kafka"]["sasl"] is not None:
            raise InfraError(
                "the broker that is started here has neither TLS nor SASL; leave them out of spec.bus.kafka"
            )
        _, _, port = bus["kafka"]["bootstrap_servers"].rpartition(":")
        found.append(Kafka(folder / Kafka.name, int(port) + port_offset))
    stores = {name: store for release in plan.releases for name, store in release.settings["stores"].items()}
    for store in stores.values():
        make, field = _STORES.get(store["type"], (None, ""))
        if make is not None and store[field]:
            component = make(folder / make.name, (urlsplit(store[field]).port or 0) + port_offset)
            if isinstance(component, SeaweedFs):
                component.bucket = urlsplit(store["url"]).netloc
            found.append(component)
    return found


def with_addresses(settings: dict[str, Any], components: Sequence[Component]) -> dict[str, Any]:
    """A process's settings with the addresses of what we start."""
    addresses = {component.name: component.address for component in components}
    bus = settings["bus"]
    if bus["type"] in addresses:
        bus = {**bus, "kafka": {**bus["kafka"], "bootstrap_servers": addresses[bus["type"]]}}
    stores = {name: _at(store, addresses) for name, store in settings["stores"].items()}
    return {**settings, "bus": bus, "stores": stores}


def _at(store: dict[str, Any], addresses: Mapping[str, str]) -> dict[str, Any]:
    make, field = _STORES.get(store["type"], (None, ""))
    if make is None or make.name not in addresses or not store[field]:
        return store
    return {**store, field: urlsplit(store[field])._replace(netloc=addresses[make.name]).geturl()}
