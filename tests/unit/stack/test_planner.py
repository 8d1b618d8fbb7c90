"""The planner is a pure function from a manifest to processes."""

import json
from pathlib import Path

import msgspec
import pytest

from trade2026.controls.limits import LimitBook, Rate
from trade2026.kit.settings import ProcessSettings
from trade2026.stack.facts import GROUPS, SERVICES, STRATEGY_SHARDS_MAX, TOPICS, ports_of
from trade2026.stack.manifest import load, loads
from trade2026.stack.model import TradingStack
from trade2026.stack.planner import PlanError, changes, plan

MANIFESTS = Path(__file__).parents[3] / "manifests"

TEXT = """\
apiVersion: trade2026.io/v1alpha1
kind: TradingStack
metadata: {name: desk}
spec:
  venues: [{name: SIM, config: {speed: 1.5}}, {name: ALT}]
  instruments:
    - {symbol: BTCUSDT, tickSize: "0.01", lotSize: "0.00001", takerFeeBps: 5}
    - {symbol: ETHEUR, venue: ALT, base: ETH, quote: EUR, tickSize: 1, lotSize: 1}
  services: {pnl: {config: {method: fifo}}}
  risk:
    limits: {maxOrderValue: 1000.5, priceCollar: 5%, passiveCollar: 250bps, priceWindow: 10bps}
    accountDefaults: {maxOpenOrders: 7, orderRate: {count: 2, per: 500ms}, duplicateWindow: 0s}
    accounts: {alpha: {maxOpenOrders: 9, restricted: [BTCUSDT], allowedVenues: [SIM]}}
    strategies: {mm: {maxExecutions: {count: 3, per: 1m}}}
    instruments: {BTCUSDT: {maxPosition: "2"}}
    traders: {ann: {allowedInstruments: [ETHEUR.ALT]}}
    referenceAgeMax: 5s
"""


@pytest.fixture
def stack() -> TradingStack:
    return loads(TEXT)


def settings_of(stack: TradingStack, release: str, port_offset: int = 0) -> ProcessSettings:
    found = plan(stack, port_offset=port_offset).release(release)
    assert found is not None
    return msgspec.json.decode(json.dumps(found.settings), type=ProcessSettings)


def test_compact_placement_is_five_processes_with_the_order_path_alone(stack: TradingStack) -> None:
    assert {release.name: release.services for release in plan(stack).releases} == {
        "orders": ("oms",),
        "venue": ("gateway", "normalizer"),
        "risk": ("risk", "exeq"),
        "projections": ("ptrc", "pnl", "archive", "monitoring"),
        "data": ("hot_cache", "sink-ticks", "questdb_writer", "logger"),
    }


REPLICAS = TEXT.replace(
    "services: {pnl: {config: {method: fifo}}}",
    """services: {oms: {replicas: {min: 3}}, pnl: {replicas: {min: 2}}}
  placement: spread
  bus: {type: kafka, partitions: 4, kafka: {bootstrapServers: "broker:9092"}}""",
)


def test_spread_placement_gives_each_service_and_each_replica_a_process() -> None:
    planned = plan(loads(REPLICAS))
    assert [release.name for release in planned.releases] == [
        *("oms", "oms-1", "oms-2", "gateway", "normalizer", "risk", "exeq"),
        *("ptrc", "pnl", "pnl-1", "archive", "monitoring", "hot_cache", "sink-ticks", "questdb_writer", "logger"),
    ]
    assert {len(release.services) for release in planned.releases} == {1}
    assert planned.releases[2].instances == ("oms-2",)
    assert len(set(planned.ports.values())) == len(planned.ports)


