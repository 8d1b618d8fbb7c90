"""What one process is told: the planner writes it as JSON, the runner adds the state directory."""

from pathlib import Path
from typing import Any

import msgspec

from trade2026.domain.instruments import Instrument
from trade2026.domain.replicas import instance_name, instances, service_of
from trade2026.kit.addresses import Addresses, reachable
from trade2026.kit.bus.port import TopicConfig

NOTED = Path("run", "stack.json")
"""In the state directory: what runs now. It changes while processes run."""
EVERY_REPLICA = "-pods"
"""After the name of a service in a cluster: all of its replicas, those that are not ready as well."""


class _Noted(msgspec.Struct):
    ports: dict[str, int]


class VenueSettings(msgspec.Struct, kw_only=True, frozen=True):
    """A venue as the manifest names it; `config` is read by the service that runs it."""

    name: str
    type: str
    config: dict[str, Any] = {}


class PeerSettings(msgspec.Struct, frozen=True):
    """A service that another one follows or asks."""

    name: str
    port: int


class ProcessSettings(msgspec.Struct, kw_only=True, frozen=True):
    """Everything a process needs; the same document for every executor of the plan."""

    stack: str
    release: str
    services: list[str]
    config_hash: str
    allowed_versions: list[str]
    instruments: list[Instrument]
    venues: list[VenueSettings]
    topics: list[TopicConfig]
    ports: dict[str, int]
    """Every service of the stack, not only of this process; of several replicas the first, or this process."""
    peers: dict[str, list[PeerSettings]] = {}
    """For each service of this process, those that it follows or asks: its `/health` says how they are."""
    host: str = "127.0.0.1"
    """Where it listens, and where it finds the others if nothing else is said."""
    address: str = ""
    """Where other replicas reach this process; empty: at `host`."""
    service_host: str = ""
    """Where services of other processes are, such as `desk-{service}` in a cluster; empty: at `host`."""
    namespace: str = ""
    """Where the stack lives in a cluster."""
    event_format: int = 1
    bus: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "embedded"})
    stores: dict[str, dict[str, Any]] = {}
    """Of `spec.stores`: those of this process that are not embedded, as the service that keeps one reads it."""
    default_account: str = "main"
    base_currency: str = "USDT"
    risk: msgspec.Raw = msgspec.Raw(b"{}")
    """JSON of `controls.LimitBook`: the manifest's ceilings."""
    keys_file: str = ""
    """Hashed bearer keys; empty means open, which only a loopback host may be."""
    otlp_endpoint: str = ""
    trace_sampling: float = 0.01
    free_bytes_min: int = 268_435_456
    """New orders stop below this much free disk."""
    config: dict[str, dict[str, Any]] = {}
    """Per service, as in the manifest."""
    state_dir: str = ""

    @property
    def state(self) -> Path:
        """The state directory of the stack."""
        return Path(self.state_dir)

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; more than one only those that are split by account."""
        return next((config.partitions for config in self.topics if config.name == topic), 1)

    def host_of(self, service: str) -> str:
        """Where a service of this stack is asked: by a name with dashes, or beside us."""
        if not self.service_host or service_of(service) in self.services:
            return reachable(self.host)
        return self.service_host.format(service=service.replace("_", "-"))

    def url(self, service: str) -> str:
        """Base URL of a service of this stack, or of a replica that runs now."""
        ports = self.ports if service in self.ports else _noted_ports(self.state / NOTED)
        return _url(self.host_of(service), ports[service])

    def urls(self, service: str) -> list[str]:
        """Base URL of each replica of a service that runs now, as whoever runs the stack has noted.

        In a cluster they have one name for those that are ready, and one for all: who must be told of a kill is
        told, ready or not.
        """
        host = self.host_of(service)
        if host != reachable(self.host):
            return [_url(host, self.ports[service]), _url(host + EVERY_REPLICA, self.ports[service])]
        ports = {**_noted_ports(self.state / NOTED), **self.ports}
        return [_url(host, ports[name]) for name in instances(service, ports)]

    def replica_url(self, service: str, replica: int) -> str:
        """Base URL of one replica of a service, by its number."""
        if self.service_host:
            name = self.service_host.format(service=service.replace("_", "-"))
            return _url(f"{name}-{replica}.{name}{EVERY_REPLICA}", self.ports[service])
        ports = {**_noted_ports(self.state / NOTED), **self.ports}
        return _url(reachable(self.host), ports[instance_name(service, replica)])

    def addresses(self, service: str) -> Addresses:
        """Where a service is asked, whichever of its replicas is there."""
        return Addresses(lambda: self.urls(service))


def placed(
    settings: ProcessSettings,
    *,
    host: str = "",
    address: str = "",
    service_host: str = "",
    namespace: str = "",
    state_dir: str = "",
    keys_file: str = "",
    replica: int = 0,
) -> ProcessSettings:
    """The settings with what is known only where the process runs; what is empty stays as it is.

    Args:
        replica: Its number among those that were given the same settings. The first keeps the release's name.
    """
    told = {"host": host, "address": address, "service_host": service_host, "namespace": namespace}
    told |= {"state_dir": state_dir, "keys_file": keys_file}
    changed = {name: value for name, value in told.items() if value}
    return msgspec.structs.replace(settings, release=instance_name(settings.release, replica), **changed)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _noted_ports(path: Path) -> dict[str, int]:
    """Every port of the stack by name; none where nobody has noted them, as in a cluster."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Noted).ports
    except (OSError, msgspec.MsgspecError):
        return {}


def load(path: Path) -> ProcessSettings:
    """Read a process's settings.

    Raises:
        msgspec.ValidationError: the document has another shape than this code knows.
    """
    return msgspec.json.decode(path.read_bytes(), type=ProcessSettings)
