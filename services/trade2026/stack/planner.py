"""From a manifest to what must run: pure, so that a laptop and a cluster do the same with one file.

Each release's settings hold only what its own services read. A change of the limits therefore touches
the processes that enforce limits, and no other; `config_hash` in the settings is of that release.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

from trade2026.domain.market import INTERVALS
from trade2026.domain.replicas import instance_name
from trade2026.stack import model
from trade2026.stack.facts import GROUPS, SERVICES, TOPICS, ServiceFacts, peers_of, ports_of
from trade2026.stack.nearest import nearest
from trade2026.stack.strategy import Strategy
from trade2026.stack.units import amount_nanos, basis_points, byte_count, duration_ns, fraction

_PORT_MAX = 65_535
_REPLICA_PORTS = 200
"""From the port of one replica to that of the next, where they are on one machine."""


class PlanError(ValueError):
    """What was asked for can't be planned; the message says what can."""


@dataclass(frozen=True)
class Release:
    """One process (or, in a cluster, one Helm release) and the services that it hosts.

    `settings` has the shape of the process's settings document, without the state directory.
    """

    name: str
    services: tuple[str, ...]
    settings: dict[str, Any]
    replica: int = 0
    """Its number among those that share the work of these services."""

    @property
    def instances(self) -> tuple[str, ...]:
        """The names under which the ports of its services are known: `oms-1` is the second replica of `oms`."""
        return tuple(instance_name(service, self.replica) for service in self.services)


@dataclass(frozen=True)
class Plan:
    """Everything that must run for one manifest. `config_hash` changes with any planned value."""

    stack: str
    version: str
    releases: tuple[Release, ...]
    ports: dict[str, int]
    config_hash: str

    def ports_of(self, release: Release) -> dict[str, int]:
        """Every port that a release listens on, by name."""
        names = [instance_name(name, release.replica) for service in release.services for name in ports_of(service)]
        return {name: self.ports[name] for name in names}

    def release(self, name: str) -> Release | None:
        """The release of that name, if it is planned."""
        return next((release for release in self.releases if release.name == name), None)


def plan(
    stack: model.TradingStack,
    strategies: Sequence[Strategy] = (),
    *,
    port_offset: int = 0,
    services: Collection[str] | None = None,
    also_allowed: Collection[str] = (),
    strategies_apart: bool = False,
    limits_told: bool = False,
) -> Plan:
    """Return what must run.

    Args:
        strategies: Those that trade on the stack; without any, no process is planned for them.
        port_offset: Added to every port, so that several stacks fit on one machine.
        services: Only these; None means all.
        also_allowed: Versions of the platform that run beside this one while it is rolled out.
        strategies_apart: No other process is told whether strategies run, so that none starts again when the first
            comes or the last goes.
        limits_told: Strategies' own limits are told to the risk service while it runs: no process has them from its
            start, so that none starts again when they change.

    Raises:
        PlanError: an unknown service, or ports beyond 65,535.
    """
    named = {*stack.spec.services, *(services or ())}
    chosen = [
        facts
        for facts in _chosen(services)
        if (strategies or not facts.needs_strategies) and (facts.name in named or not facts.optional)
    ]
    facts_ports = {name: port for service in SERVICES for name, port in ports_of(service).items()}
    known = list(facts_ports)
    for name, service in stack.spec.services.items():
        numbers = range(1, service.replicas.min)
        facts_ports |= {instance_name(name, n): SERVICES[name].port + n * _REPLICA_PORTS for n in numbers}
    processes = max((strategy.spec.replicas for strategy in strategies), default=1)
    for facts in chosen:
        if facts.needs_strategies:
            facts_ports |= {instance_name(facts.name, n): facts.port + n * _REPLICA_PORTS for n in range(1, processes)}
    ports = {name: port + port_offset for name, port in facts_ports.items()}
    if not 0 < min(ports.values()) <= max(ports.values()) <= _PORT_MAX:
        least, most = 1 - min(facts_ports.values()), _PORT_MAX - max(facts_ports.values())
        raise PlanError(f"a port offset is between {least} and {most}, not {port_offset}")
    # A process is told of no replicas of others: else all of them would start again when their number changes.
    shared = _shared(stack, {name: ports[name] for name in known})
    shared["allowed_versions"] = [*sorted({*also_allowed} - {stack.spec.version}), stack.spec.version]
    tells = bool(strategies) and not strategies_apart
    limits = limit_book(stack.spec, () if limits_told else strategies)
    releases = tuple(
        replica
        for name, hosted in _grouped(chosen, apart=stack.spec.placement == "spread")
        for replica in _replicas(
            stack, _release(stack, strategies, name, hosted, shared, limits, tells=tells), ports, processes
        )
    )
    return Plan(
        stack=stack.metadata.name,
        version=stack.spec.version,
        releases=releases,
        ports=ports,
        config_hash=canonical_hash([release.settings for release in releases]),
    )


