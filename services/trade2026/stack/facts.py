"""What is true of each service whatever the manifest says: data only.

The planner, both executors and the command line read names, ports and topics here and nowhere else.
"""

from dataclasses import dataclass

API_VERSION = "trade2026.io/v1alpha1"
EVENT_FORMATS = (1,)
"""Formats of the log that this code writes; it reads every older one."""

STACK_NAME_MAX = 38
"""Characters. A Helm release has 53, and its name is that of the stack with a dash and one of its services."""

STRATEGY_SHARDS_MAX = 8
"""Processes that may share the symbols of a strategy: each has a partition of its log."""

_MIB = 1024 * 1024


@dataclass(frozen=True)
class TopicFacts:
    """A topic as it is kept. `durable` topics are fsynced before a record is acknowledged."""

    name: str
    owner: str
    durable: bool
    partitions: int = 1
    """Whatever the manifest says; of one that is split by account, the manifest does."""
    by_account: bool = False
    """It has as many partitions as the manifest says, and an account's records are in the account's own."""
    segment_bytes_max: int = 256 * _MIB
    retention_bytes_max: int = 0
    """0 keeps everything."""

    @property
    def archived(self) -> bool:
        """Whether its old records move to the lake, where the manifest says when: those that grow with every order."""
        return self.durable and self.by_account


@dataclass(frozen=True)
class Slo:
    """Objectives over `window_days`: this share of requests answers within `under_ms`, and `answers` without a 5xx."""

    objective: float
    under_ms: float
    window_days: int = 30
    answers: float = 0.999


@dataclass(frozen=True)
class BurnAlert:
    """Fires while an error budget burns `rate` times as fast as it lasts, over both windows (SRE workbook, chapter 5).

    The short window ends it soon after the cause has ended.
    """

    severity: str
    rate: float
    long_seconds: int
    short_seconds: int


BURN_ALERTS = (
    BurnAlert("page", 14.4, 3_600, 300),
    BurnAlert("page", 6, 6 * 3_600, 1_800),
    BurnAlert("ticket", 3, 86_400, 2 * 3_600),
    BurnAlert("ticket", 1, 3 * 86_400, 6 * 3_600),
)
BAD_REQUESTS_MIN = 10
"""In the long window: a slow request in a quiet night pages nobody."""
NOT_READY_SECONDS = 30
"""A service that is not ready for so long pages somebody."""
UNWELL_SECONDS = 120
"""One whose `/health` says that something is wrong for so long is a ticket."""


@dataclass(frozen=True)
class PortFacts:
    """A port that a service has beside its own, where it speaks another dialect of HTTP."""

    name: str
    port: int
    title: str


@dataclass(frozen=True)
class ServiceFacts:
    """One service: where it listens, whom it shares a process with, what it owns and follows."""

    name: str
    port: int
    title: str
    group: str
    """The release that hosts it under compact placement."""
    owns: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    """Services that it asks over HTTP."""
    slo: Slo = Slo(0.999, 50)
    other_ports: tuple[PortFacts, ...] = ()
    reads_limits: bool = False
    """Its process is told the manifest's limits, and starts again when they change."""
    reads_venue_config: bool = False
    """Its process is told how venues are configured, and starts again when that changes."""
    stores: tuple[str, ...] = ()
    """Of `spec.stores`: those that it keeps. Only its process is told where they are, but every process of the lake."""
    optional: bool = False
    """It is planned only where the manifest names it under `spec.services`, or somebody asks for it by name."""
    needs_strategies: bool = False
    """It is planned only where there is a strategy."""
    by_account: bool = False
    """Its work is split by account, so several replicas can share it."""
    factory: str = ""
    """`module:Class`, imported only by the process that serves it."""


TOPICS: tuple[TopicFacts, ...] = (
    TopicFacts("orders.events", "oms", durable=True, by_account=True),
    TopicFacts("venue.reports", "gateway", durable=True, by_account=True),
    TopicFacts("risk.events", "risk", durable=True),
    TopicFacts("strategies.events", "strategies", durable=True, partitions=STRATEGY_SHARDS_MAX),
    TopicFacts("strategies.shards", "strategies", durable=True, partitions=STRATEGY_SHARDS_MAX),
    TopicFacts("exeq.events", "exeq", durable=True, by_account=True),
    TopicFacts("audit", "every process", durable=True),
    TopicFacts("alt.records", "sink-alt", durable=True),
    TopicFacts(
        "positions", "ptrc", durable=False, by_account=True, segment_bytes_max=64 * _MIB, retention_bytes_max=512 * _MIB
    ),
    TopicFacts(
        "pnl", "pnl", durable=False, by_account=True, segment_bytes_max=64 * _MIB, retention_bytes_max=512 * _MIB
    ),
    TopicFacts("market.raw", "gateway", durable=False, segment_bytes_max=64 * _MIB, retention_bytes_max=256 * _MIB),
    TopicFacts(
        "market.ticks", "normalizer", durable=False, segment_bytes_max=64 * _MIB, retention_bytes_max=256 * _MIB
    ),
    TopicFacts(
        "market.books", "normalizer", durable=False, segment_bytes_max=64 * _MIB, retention_bytes_max=256 * _MIB
    ),
    TopicFacts("market.bars", "normalizer", durable=False, segment_bytes_max=64 * _MIB, retention_bytes_max=256 * _MIB),
)

_MARKET = ("market.ticks", "market.books")