def test_a_replica_listens_on_a_port_of_its_own_and_only_its_process_is_told() -> None:
    stack = loads(REPLICAS)
    planned, second = plan(stack), settings_of(stack, "oms-1")
    assert (second.release, second.services, second.url("oms")) == ("oms-1", ["oms"], "http://127.0.0.1:8299")
    replica = planned.release("oms-1")
    assert replica is not None
    assert planned.ports_of(replica) == {"oms-1": 8299}
    fewer = plan(loads(REPLICAS.replace("oms: {replicas: {min: 3}}", "oms: {replicas: {min: 1}}")))
    for release in fewer.releases:
        before = planned.release(release.name)
        assert before is not None
        assert changes(before.settings, release.settings) == []
    unnamed = plan(loads(REPLICAS.replace("oms: {replicas: {min: 3}}, pnl: {replicas: {min: 2}}", "")))
    for release in unnamed.releases:
        before = planned.release(release.name)
        assert before is not None
        assert changes(before.settings, release.settings) == [], "naming a service with nothing to say changes nothing"


def test_only_what_is_split_by_account_has_the_partitions_of_the_manifest() -> None:
    settings = settings_of(loads(REPLICAS), "oms")
    parts = {topic.name for topic in settings.topics if topic.partitions == 4}
    assert parts == {"orders.events", "venue.reports", "exeq.events", "positions", "pnl"}
    fixed = {topic.name for topic in settings.topics if topic.partitions == STRATEGY_SHARDS_MAX}
    assert fixed == {"strategies.events", "strategies.shards"}
    assert {topic.partitions for topic in settings.topics} == {1, 4, STRATEGY_SHARDS_MAX}


def test_an_optional_service_runs_where_the_manifest_names_it_or_somebody_asks_for_it(stack: TradingStack) -> None:
    data = plan(loads(TEXT.replace("services: {", "services: {sink-alt: {}, "))).release("data")
    assert data is not None and "sink-alt" in data.services
    everywhere = {service for release in plan(stack).releases for service in release.services}
    assert "sink-alt" not in everywhere
    [asked] = plan(stack, services=["sink-alt"]).releases
    assert asked.services == ("sink-alt",)


def test_each_release_is_told_whom_its_services_follow_or_ask(stack: TradingStack) -> None:
    peers = {
        service: [(peer.name, peer.port) for peer in found]
        for release in plan(stack, port_offset=1000).releases
        for service, found in settings_of(stack, release.name, port_offset=1000).peers.items()
    }
    assert peers == {
        "oms": [("risk", 9103), ("gateway", 9080), ("normalizer", 9091)],
        "gateway": [("oms", 9099)],
        "normalizer": [("gateway", 9080)],
        "risk": [("oms", 9099), ("gateway", 9080), ("normalizer", 9091)],
        "exeq": [("oms", 9099), ("normalizer", 9091)],
        "ptrc": [("oms", 9099)],
        "pnl": [("oms", 9099), ("normalizer", 9091)],
        "archive": [("oms", 9099), ("gateway", 9080), ("ptrc", 9109), ("pnl", 9100)],
        "hot_cache": [("oms", 9099), ("normalizer", 9091)],
        "sink-ticks": [("normalizer", 9091)],
        "questdb_writer": [("oms", 9099), ("risk", 9103), ("normalizer", 9091), ("ptrc", 9109), ("pnl", 9100)],
        "monitoring": [],
        "logger": [("oms", 9099), ("risk", 9103), ("exeq", 9095)],
    }


def test_the_settings_have_the_shape_that_a_process_reads(stack: TradingStack) -> None:
    placed = {"state_dir", "host", "address", "service_host", "namespace"}  # known only where the process runs
    known = set(ProcessSettings.__struct_fields__) - placed
    for release in plan(stack).releases:
        assert set(release.settings) == known
        settings = msgspec.json.decode(json.dumps(release.settings), type=ProcessSettings)
        assert settings.services == list(release.services)
        assert {topic.name for topic in settings.topics} == {topic.name for topic in TOPICS}
        assert settings.free_bytes_min == 256 * 1024 * 1024