def changes(old: Any, new: Any, path: str = "") -> list[str]:
    """Return what differs between two releases' settings, one line a value, hashes left out."""
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = cast("dict[str, Any]", old), cast("dict[str, Any]", new)
        found: list[str] = []
        for name in sorted({*before, *after} - {"config_hash", "state_dir"}):
            found += changes(before.get(name), after.get(name), f"{path}.{name}" if path else name)
        return found
    if isinstance(old, list) and isinstance(new, list):
        was, now = cast("list[Any]", old), cast("list[Any]", new)
        if len(was) == len(now):
            pairs = enumerate(zip(was, now, strict=True))
            return [line for i, pair in pairs for line in changes(*pair, f"{path}[{i}]")]
    return [] if old == new else [f"{path}: {_shown(old)} -> {_shown(new)}"]


def canonical_hash(value: Any) -> str:
    """SHA-256 of a value's JSON with sorted keys and no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _shown(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _chosen(services: Collection[str] | None) -> list[ServiceFacts]:
    if services is None:
        return list(SERVICES.values())
    for name in services:
        if name not in SERVICES:
            raise PlanError(f"{name!r} is no service{nearest(name, SERVICES)}")
    if not services:
        raise PlanError(f"no service is named; known: {', '.join(SERVICES)}")
    return [facts for name, facts in SERVICES.items() if name in services]


def _grouped(chosen: Sequence[ServiceFacts], *, apart: bool) -> list[tuple[str, list[ServiceFacts]]]:
    """The services by the release that hosts them, in the order in which they start."""
    groups = [(group, [facts for facts in chosen if facts.group == group]) for group in GROUPS]
    if apart:
        return [(facts.name, [facts]) for _, hosted in groups for facts in hosted]
    return [(group, hosted) for group, hosted in groups if hosted]


def _replicas(stack: model.TradingStack, release: Release, ports: dict[str, int], processes: int) -> list[Release]:
    """A release as often as its services are to run, each with ports and a name of its own.

    Args:
        processes: That strategies ask for.
    """
    services = stack.spec.services
    if any(SERVICES[name].needs_strategies for name in release.services):
        return [release, *(_replica(release, number, ports) for number in range(1, processes))]
    count = max((services[name].replicas.min for name in release.services if name in services), default=1)
    return [release, *(_replica(release, number, ports) for number in range(1, count))]


def _replica(release: Release, number: int, ports: dict[str, int]) -> Release:
    name = instance_name(release.name, number)
    own = {service: ports[instance_name(service, number)] for service in release.services}
    settings = {**release.settings, "release": name, "ports": {**release.settings["ports"], **own}}
    del settings["config_hash"]
    settings["config_hash"] = canonical_hash(settings)
    return Release(name, release.services, settings, number)


def _shared(stack: model.TradingStack, ports: dict[str, int]) -> dict[str, Any]:
    spec = stack.spec
    return {
        "stack": stack.metadata.name,
        "event_format": spec.event_format,
        "instruments": [_instrument(spec, instrument) for instrument in spec.instruments],
        "topics": [
            {
                "name": topic.name,
                "partitions": stack.spec.bus.partitions if topic.by_account else topic.partitions,
                "grows": topic.partitions > 1,
                "durable": topic.durable,
                "segment_bytes_max": topic.segment_bytes_max,
                "retention_bytes_max": topic.retention_bytes_max,
            }
            for topic in TOPICS
        ],
        "ports": ports,
        "bus": _bus(spec.bus),
        "free_bytes_min": byte_count(spec.bus.free_space_min),
        "default_account": spec.default_account,
        "base_currency": spec.base_currency,
        "keys_file": spec.security.keys_file,
        "otlp_endpoint": spec.observability.otlp_endpoint,
        "trace_sampling": fraction(spec.observability.trace_sampling),
    }


def _bus(bus: model.Bus) -> dict[str, Any]:
    if bus.kafka is None:
        return {"type": bus.type}
    return {"type": bus.type, "kafka": bus.kafka.model_dump()}


def _stores(stores: model.Stores, hosted: list[ServiceFacts]) -> dict[str, Any]:
    """The stores of a process that the manifest says something of; any may have to read old records in the lake."""
    named = {"lake", *(name for facts in hosted for name in facts.stores)}
    return {name: store.model_dump() for name, store in stores if name in named and store != type(store)()}


def _release(
    stack: model.TradingStack,
    strategies: Sequence[Strategy],
    group: str,
    hosted: list[ServiceFacts],
    shared: dict[str, Any],
    limits: dict[str, Any],
    *,
    tells: bool,
) -> Release:
    spec = stack.spec
    with_venues = any(facts.reads_venue_config for facts in hosted)
    with_limits = any(facts.reads_limits for facts in hosted)
    names = [facts.name for facts in hosted]
    config: dict[str, dict[str, Any]] = {
        name: spec.services[name].config for name in names if name in spec.services and spec.services[name].config
    }
    for facts in hosted:
        if facts.needs_strategies:
            made = spec.services["normalizer"].config if "normalizer" in spec.services else {}
            bars = list(made.get("intervals", INTERVALS))
            told = [{**_strategy(spec, strategy), "bars": bars} for strategy in strategies]
            config[facts.name] = {**config.get(facts.name, {}), "strategies": told}
    if "archive" in names and spec.bus.archive_after is not None:
        after_ns = duration_ns(spec.bus.archive_after)
        config["archive"] = {**config.get("archive", {}), "log_after_ns": after_ns}
    settings: dict[str, Any] = {
        **shared,
        "release": group,
        "services": names,
        "peers": {
            facts.name: [
                {"name": peer.name, "port": shared["ports"][peer.name]}
                for peer in peers_of(facts)
                if tells or not peer.needs_strategies
            ]
            for facts in hosted
        },
        "venues": [
            {"name": venue.name, "type": venue.type, "config": venue.config if with_venues else {}}
            for venue in spec.venues
        ],
        "stores": _stores(spec.stores, hosted),
        "risk": limits if with_limits else {},
        "config": config,
    }
    settings["config_hash"] = canonical_hash(settings)
    return Release(group, tuple(names), settings)


def _instrument(spec: model.Spec, instrument: model.Instrument) -> dict[str, Any]:
    quote = spec.quote_of(instrument)
    return {
        "symbol": instrument.symbol,
        "venue": spec.venue_of(instrument),
        "base": spec.base_of(instrument),
        "quote": quote,
        "settlement": instrument.settlement or quote,
        "tick_size": amount_nanos(instrument.tick_size),
        "lot_size": amount_nanos(instrument.lot_size),
        "multiplier": amount_nanos(instrument.multiplier),
        "min_notional": amount_nanos(instrument.min_notional),
        "maker_fee_bps": instrument.maker_fee_bps,
        "taker_fee_bps": instrument.taker_fee_bps,
        "session": instrument.session,
        "version": instrument.version,
    }


def _strategy(spec: model.Spec, strategy: Strategy) -> dict[str, Any]:
    source = strategy.spec.source
    return {
        "name": strategy.metadata.name,
        "account": strategy.spec.account or spec.default_account,
        "instruments": [spec.resolve(symbol) for symbol in strategy.spec.symbols],
        "module": source.class_,
        "file": source.file,
        "parameters": strategy.spec.parameters,
        "seed": strategy.spec.seed,
        "digest": source.digest,
        "shadow": strategy.spec.mode == "shadow",
        "shards": strategy.spec.replicas,
    }


def limit_book(spec: model.Spec, strategies: Sequence[Strategy] = ()) -> dict[str, Any]:
    """The manifest's ceilings in nanos, nanoseconds and basis points.

    A named account or strategy has its defaults' limits wherever its own set omits one; where the stack and the
    strategy's own manifest both set one, the strategy's is meant.
    """
    risk = spec.risk
    account, strategy = _limits(spec, risk.account_defaults), _limits(spec, risk.strategy_defaults)
    named = {name: {**strategy, **_limits(spec, limits)} for name, limits in risk.strategies.items()}
    for one in strategies:
        if own := own_limits(spec, one):
            named[one.metadata.name] = {**named.get(one.metadata.name, strategy), **own}
    return {
        "version": 1,
        "stack": _limits(spec, risk.limits),
        "account_default": account,
        "accounts": {name: {**account, **_limits(spec, limits)} for name, limits in risk.accounts.items()},
        "strategy_default": strategy,
        "strategies": named,
        "instruments": {spec.resolve(name): _limits(spec, limits) for name, limits in risk.instruments.items()},
        "traders": {name: _limits(spec, limits) for name, limits in risk.traders.items()},
        "desks": {name: _limits(spec, limits) for name, limits in risk.desks.items()},
        "reference_age_ns_max": duration_ns(risk.reference_age_max),
    }


def own_limits(spec: model.Spec, strategy: Strategy) -> dict[str, Any]:
    """Those that a strategy's own manifest sets, in the same units."""
    return _limits(spec, strategy.spec.risk)


_AMOUNTS = (
    "max_order_quantity",
    "max_order_value",
    "max_gross_exposure",
    "max_net_exposure",
    "max_position",
    "max_daily_loss",
)


def _limits(spec: model.Spec, limits: model.LimitSet) -> dict[str, Any]:
    found: dict[str, Any] = {name: amount_nanos(v) for name in _AMOUNTS if (v := getattr(limits, name)) is not None}
    if limits.max_open_orders is not None:
        found["max_open_orders"] = limits.max_open_orders
    for name in ("price_collar", "passive_collar", "price_window"):
        if (value := getattr(limits, name)) is not None:
            found[f"{name}_bps"] = basis_points(value)
    for name in ("order_rate", "max_executions"):
        if (rate := getattr(limits, name)) is not None:
            found[name] = {"count": rate.count, "per_ns": duration_ns(rate.per)}
    if limits.duplicate_window is not None:
        found["duplicate_window_ns"] = duration_ns(limits.duplicate_window)
    for name in ("allowed_instruments", "restricted"):
        if (names := getattr(limits, name)) is not None:
            found[name] = sorted(map(spec.resolve, names))
    if limits.allowed_venues is not None:
        found["allowed_venues"] = sorted(limits.allowed_venues)
    return found