SERVICES: dict[str, ServiceFacts] = {
    service.name: service
    for service in (
        ServiceFacts(
            "oms",
            8099,
            "Order management",
            "orders",
            owns=("orders.events",),
            follows=("venue.reports", "risk.events", *_MARKET),
            slo=Slo(0.999, 50),
            reads_limits=True,
            by_account=True,
            factory="trade2026.oms.service:OmsService",
        ),
        ServiceFacts(
            "risk",
            8103,
            "Limits, alerts, kill switch",
            "risk",
            owns=("risk.events",),
            follows=("orders.events", *_MARKET),
            calls=("oms", "gateway"),
            slo=Slo(0.999, 50),
            reads_limits=True,
            factory="trade2026.risk.service:RiskService",
        ),
        ServiceFacts(
            "exeq",
            8095,
            "Execution",
            "risk",
            owns=("exeq.events",),
            follows=("orders.events", "market.ticks"),
            calls=("oms",),
            slo=Slo(0.999, 50),
            by_account=True,
            factory="trade2026.exeq.service:ExeqService",
        ),
        ServiceFacts(
            "gateway",
            8080,
            "Venues and market data",
            "venue",
            owns=("venue.reports", "market.raw"),
            follows=("orders.events",),
            slo=Slo(0.999, 50),
            reads_venue_config=True,
            factory="trade2026.gateway.service:GatewayService",
        ),
        ServiceFacts(
            "normalizer",
            8091,
            "Market data and its quality",
            "venue",
            owns=(*_MARKET, "market.bars"),
            follows=("market.raw",),
            slo=Slo(0.99, 250),
            factory="trade2026.normalizer.service:NormalizerService",
        ),
        ServiceFacts(
            "ptrc",
            8109,
            "Positions and post-trade",
            "projections",
            owns=("positions",),
            follows=("orders.events",),
            slo=Slo(0.99, 250),
            by_account=True,
            factory="trade2026.ptrc.service:PtrcService",
        ),
        ServiceFacts(
            "pnl",
            8100,
            "Profit and loss",
            "projections",
            owns=("pnl",),
            follows=("orders.events", "market.ticks"),
            slo=Slo(0.99, 250),
            by_account=True,
            factory="trade2026.pnl.service:PnlService",
        ),
        ServiceFacts(
            "archive",
            8101,
            "Snapshots and order history",
            "projections",
            follows=("orders.events", "venue.reports", "positions", "pnl"),
            slo=Slo(0.99, 250),
            factory="trade2026.archive.service:ArchiveService",
        ),
        ServiceFacts(
            "hot_cache",
            8088,
            "Newest values by key",
            "data",
            follows=("orders.events", *_MARKET, "market.bars"),
            slo=Slo(0.999, 50),
            stores=("cache",),
            factory="trade2026.hot_cache.service:HotCacheService",
        ),
        ServiceFacts(
            "strategies",
            8108,
            "Strategies",
            "strategies",
            owns=("strategies.events", "strategies.shards"),
            follows=("orders.events", *_MARKET, "market.bars"),
            calls=("oms",),
            slo=Slo(0.99, 250),
            needs_strategies=True,
            factory="trade2026.strategies.service:StrategiesService",
        ),
        ServiceFacts(
            "sink-ticks",
            8111,
            "Market data lake",
            "data",
            follows=(*_MARKET, "market.bars"),
            slo=Slo(0.99, 1_000),
            stores=("lake",),
            factory="trade2026.sink_ticks.service:SinkTicksService",
        ),
        ServiceFacts(
            "sink-alt",
            8112,
            "Alternative data",
            "data",
            owns=("alt.records",),
            slo=Slo(0.99, 1_000),
            stores=("lake", "analytics"),
            optional=True,
            factory="trade2026.sink_alt.service:SinkAltService",
        ),
        ServiceFacts(
            "questdb_writer",
            8090,
            "Time series and queries",
            "data",
            follows=("orders.events", "risk.events", "positions", "pnl", *_MARKET, "market.bars"),
            slo=Slo(0.99, 1_000),
            stores=("timeseries",),
            other_ports=(PortFacts("questdb", 9000, "QuestDB's REST API"),),
            factory="trade2026.questdb_writer.service:QuestDbWriterService",
        ),
        ServiceFacts(
            "monitoring",
            8116,
            "Health and service levels",
            "projections",
            slo=Slo(0.99, 250),
            factory="trade2026.monitoring.service:MonitoringService",
        ),
        ServiceFacts(
            "logger",
            8115,
            "Audit log",
            "data",
            follows=("orders.events", "risk.events", "exeq.events", "strategies.events", "audit"),
            slo=Slo(0.99, 1_000),
            factory="trade2026.logger.service:LoggerService",
        ),
    )
}

GROUPS: tuple[str, ...] = ("strategies", "orders", "venue", "risk", "projections", "data")
"""Releases of compact placement, in the order in which they start, and in which they stop: what writes goes
before what follows, so that at the end each has folded the last event and its snapshot is at the end of the log."""


def ports_of(service: str) -> dict[str, int]:
    """Every port of a service, its own first."""
    facts = SERVICES[service]
    return {service: facts.port, **{other.name: other.port for other in facts.other_ports}}


def peers_of(service: ServiceFacts) -> tuple[ServiceFacts, ...]:
    """The services that it follows or asks, in the order of `SERVICES`."""
    owners = {topic.owner for topic in TOPICS if topic.name in service.follows}
    return tuple(
        other for name, other in SERVICES.items() if name in owners.union(service.calls) and name != service.name
    )