def test_amounts_durations_and_collars_become_integers(stack: TradingStack) -> None:
    book = msgspec.json.decode(settings_of(stack, "orders").risk, type=LimitBook, strict=True)
    assert book.stack.max_order_value == 1_000_500_000_000
    assert (book.stack.price_collar_bps, book.stack.passive_collar_bps, book.stack.price_window_bps) == (500, 250, 10)
    assert book.account_default.order_rate == Rate(count=2, per_ns=500_000_000)
    assert book.account_default.duplicate_window_ns == 0
    assert book.strategies["mm"].max_executions == Rate(count=3, per_ns=60_000_000_000)
    assert book.instruments["BTCUSDT.SIM"].max_position == 2_000_000_000
    assert book.traders["ann"].allowed_instruments == ["ETHEUR.ALT"]
    assert book.reference_age_ns_max == 5_000_000_000


def test_a_named_account_keeps_the_defaults_that_it_does_not_override(stack: TradingStack) -> None:
    alpha = msgspec.json.decode(settings_of(stack, "orders").risk, type=LimitBook).accounts["alpha"]
    assert alpha.max_open_orders == 9
    assert alpha.order_rate == Rate(count=2, per_ns=500_000_000)
    assert alpha.restricted == ["BTCUSDT.SIM"]


def test_every_limit_of_the_manifest_reaches_the_book() -> None:
    limits = (
        "{maxOrderQuantity: 1, maxOrderValue: 1, maxOpenOrders: 1, maxGrossExposure: 1, maxNetExposure: 1, maxPosition: 1,"
        " maxDailyLoss: 1, orderRate: {count: 1}, priceCollar: 1%, passiveCollar: 1%, priceWindow: 1bps, duplicateWindow: 1s,"
        " maxExecutions: {count: 1}, allowedInstruments: [BTCUSDT], allowedVenues: [SIM], restricted: [BTCUSDT]}"
    )
    stack = loads(
        TEXT.replace("{maxOrderValue: 1000.5, priceCollar: 5%, passiveCollar: 250bps, priceWindow: 10bps}", limits)
    )
    book = msgspec.json.decode(settings_of(stack, "orders").risk, type=LimitBook)
    assert [name for name in book.stack.__struct_fields__ if getattr(book.stack, name) is None] == []


def test_an_instrument_gets_what_its_text_implies(stack: TradingStack) -> None:
    bitcoin, ether = settings_of(stack, "orders").instruments
    assert (bitcoin.instrument_id, bitcoin.base, bitcoin.quote, bitcoin.settlement) == (
        "BTCUSDT.SIM",
        "BTC",
        "USDT",
        "USDT",
    )
    assert (bitcoin.tick_size, bitcoin.lot_size, bitcoin.taker_fee_bps) == (10_000_000, 10_000, 5)
    assert (ether.instrument_id, ether.base, ether.settlement) == ("ETHEUR.ALT", "ETH", "EUR")


def test_the_hash_is_the_same_for_the_same_manifest_however_it_is_written(stack: TradingStack) -> None:
    rewritten = loads(TEXT.replace("1000.5", '"1000.500"').replace("5%", "500bps").replace("1m}", "60s}"))
    assert plan(stack) == plan(rewritten)
    assert plan(stack).config_hash == plan(loads(TEXT)).config_hash


@pytest.mark.parametrize(
    "change",
    [("1000.5", "1000.6"), ("speed: 1.5", "speed: 2"), ("method: fifo", "method: lifo"), ("name: desk", "name: d")],
)
def test_the_hash_changes_with_any_planned_value(stack: TradingStack, change: tuple[str, str]) -> None:
    assert plan(loads(TEXT.replace(*change))).config_hash != plan(stack).config_hash


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        (("1000.5", "1000.6"), ["orders", "risk"]),
        (("speed: 1.5", "speed: 2"), ["venue"]),
        (("method: fifo", "method: lifo"), ["projections"]),
        (("takerFeeBps: 5", "takerFeeBps: 6"), [group for group in GROUPS if group != "strategies"]),
        (("1000.5", '"1000.5"'), []),
    ],
)
def test_a_change_touches_only_the_processes_that_read_it(
    stack: TradingStack, change: tuple[str, str], touched: list[str]
) -> None:
    before, after = plan(stack), plan(loads(TEXT.replace(*change)))
    differing = [
        new.name
        for old, new in zip(before.releases, after.releases, strict=True)
        if changes(old.settings, new.settings)
    ]
    assert differing == touched


