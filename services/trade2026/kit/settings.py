"""What one process is told: the planner writes it as JSON, the runner adds the state directory."""

from pathlib import Path
from typing import Any

import msgspec

from trade2026.domain.instruments import Instrument
from trade2026.domain.replicas import instances
from trade2026.kit.addresses import Addresses
from trade2026.kit.bus.port import TopicConfig

NOTED = Path("run", "stack.json")
"""In the state directory: what runs now. It changes while processes run."""


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

    def url(self, service: str) -> str:
        """Base URL of a service of this stack, or of a replica that runs now."""
        ports = self.ports if service in self.ports else _noted_ports(self.state / NOTED)
        return f"http://{self.host}:{ports[service]}"

    def urls(self, service: str) -> list[str]:
        """Base URL of each replica of a service that runs now, as whoever runs the stack has noted."""
        ports = {**_noted_ports(self.state / NOTED), **self.ports}
        return [f"http://{self.host}:{ports[name]}" for name in instances(service, ports)]

    def addresses(self, service: str) -> Addresses:
        """Where a service is asked, whichever of its replicas is there."""
        return Addresses(lambda: self.urls(service))


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
