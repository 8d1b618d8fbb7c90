"""What is wrong with a manifest is said with its line, its field, and what to do."""

import contextlib
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade2026.stack.configs import SERVICE_CONFIGS, VENUE_CONFIGS
from trade2026.stack.manifest import ManifestError, load, loads, parse

RIGHT = """\
apiVersion: trade2026.io/v1alpha1
kind: TradingStack
metadata: {name: desk}
spec:
  version: 0.1.0
  placement: compact
  baseCurrency: USDT
  venues:
    - {name: SIM, type: replay, config: {speed: 60}}
  instruments:
    - {symbol: BTCUSDT, venue: SIM, tickSize: "0.01", lotSize: "0.00001"}
  risk:
    limits: {maxOrderValue: "1000"}
    accounts:
      main: {orderRate: {count: 10, per: 1s}}
"""

WRONG: list[tuple[str, str, str]] = [
    ("kind: TradingStack", "kind: Model", "kind: 'Model' is not run here; this is the place for a TradingStack"),
    ("apiVersion: trade2026.io/v1alpha1", "apiVersion: v2", "apiVersion: must be trade2026.io/v1alpha1"),
    ("kind: TradingStack\n", "", "kind: is missing; add it"),
    ("metadata: {name: desk}\n", "", "metadata: is missing; add it (name of the stack)"),
    ("name: desk", "name: My Desk", "metadata.name: is not written as it must be"),
    ("name: desk", "name: 7", "metadata.name: must be text; put it in quotes"),
    ("placement: compact", "placment: compact", "spec.placment: is no field here; did you mean 'placement'?"),
    ("placement: compact", "placement: spread", "spec.placement: 'spread' needs a bus that several machines share"),
    ("placement: compact", "placement: tight", "spec.placement: must be compact, grouped or spread"),
    ("placement: compact", "bus: {type: rabbit}", "spec.bus.type: must be embedded"),
    ("placement: compact", "placement: compakt", "must be compact, grouped or spread; did you mean 'compact'?"),
    ("placement: compact", "eventFormat: 2", "spec.eventFormat: 2 is no format that this version writes; use 1"),
    ("placement: compact", "eventFormat: true", "spec.eventFormat: must be a whole number"),
    ("placement: compact", "services: {omss: {}}", "spec.services.omss: 'omss' is no service; did you mean 'oms'?"),
    (
        "placement: compact",
        "services: {oms: {cofnig: {}}}",
        "spec.services.oms.cofnig: is no field here; did you mean 'config'?",
    ),
    (
        "placement: compact",
        "security: {keyFile: a}",
        "spec.security.keyFile: is no field here; did you mean 'keysFile'?",
    ),
    (
        "placement: compact",
        "observability: {traceSampling: 2}",
        "spec.observability.traceSampling: must be between 0 and 1",
    ),
    (
        "placement: compact",
        "observability: {otlpEndpoint: host}",
        "spec.observability.otlpEndpoint: is not written as it must",
    ),
    ("version: 0.1.0", "version: latest", "spec.version: is not written as it must be"),
    ("type: replay", "type: ftx", "spec.venues[0].type: 'ftx' is no kind of venue that this version runs; use replay"),
    ("name: SIM, type", "name: S.M, type", "spec.venues[0].name: is not written as it must be"),
    ("config: {speed: 60}", "config: 60", "spec.venues[0].config: must be a mapping (key: value)"),
    (
        "    - {name: SIM, type: replay, config: {speed: 60}}",
        "    - {name: SIM}\n    - {name: SIM}",
        "spec.venues: two venues are called 'SIM'; give each its own name",
    ),
    ("venue: SIM", "venue: SIMM", "spec.instruments[0].venue: 'SIMM' is no venue of this stack; did you mean 'SIM'?"),
    ('tickSize: "0.01", ', "", "spec.instruments[0].tickSize: is missing; add it (prices are multiples of this)"),
    ('tickSize: "0.01"', "ticksize: 0.01", "spec.instruments[0].ticksize: is no field here; did you mean 'tickSize'?"),
    (
        'tickSize: "0.01"',
        "tick_size: 0.01",
        "spec.instruments[0].tick_size: is no field here; did you mean 'tickSize'?",
    ),
    ('tickSize: "0.01"', "tickSize: 0", "spec.instruments[0].tickSize: must be above zero"),
    ('tickSize: "0.01"', "tickSize: yes", "spec.instruments[0].tickSize: must be a number or decimal text such as"),
    ('tickSize: "0.01"', "tickSize: a lot", "spec.instruments[0].tickSize: must be a number or decimal text such as"),
    ('tickSize: "0.01"', "tickSize: .nan", "spec.instruments[0].tickSize: NaN is not a finite number"),
    ('tickSize: "0.01"', 'tickSize: "0.0000000001"', "spec.instruments[0].tickSize: 1E-10 has more than 9 decimals"),
    ('lotSize: "0.00001"', 'lotSize: "1", takerFeeBps: 0.5', "spec.instruments[0].takerFeeBps: must be a whole number"),
    ('lotSize: "0.00001"', 'lotSize: "1", takerFeeBps: 9999', "spec.instruments[0].takerFeeBps: must be at most 1000"),
    (
        "symbol: BTCUSDT",
        "symbol: BTCEUR",
        "spec.instruments[0].quote: is missing, and 'BTCEUR' does not end with the base",
    ),
    ("symbol: BTCUSDT", "symbol: USDT", "spec.instruments[0].base: is missing and can't be told from 'USDT'"),
    (
        '    - {symbol: BTCUSDT, venue: SIM, tickSize: "0.01", lotSize: "0.00001"}',
        "    - {symbol: BTCUSDT, tickSize: 1, lotSize: 1}\n    - {symbol: BTCUSDT, tickSize: 1, lotSize: 1}",
        "spec.instruments[1]: BTCUSDT.SIM is listed twice; keep one of them",
    ),
    (
        '    - {symbol: BTCUSDT, venue: SIM, tickSize: "0.01", lotSize: "0.00001"}',
        "    []",
        "spec.instruments: is empty",
    ),
    ('maxOrderValue: "1000"', "maxOrderValue: -1", "spec.risk.limits.maxOrderValue: must not be negative, not -1"),
    (
        'maxOrderValue: "1000"',
        "maxOrderValue: false",
        "spec.risk.limits.maxOrderValue: must be a number or decimal text",
    ),
    (
        'maxOrderValue: "1000"',
        "maxOrdersValue: 1",
        "spec.risk.limits.maxOrdersValue: is no field here; did you mean 'maxOrderValue'?",
    ),
    ('maxOrderValue: "1000"', "maxOpenOrders: 1.5", "spec.risk.limits.maxOpenOrders: must be a whole number"),
    ('maxOrderValue: "1000"', "maxOpenOrders: true", "spec.risk.limits.maxOpenOrders: must be a whole number"),
    ('maxOrderValue: "1000"', "priceCollar: wide", "spec.risk.limits.priceCollar: must be basis points (100 is 1 %)"),
    ('maxOrderValue: "1000"', "priceCollar: 50", 'spec.risk.limits.priceCollar: needs its unit: "50bps" (basis points'),
    (
        'maxOrderValue: "1000"',
        'priceWindow: "50"',
        'spec.risk.limits.priceWindow: needs its unit: "50bps" (basis points',
    ),
    ('maxOrderValue: "1000"', "priceCollar: 0.001%", "spec.risk.limits.priceCollar: must be basis points (100 is 1 %)"),
    ('maxOrderValue: "1000"', "duplicateWindow: 5", "spec.risk.limits.duplicateWindow: must be a duration such as"),
    ('maxOrderValue: "1000"', "restricted: BTCUSDT", "spec.risk.limits.restricted: must be a list (- item)"),
    (
        'maxOrderValue: "1000"',
        "restricted: [BTCUST]",
        "spec.risk.limits.restricted[0]: 'BTCUST' is no instrument of this stack; did",
    ),
    (
        'maxOrderValue: "1000"',
        "allowedVenues: [SIN]",
        "spec.risk.limits.allowedVenues[0]: 'SIN' is no venue of this stack; did you",
    ),
    ("per: 1s", "per: 0s", "spec.risk.accounts.main.orderRate.per: must be above zero"),
    ("count: 10", "count: 0", "spec.risk.accounts.main.orderRate.count: must be at least 1"),
    ("count: 10, ", "", "spec.risk.accounts.main.orderRate.count: is missing; add it (how many at most)"),
    (
        "    accounts:\n      main:",
        "    instruments:\n      ETHUSDT:",
        "spec.risk.instruments: names what is no instrument of this stack; did you mean 'BTCUSDT'?",
    ),
    ("kind: TradingStack", "kind: TradingStack\nkind: TradingStack", "'kind' is given twice"),
    ("metadata: {name: desk}", "metadata: {name: desk", "is no YAML"),
    *[
        ("config: {speed: 60}", f"config: {{{setting}}}", f"spec.venues[0].config.{message}")
        for setting, message in (
            ("sped: 60", "sped: is no setting of a replay; did you mean 'speed'?"),
            ("speed: fast", "speed: must be a number above zero, such as 60, not 'fast'"),
            ("speed: 0", "speed: must be a number above zero, such as 60, not 0"),
            ("speed: true", "speed: must be a number above zero, such as 60, not true"),
            ("scale: -1", "scale: must be a number above zero, such as 60, not -1"),
            ("scale: 1e400", "scale: must be a number above zero"),
            ("loop: maybe", "loop: must be true or false, not 'maybe'"),
            ("seed: x", "seed: must be a whole number from 0 to"),
            ("gap_seconds_max: null", "gap_seconds_max: must be a number above zero, such as 60, not nothing"),
        )
    ],
    (
        "type: replay, config: {speed: 60}",
        "type: synthetic, config: {scale: 2}",
        "spec.venues[0].config.scale: is no setting of a synthetic",
    ),
    (
        "type: replay, config: {speed: 60}",
        "type: synthetic, config: {prices: {BTCUSDT: -1}}",
        "spec.venues[0].config.prices: of BTCUSDT must be a number above zero",
    ),
    (
        "placement: compact",
        "services: {oms: {config: {fast: true}}}",
        "spec.services.oms.config.fast: is no setting of oms; it has none",
    ),
    (
        "placement: compact",
        "services: {pnl: {config: {method: random}}}",
        "spec.services.pnl.config.method: must be average or fifo or lifo, not 'random'",
    ),
    (
        "placement: compact",
        "services: {archive: {config: {retention_days: 6}}}",
        "spec.services.archive.config.retention_days: must be a whole number from 7 to",
    ),
    ("placement: compact", "services: {oms: {replica: 2}}", "spec.services.oms.replica: is no field here"),
    (
        "placement: compact",
        "services: {gateway: {replicas: {min: 2}}}",
        "services.gateway.replicas: gateway runs once; more than one can be had of oms, exeq, ptrc, pnl",
    ),
    (
        "placement: compact",
        "services: {oms: {replicas: {min: 2}}}",
        "services.oms.replicas: the embedded bus is for one process a service; use bus.type kafka",
    ),
    (
        "placement: compact",
        "services: {oms: {replicas: {min: 3}}}\n  bus: {type: kafka, partitions: 2, kafka: {bootstrapServers: a:1}}",
        "services.oms.replicas: so many replicas can't share bus.partitions 2: some would have none",
    ),
    (
        "placement: compact",
        "services: {pnl: {replicas: {min: 2}}}\n  bus: {type: kafka, partitions: 2, kafka: {bootstrapServers: a:1}}",
        "services.pnl.replicas: pnl shares its process with others; use placement: spread",
    ),
    ("placement: compact", "bus: {partitions: 65}", "spec.bus.partitions: must be at most 64"),
    ("placement: compact", "bus: {type: embedded, replicas: 3}", "spec.bus.replicas: is no field here; known: type"),
    ("placement: compact", "bus: {freeSpaceMin: 5MB}", "spec.bus.freeSpaceMin: must be bytes or text such as"),
    ("placement: compact", "bus: {freeSpaceMin: -1}", "spec.bus.freeSpaceMin: must be bytes or text such as"),
    ("placement: compact", "bus: embedded", "spec.bus: must be a mapping (key: value)"),
    ('maxOrderValue: "1000"', "maxOrderValue: 1e400", "spec.risk.limits.maxOrderValue: 1.000000E+400 is larger than"),
    ('maxOrderValue: "1000"', 'maxOrderValue: "1_000"', "spec.risk.limits.maxOrderValue: must be a number or decimal"),
    ('maxOrderValue: "1000"', 'maxOrderValue: "\u0661"', "spec.risk.limits.maxOrderValue: must be a number or decimal"),
    ('maxOrderValue: "1000"', "maxOpenOrders: 99999999999", "spec.risk.limits.maxOpenOrders: must be at most"),
    ('maxOrderValue: "1000"', "priceCollar: 1e99", "spec.risk.limits.priceCollar: must be basis points (100 is 1 %)"),
    (
        'maxOrderValue: "1000"',
        "duplicateWindow: 9999999d",
        "spec.risk.limits.duplicateWindow: must be at most 100 years",
    ),
    ('maxOrderValue: "1000"', 'duplicateWindow: "\u0661s"', "spec.risk.limits.duplicateWindow: must be a duration"),
    (RIGHT, "- a", "is no mapping; a manifest begins with apiVersion, kind, metadata and spec"),
    (RIGHT, "", "is empty; a manifest begins with apiVersion, kind, metadata and spec"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG, ids=[message[:60] for _, _, message in WRONG])
def test_a_wrong_manifest_is_refused_with_what_to_do(old: str, new: str, message: str) -> None:
    assert old in RIGHT
    with pytest.raises(ManifestError) as caught:
        loads(RIGHT.replace(old, new))
    assert message in str(caught.value)


def test_the_right_manifest_is_accepted() -> None:
    stack = loads(RIGHT)
    assert stack.metadata.name == "desk"
    assert stack.spec.default_account == "main"


NO_YAML: dict[str, tuple[str, str]] = {
    "a tab": ("a:\n\t- x", "line 2: is no YAML"),
    "a colon too many": ("a: b: c", "line 1: is no YAML: mapping values are not allowed here"),
    "an open brace": ('{"kind": "TradingStack"', "line 1: is no YAML"),
    "an open quote": ('a: "b', "line 1: is no YAML: found unexpected end of stream"),
    "two documents": (RIGHT + "---\n" + RIGHT, "has several TradingStacks; one file is one stack"),
    "an unknown alias": ("a: *b", "line 1: is no YAML: found undefined alias 'b'"),
    "a tag of Python's": ('a: !!python/object/apply:os.system ["id"]', "line 1: is no YAML: could not determine a"),
    "a key that is a list": ("kind: TradingStack\n? [a, b]\n: c", "line 2: is no YAML: a key must be text"),
    "a number of 10,000 digits": ("a: " + "9" * 10_000, "is no YAML: Exceeds the limit"),
    "what is called a number": ("a: !!int x", "is no YAML: invalid literal"),
    "a zero byte": ("a: \0", "is no YAML: unacceptable character"),
    "endless lists": ("a: " + "[" * 1_000, "nests too deep; is it a manifest?"),
    "endless mappings": ("a: " + "{a: " * 1_000 + "1" + "}" * 1_000, "nests too deep; is it a manifest?"),
}


@pytest.mark.parametrize(("text", "message"), NO_YAML.values(), ids=NO_YAML)
def test_what_is_no_yaml_is_said_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        loads(text)
    assert message in str(caught.value)
    assert len(caught.value.faults) == 1


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_no_text_makes_the_reader_fail(text: str) -> None:
    for written in (text, RIGHT + text, RIGHT.replace("60", text[:20])):
        with contextlib.suppress(ManifestError):
            loads(written)


def test_the_settings_that_are_checked_are_those_that_services_read() -> None:
    from trade2026.gateway.venues import ReplayConfig, SyntheticConfig
    from trade2026.hot_cache.service import HotCacheConfig
    from trade2026.normalizer.machine import Rules
    from trade2026.pnl.service import PnlConfig
    from trade2026.ptrc.service import PtrcConfig
    from trade2026.questdb_writer.service import WriterConfig
    from trade2026.sink_alt.service import SinkAltConfig
    from trade2026.sink_ticks.service import SinkTicksConfig

    for known, read in (
        (VENUE_CONFIGS["replay"], ReplayConfig),
        (VENUE_CONFIGS["synthetic"], SyntheticConfig),
        (SERVICE_CONFIGS["pnl"], PnlConfig),
        (SERVICE_CONFIGS["ptrc"], PtrcConfig),
        (SERVICE_CONFIGS["normalizer"], Rules),
        (SERVICE_CONFIGS["hot_cache"], HotCacheConfig),
        (SERVICE_CONFIGS["sink-ticks"], SinkTicksConfig),
        (SERVICE_CONFIGS["sink-alt"], SinkAltConfig),
        (SERVICE_CONFIGS["questdb_writer"], WriterConfig),
    ):
        assert set(known) == set(read.__struct_fields__)
        for name, value in msgspec.to_builtins(read()).items():
            assert known[name](value) == ""


@pytest.mark.parametrize(
    "text",
    [
        *("250ms", "1.5s", "1m", "4h", "1d", "100tick", "0.5volume", "50000dollar"),
        *("", "1", "0s", "0.0m", "1.5tick", "-1s", "1 m", "1w", "m", "1.s", "٣s"),
    ],
)
def test_the_bars_that_a_manifest_may_ask_for_are_those_that_can_be_made(text: str) -> None:
    from trade2026.marketdata.bars import BarSpec

    try:
        known = bool(BarSpec.parse(text))
    except ValueError:
        known = False
    assert known == (SERVICE_CONFIGS["normalizer"]["intervals"]([text]) == "")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("intervals", [], "must be a list of 1 to 32 intervals"),
        ("intervals", ["1m", "often"], "has 'often', which is no bar"),
        ("window_ms", -1, "must be a whole number from 0 to 600000"),
        ("bad_prints", 3, "must be a mapping"),
        ("bad_prints", {"windows": 3}, "has 'windows', which is no setting of it; did you mean 'window'?"),
        ("bad_prints", {"deviations": "many"}, "has a deviations that must be a number above zero"),
        ("bad_prints", {"least": 60}, "must not have a least that is greater than its window"),
    ],
)
def test_a_wrong_rule_for_market_data_is_refused_with_what_to_do(setting: str, value: object, message: str) -> None:
    assert message in SERVICE_CONFIGS["normalizer"][setting](value)