def test_when_records_leave_the_bus_concerns_the_archive_alone(stack: TradingStack) -> None:
    for after, nanoseconds in (("30d", 30 * 86_400 * 10**9), ("1h", 3_600 * 10**9)):
        bus = stack.spec.bus.model_copy(update={"archive_after": after})
        changed = stack.model_copy(update={"spec": stack.spec.model_copy(update={"bus": bus})})
        releases = [release for release in plan(changed).releases if release not in plan(stack).releases]
        assert [release.settings["config"]["archive"] for release in releases] == [{"log_after_ns": nanoseconds}]
        assert "archive" in releases[0].services


def test_a_change_is_told_with_both_values(stack: TradingStack) -> None:
    after = plan(loads(TEXT.replace("speed: 1.5", "speed: 2"))).releases[1]
    assert changes(plan(stack).releases[1].settings, after.settings) == ["venues[0].config.speed: 1.5 -> 2"]


def test_a_port_offset_moves_every_port(stack: TradingStack) -> None:
    ports = settings_of(stack, "venue", port_offset=1000).ports
    assert ports == {name: port + 1000 for service in SERVICES for name, port in ports_of(service).items()}
    assert (ports["questdb_writer"], ports["questdb"]) == (9090, 10_000)


@pytest.mark.parametrize("offset", [-8080, 60_000])
def test_an_offset_beyond_the_ports_is_refused_with_the_range(stack: TradingStack, offset: int) -> None:
    with pytest.raises(PlanError, match=r"between -8079 and 56535"):
        plan(stack, port_offset=offset)


def test_only_the_services_that_are_asked_for_are_planned(stack: TradingStack) -> None:
    releases = plan(stack, services=["pnl", "oms"]).releases
    assert [(release.name, release.services) for release in releases] == [
        ("orders", ("oms",)),
        ("projections", ("pnl",)),
    ]


def test_an_unknown_service_is_refused_with_the_nearest(stack: TradingStack) -> None:
    with pytest.raises(PlanError, match=r"'gatway' is no service; did you mean 'gateway'\?"):
        plan(stack, services=["gatway"])


def test_every_service_has_a_group_a_port_of_its_own_and_known_topics() -> None:
    topics = {topic.name for topic in TOPICS}
    assert {facts.group for facts in SERVICES.values()} == set(GROUPS)
    assert len({facts.port for facts in SERVICES.values()}) == len(SERVICES)
    assert all({*facts.owns, *facts.follows} <= topics for facts in SERVICES.values())
    owners = {topic.name: topic.owner for topic in TOPICS}
    assert owners.pop("audit") == "every process"
    assert owners == {t: f.name for f in SERVICES.values() for t in f.owns}


def test_the_shipped_manifests_are_valid_and_let_an_account_send_a_thousand_orders_a_second() -> None:
    for name in ("quickstart", "bench"):
        stack = load(MANIFESTS / f"{name}.yaml")
        book = msgspec.json.decode(settings_of(stack, "orders").risk, type=LimitBook)
        limits = book.of("account", stack.spec.default_account)
        assert limits.order_rate is not None
        assert limits.order_rate.count * 1_000_000_000 >= 1_000 * limits.order_rate.per_ns
        assert limits.duplicate_window_ns == 0
        ten_minutes_value = 600 * 1_000 * 45_000 * 1_000_000
        assert limits.max_gross_exposure is None or limits.max_gross_exposure > ten_minutes_value
        assert book.stack.max_gross_exposure is None or book.stack.max_gross_exposure > ten_minutes_value