def test_a_fault_names_its_line() -> None:
    with pytest.raises(ManifestError) as caught:
        loads(RIGHT.replace("maxOrderValue", "maxOrdersValue"))
    line = RIGHT.splitlines().index('    limits: {maxOrderValue: "1000"}') + 1
    assert [fault.line for fault in caught.value.faults] == [line]
    assert str(caught.value).startswith(f"line {line}: spec.risk.limits.maxOrdersValue")


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ManifestError) as caught:
        loads(RIGHT.replace("placement: compact", "placement: tight").replace('lotSize: "0.00001"', "lotSize: 0"))
    assert [fault.path for fault in caught.value.faults] == ["spec.instruments[0].lotSize", "spec.placement"]


@pytest.mark.parametrize("written", ['"0.1"', "0.1", '"0.100"'])
def test_amounts_are_exact_however_they_are_written(written: str) -> None:
    assert loads(RIGHT.replace('"0.01"', written)).spec.instruments[0].tick_size == "0.1"


def test_plain_values_from_another_reader_are_accepted() -> None:
    amounts: list[object] = [0.01, Decimal("0.01"), "0.01"]
    for amount in amounts:
        instrument = {"symbol": "BTCUSDT", "tickSize": amount, "lotSize": 1}
        document = {
            "apiVersion": "trade2026.io/v1alpha1",
            "kind": "TradingStack",
            "metadata": {"name": "desk", "uid": "x"},
            "spec": {"venues": [{"name": "SIM"}], "instruments": [instrument]},
            "status": {"conditions": []},
        }
        assert parse(document).spec.instruments[0].tick_size == "0.01"


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.yaml can't be read: No such file"):
        load(tmp_path / "none.yaml")


def test_every_field_of_the_manifest_is_described() -> None:
    from pydantic import BaseModel

    from trade2026.stack import model

    models = [
        m for m in vars(model).values() if isinstance(m, type) and issubclass(m, BaseModel) and m is not BaseModel
    ]
    assert [f"{m.__name__}.{n}" for m in models for n, f in m.model_fields.items() if not f.description] == []


def test_importing_the_stack_loads_neither_web_framework_nor_operator_nor_shell() -> None:
    code = (
        "import sys, trade2026.stack.manifest, trade2026.stack.planner\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('fastapi', 'starlette', 'kopf', 'uvicorn')"
        " or m.startswith('trade2026.kit')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
