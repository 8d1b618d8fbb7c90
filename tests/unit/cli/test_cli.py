"""The command line: help, JSON, exit codes, and errors that say what to do."""

import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from trade2026.cli.app import app
from trade2026.local.state import StateDir

MANIFESTS = Path(__file__).parents[3] / "manifests"
QUICKSTART = str(MANIFESTS / "quickstart.yaml")


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", None)
    if inner:
        for name, child in inner.items():
            yield from leaves(child, (*path, name))
    else:
        yield path, command


COMMANDS = dict(leaves(typer.main.get_command(app)))
IDS = [" ".join(path) for path in COMMANDS]


def test_every_command_that_is_promised_exists() -> None:
    promised = (
        "up, apply, down, status, serve, plan, validate, order submit, order cancel, order amend, order list, order show, "
        "positions, pnl, audit search, audit verify, audit export, monitoring show, monitoring rules, monitoring dashboards, limits show, limits tighten, limits slices, kill, resume, trace, events tail, replay, backup, restore, migrate, doctor, "
        "cluster up, cluster run, cluster load, cluster image, cluster status, cluster kill, cluster down, keys new, strategy new, strategy check, strategy backtest, strategy run, strategy list, strategy show, strategy stop, strategy halt, "
        "strategy release, cache get, cache keys, cache set, cache delete, cache watch, lake tables, lake query, lake optimize, query, "
        "parent submit, parent list, parent show, parent pause, parent resume, parent amend, parent cancel"
    )
    assert sorted(IDS) == sorted(promised.split(", "))


@pytest.mark.parametrize("path", COMMANDS, ids=IDS)
def test_the_help_of_every_command_has_an_example(cli: Any, path: tuple[str, ...]) -> None:
    result = cli(*path, "--help")
    assert result.code == 0
    assert f"trade2026 {' '.join(path)}" in result.out.split("Example")[1]


@pytest.mark.parametrize("path", COMMANDS, ids=IDS)
def test_every_command_speaks_json(path: tuple[str, ...]) -> None:
    assert "--json" in {option for parameter in COMMANDS[path].params for option in parameter.opts}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom trade2026.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = ('fastapi', 'starlette', 'uvicorn', 'pydantic', 'msgspec', 'yaml', 'rich', 'asyncio', 'http')\n"
        "print([m for m in sys.modules if m.split('.')[0] in heavy or m.startswith('trade2026.kit')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_command_gets_the_nearest(cli: Any) -> None:
    result = cli("ordr")
    assert (result.code, "'order'" in result.err) == (2, True)


# ── manifests ───────────────────────────────────────────────────────────────────────────────────


def test_a_right_manifest_is_valid(cli: Any) -> None:
    assert cli("validate", "-f", QUICKSTART, "--json").json == {
        "valid": True,
        "stack": "quickstart",
        "warnings": [],
    }


def test_a_right_manifest_is_told_in_one_line_what_only_a_cluster_heeds(cli: Any, tmp_path: Path) -> None:
    manifest = tmp_path / "operated.yaml"
    text = Path(QUICKSTART).read_text()
    manifest.write_text(text.replace("spec:\n", "spec:\n  paused: true\n  deletionPolicy: Delete\n", 1))
    result = cli("validate", "-f", str(manifest))
    assert result.code == 0
    assert result.err.splitlines() == ["warning: only a cluster heeds: spec.paused, spec.deletionPolicy"]


def test_a_right_manifest_is_warned_of_limits_that_are_cut_too_fine(cli: Any, tmp_path: Path) -> None:
    text = Path(QUICKSTART).with_name("kafka.yaml").read_text()
    manifest = tmp_path / "small.yaml"
    text = text.replace("bus:\n", "bus:\n    partitions: 3\n", 1)
    text = text.replace("lotSize:", 'minNotional: "10", lotSize:').replace(
        'maxGrossExposure: "5000000000"', 'maxGrossExposure: "29"\n      maxOpenOrders: 2'
    )
    manifest.write_text(text)
    result = cli("validate", "-f", str(manifest))
    assert result.code == 0
    assert "warning: max_open_orders of stack is 2 over 3 partitions, not one for each" in result.err
    assert "warning: max_gross_exposure of stack is 29 over 3 partitions, less than the smallest order" in result.err
    assert len(cli("validate", "-f", str(manifest), "--json").json["warnings"]) == 2


def test_a_wrong_manifest_is_told_with_its_line(cli: Any, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(Path(QUICKSTART).read_text().replace("baseCurrency", "baseCurency"))
    result = cli("validate", "-f", str(wrong))
    assert result.code == 2
    assert "line 7: spec.baseCurency: is no field here; did you mean 'baseCurrency'?" in result.err


@pytest.mark.parametrize("words", [("validate", "-f"), ("up", "-f"), ("strategy", "run")])
def test_a_manifest_that_is_not_there_is_named_once(cli: Any, stack: Any, words: tuple[str, ...]) -> None:
    (stack.state.path / "manifest.yaml").write_text(Path(QUICKSTART).read_text())
    stack.state.lock()
    result = cli(*words, "nosuch.yaml")
    assert (result.code, result.err.count("nosuch.yaml")) == (2, 1), result.err


def test_a_plan_shows_what_would_run(cli: Any) -> None:
    planned = cli("plan", "-f", QUICKSTART, "--json", "--port-offset", "7", "--services", "oms,pnl").json
    assert [(release["name"], release["services"]) for release in planned["releases"]] == [
        ("orders", ["oms"]),
        ("projections", ["pnl"]),
    ]
    assert planned["releases"][0]["settings"]["ports"]["oms"] == 8106
    assert planned["config_hash"][:8] not in cli("plan", "-f", QUICKSTART).out


# ── a stack that answers ────────────────────────────────────────────────────────────────────────


def test_an_order_is_sent_as_it_was_given(cli: Any, stack: Any) -> None:
    stack.answers["POST /orders"] = (200, {"order_id": "o1", "client_order_id": "a", "status": "PendingNew"})
    result = cli("order", "submit", "BTCUSDT", "buy", "0.001", "--price", "45000", "--id", "a", "--tif", "IOC")
    assert (result.code, result.out) == (0, "o1 PendingNew\n")
    sent = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "price": "45000", "client_order_id": "a"}
    assert stack.asked == [("POST /orders", {**sent, "time_in_force": "IOC"})]


def test_a_refusal_is_shown_with_its_code_and_what_the_platform_said(cli: Any, stack: Any) -> None:
    problem = {
        "status": 422,
        "code": "order_rejected",
        "detail": "too large",
        "reject_code": "MAX_ORDER_VALUE",
        "order_id": "o2",
    }
    stack.answers["POST /orders"] = (422, problem)
    result = cli("order", "submit", "BTCUSDT", "buy", "9")
    assert result.code == 4
    assert "is not known" not in result.err
    assert "too large [MAX_ORDER_VALUE]" in result.err
    assert "order_id: o2" in result.err
    as_json = cli("order", "submit", "BTCUSDT", "buy", "9", "--json")
    assert json.loads(as_json.err)["problem"] == problem


@pytest.mark.parametrize("given", ["", "mine"])
def test_where_nobody_knows_whether_an_order_was_taken_it_says_how_to_send_it_again_and_how_to_look(
    cli: Any, stack: Any, given: str
) -> None:
    stack.answers["POST /orders"] = (503, {"status": 503, "code": "uncertain", "detail": "the log can't be written"})
    named = ("--id", given) if given else ()
    result = cli("order", "submit", "BTCUSDT", "buy", "1", "--tif", "IOC", "--post-only", "--account", "a b", *named)
    ((_, sent),) = stack.asked
    name = sent["client_order_id"]
    assert name == given or name.startswith("cli-")
    assert f"under its client order id {name} it is one order" in result.err
    lines = [line.strip() for line in result.err.splitlines()]
    again = next(line for line in lines if line.startswith("trade2026 order submit"))
    assert "trade2026 order list --account 'a b' --json" in lines
    stack.answers["POST /orders"] = (200, {"order_id": "o0-1", "status": "New"})
    assert cli(*shlex.split(again)[1:]).out == "o0-1 New\n"
    assert stack.asked[1] == ("POST /orders", sent)


def test_a_trace_of_no_order_says_which_there_are(cli: Any, stack: Any) -> None:
    stack.answers["GET /trace/o7-1"] = 404, {"status": 404, "code": "unknown_order", "detail": "no order 'o7-1'"}
    stack.answers["GET /orders?limit=1"] = 200, {"orders": [{"order_id": "o0-17"}]}
    assert "the newest order is o0-17; `trade2026 order list`" in cli("trace", "o7-1").err
    stack.answers["GET /orders?limit=1"] = 200, {"orders": []}
    assert "there are no orders yet" in cli("trace", "o7-1").err


def test_events_from_a_position_that_is_not_there_say_which_are(cli: Any, stack: Any) -> None:
    result = cli("events", "tail", "--from", "9")
    assert (result.code, result.out) == (0, "")
    assert result.err == "note: orders.events/0 is empty, its next position is 0; 9 is none of them\n"


def test_validate_says_what_does_not_fit_a_state_directory(cli: Any, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.open()
    assert cli("validate", "-f", QUICKSTART, "--state-dir", str(state.path)).code == 0
    state.write_running({"bus": "embedded", "partitions": 4})
    result = cli("validate", "-f", QUICKSTART, "--state-dir", str(state.path))
    assert result.code == 2
    assert "this stack's log has 4, and that can't be changed" in result.err


def test_a_stack_that_is_up_is_not_moved_and_what_stops_it_is_told(cli: Any, stack: Any) -> None:
    (stack.state.path / "manifest.yaml").write_text(Path(QUICKSTART).read_text())
    stack.state.write_running({"stack": "quickstart"})
    stack.state.lock()
    result = cli("migrate", "-f", str(MANIFESTS / "kafka.yaml"), "--state-dir", str(stack.state.path), "--dry-run")
    assert result.code == 1
    assert f"Stop it with `trade2026 down --state-dir {stack.state.path}`, then give this command again" in result.err


def test_a_dry_run_of_a_move_names_what_becomes_of_stores_that_there_are(cli: Any, stack: Any) -> None:
    (stack.state.path / "manifest.yaml").write_text(Path(QUICKSTART).read_text())
    stack.state.write_running({"stack": "quickstart"})
    result = cli("migrate", "-f", str(MANIFESTS / "kafka.yaml"), "--state-dir", str(stack.state.path), "--dry-run")
    assert result.code == 0
    lines = [line.strip() for line in result.out.splitlines()]
    assert lines[-4:] == ["timeseries: moved", "cache: made anew", "lake: files", "nothing was changed"]


def test_orders_are_listed_with_the_way_to_more(cli: Any, stack: Any) -> None:
    order = {"order_id": "o1", "status": "New", "symbol": "BTCUSDT.SIM", "quantity": "1"}
    stack.answers["GET /orders?account=main&status=open&limit=1"] = (200, {"orders": [order], "cursor": "o1"})
    result = cli("order", "list", "--account", "main", "--status", "open", "--limit", "1")
    assert "BTCUSDT.SIM" in result.out
    assert "more: --cursor o1" in result.out


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("order", "cancel", "o1"), ("DELETE /orders/o1", None)),
        (
            ("order", "cancel", "--all", "--scope", "account:a", "--reason", "r"),
            ("POST /orders/cancel-all", {"scope": "account:a", "reason": "r"}),
        ),
        (("order", "amend", "o1", "--price", "2"), ("PATCH /orders/o1", {"price": "2"})),
        (("order", "show", "o1"), ("GET /orders/o1", None)),
        (("positions", "a"), ("GET /positions/a", None)),
        (("pnl", "a"), ("GET /pnl/a", None)),
    ],
)
def test_each_command_asks_its_endpoint(cli: Any, stack: Any, arguments: tuple[str, ...], asked: Any) -> None:
    stack.answers[asked[0]] = (200, {"order_id": "o1", "status": "New", "positions": [], "asked": 1})
    assert cli(*arguments).code == 0
    assert cli(*arguments, "--json").json["order_id"] == "o1"
    assert stack.asked == [asked, asked]


@pytest.mark.parametrize(
    "arguments", [("order", "cancel"), ("order", "cancel", "o1", "--all"), ("order", "amend", "o1")]
)
def test_contradicting_arguments_are_refused_before_anything_is_sent(
    cli: Any, stack: Any, arguments: tuple[str, ...]
) -> None:
    assert cli(*arguments).code == 2
    assert stack.asked == []


def test_the_key_of_the_environment_is_sent(cli: Any, stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADE2026_KEY", "secret")
    stack.answers["GET /positions/main"] = (200, {"positions": []})
    cli("positions")
    assert stack.headers[0]["Authorization"] == "Bearer secret"


def test_a_missing_key_is_explained(cli: Any, stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRADE2026_KEY", raising=False)
    stack.answers["GET /positions/main"] = (401, {"detail": "a key is needed", "status": 401})
    assert "TRADE2026_KEY" in cli("positions").err


def test_kill_goes_to_the_oms_when_risk_is_down(cli: Any, stack: Any) -> None:
    stack.answers["POST /kill"] = (200, {"scope": "stack", "asked": 2})
    answer = cli("kill", "--reason", "test", "--json").json
    assert (answer["by"], answer["asked"]) == ("oms", 2)
    assert "risk of desk" in answer["failures"][0]
    assert stack.asked == [("POST /kill", {"scope": "stack", "reason": "test"})]


@pytest.mark.parametrize(
    "words",
    [
        ("kill",),
        ("kill", "--halt"),
        ("resume",),
        ("limits", "tighten", "max_open_orders=1"),
        ("strategy", "halt", "mm"),
        ("strategy", "release", "mm"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("reason", ["", " "])
def test_an_empty_reason_is_none(cli: Any, stack: Any, words: tuple[str, ...], reason: str) -> None:
    result = cli(*words, "--reason", reason)
    assert (result.code, "say why" in result.err, stack.asked) == (2, True, [])


def test_a_kill_of_a_wrong_scope_is_refused_and_not_tried_elsewhere(cli: Any, stack: Any) -> None:
    stack.answers["POST /kill"] = (422, {"status": 422, "detail": "no such scope", "code": "bad_scope"})
    result = cli("kill", "--scope", "x", "--reason", "test")
    assert (result.code, len(stack.asked)) == (4, 1)


def test_nobody_to_kill_is_told_with_every_way_that_was_tried(cli: Any, stack: Any) -> None:
    stack.answers["POST /kill"] = (503, {"status": 503, "detail": "not ready"})
    result = cli("kill", "--reason", "test")
    assert result.code == 3
    assert all(f"{service}: " in result.err for service in ("risk", "oms", "gateway"))


def test_a_trace_is_drawn_in_the_order_of_time_with_its_causes(cli: Any, stack: Any) -> None:
    events = [
        {
            "event_id": "venue.reports/0/5",
            "type": "VenueFilled",
            "ts_init": "2026-01-01T00:00:00.004Z",
            "causation_id": "orders.events/0/1",
        },
        {
            "event_id": "orders.events/0/1",
            "type": "OrderAccepted",
            "ts_init": "2026-01-01T00:00:00.001Z",
            "causation_id": "",
        },
    ]
    stack.answers["GET /trace/o1"] = (200, {"order_id": "o1", "trace_id": "t", "events": events})
    lines = cli("trace", "o1").out.splitlines()
    accepted, filled = (next(line for line in lines if name in line) for name in ("OrderAccepted", "VenueFilled"))
    assert lines.index(accepted) < lines.index(filled)
    assert filled.split()[:2] == ["3.000", "ms"]
    assert "+3.000 ms" in filled
    assert "gateway" in filled
    assert filled.endswith("orders.events/0/1")
    assert accepted.endswith("a request")


def test_a_trace_without_an_id_is_that_of_the_newest_order_of_an_account(cli: Any, stack: Any) -> None:
    event = {"event_id": "orders.events/0/9", "type": "OrderAccepted", "ts_init": 1, "causation_id": ""}
    stack.answers["GET /orders?account=main&limit=1"] = (200, {"orders": [{"order_id": "o0-9"}]})
    stack.answers["GET /orders?account=none&limit=1"] = (200, {"orders": []})
    stack.answers["GET /trace/o0-9"] = (200, {"order_id": "o0-9", "trace_id": "t", "events": [event]})
    assert cli("trace").out.startswith("order o0-9, trace t")
    refused = cli("trace", "--account", "none")
    assert (refused.code, "none has no orders" in refused.err) == (1, True)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("maxOrderValue=10", {"max_order_value": "10"}),
        ("max_open_orders=3", {"max_open_orders": 3}),
        ("orderRate=5/10s", {"order_rate": {"count": 5, "per": "10s"}}),
        ("restricted=A,B", {"restricted": ["A", "B"]}),
    ],
)
def test_limits_are_tightened_in_the_words_of_the_manifest(cli: Any, text: str, sent: Any) -> None:
    from trade2026.cli.risk import _limit

    assert dict([_limit(text)]) == sent


def test_a_tightening_says_what_it_will_refuse_beyond_what_is_meant(cli: Any, stack: Any) -> None:
    stack.answers["POST /limits/tighten"] = (200, {"version": 2, "warnings": ["too fine"]})
    state = stack.state.running()
    stack.state.write_running(state | {"ports": state["ports"] | {"risk": state["ports"]["oms"]}})
    result = cli("limits", "tighten", "max_open_orders=2", "--reason", "thin")
    assert (result.code, "warning: too fine" in result.err) == (0, True)


def test_slices_are_shown_a_line_a_partition(cli: Any, stack: Any) -> None:
    parts = [{"partition": 0, "slice": "7", "used": "6"}, {"partition": 1, "slice": "3", "used": "0"}]
    limit = {"scope": "stack", "limit": "max_open_orders", "whole": "10", "slices": parts}
    stack.answers["GET /slices"] = (200, {"partitions": 2, "limits": [limit]})
    state = stack.state.running()
    stack.state.write_running(state | {"ports": state["ports"] | {"risk": state["ports"]["oms"]}})
    lines = [line.split() for line in cli("limits", "slices").out.splitlines()]
    assert ["stack", "max_open_orders", "10", "0", "7", "6"] in lines
    assert json.loads(cli("limits", "slices", "--json").out)["limits"] == [limit]
    stack.answers["GET /slices"] = (200, {"partitions": 1, "limits": []})
    assert "one partition" in cli("limits", "slices").out


def test_limits_are_shown_by_scope_in_words(cli: Any, stack: Any) -> None:
    rate = {"count": 2000, "per_ns": 1_000_000_000}
    tightened = {"scope": "stack", "limits": {"price_collar_bps": 100}, "by": "ann", "until": "2030", "reason": "thin"}
    limits = {"stack": {"price_collar_bps": 100}, "accounts": {"a": {"order_rate": rate}}, "desks": {}}
    stack.answers["GET /limits"] = (200, {"version": 7, "limits": limits, "tightened": [tightened]})
    state = stack.state.running()
    stack.state.write_running(state | {"ports": state["ports"] | {"risk": state["ports"]["oms"]}})
    lines = [line.split() for line in cli("limits").out.splitlines()]
    assert ["stack", "price_collar_bps", "100"] in lines
    assert ["accounts:a", "order_rate", "2000", "per", "1", "s"] in lines
    assert "tightened by ann, until 2030" in cli("limits", "show").out


# ── no stack ────────────────────────────────────────────────────────────────────────────────────


def test_a_stack_that_is_not_up_is_said_so(cli: Any, stack: Any) -> None:
    assert "desk is not up" in cli("down").err
    status = cli("status")
    assert (status.code, "start it with `trade2026 up`" in status.err) == (3, True)


def test_several_stacks_are_not_guessed_between(cli: Any, stack: Any, tmp_path: Path) -> None:
    from trade2026.local.state import StateDir

    StateDir(tmp_path / ".trade2026" / "other").open()
    result = cli("positions")
    assert result.code == 2
    assert ".trade2026/desk, .trade2026/other" in result.err


def test_what_a_restore_put_aside_is_not_meant(cli: Any, stack: Any, tmp_path: Path) -> None:
    from trade2026.local.state import StateDir

    StateDir(tmp_path / ".trade2026" / "desk.before-20260101T000000Z").open()
    stack.answers["GET /positions/main"] = (200, {"positions": []})
    assert cli("positions").code == 0


def test_doctor_says_what_to_do_where_it_is_wrong(cli: Any, stack: Any) -> None:
    (stack.state.path / "VERSION").write_text("9")
    result = cli("doctor", "--state-dir", str(stack.state.path), "--fsyncs", "1", "--json")
    checks = {check["name"]: check for check in result.json["checks"]}
    assert result.code == 1
    assert "this version reads format 1" in checks["state directory"]["do"]
    assert checks["python"]["ok"]


def test_a_backup_is_made_and_restored(cli: Any, stack: Any) -> None:
    (stack.state.path / "note").write_text("before")
    assert "note" in cli("backup", "copy", "--json").json["files"]
    (stack.state.path / "note").write_text("after")
    restored = cli("restore", "copy", "--json").json
    assert (stack.state.path / "note").read_text() == "before"
    assert (Path(restored["aside"]) / "note").read_text() == "after"


def test_a_new_key_is_shown_once_and_only_its_hash_is_kept(cli: Any, tmp_path: Path) -> None:
    cli("keys", "new", "ann", "--role", "risk", "--keys-file", "keys.json")
    made = cli("keys", "new", "bot", "--accounts", "a,b", "--keys-file", "keys.json", "--json").json
    written = (tmp_path / "keys.json").read_text()
    ann, bot = json.loads(written)["keys"]
    assert made["key"] not in written
    assert (ann["principal"], ann["role"], ann["accounts"]) == ("ann", "risk", None)
    assert (bot["principal"], bot["role"], bot["accounts"]) == ("bot", "trader", ["a", "b"])
    assert bot["sha256"] == hashlib.sha256(made["key"].encode()).hexdigest()
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0


def test_an_unknown_role_is_refused_with_the_nearest(cli: Any, tmp_path: Path) -> None:
    result = cli("keys", "new", "ann", "--role", "trade", "--keys-file", "keys.json")
    assert (result.code, "did you mean 'trader'?" in result.err) == (2, True)
    assert not (tmp_path / "keys.json").exists()


async def _write_events(state: Any, count: int, partition: int = 0) -> None:
    from trade2026.cli.log import open_bus
    from trade2026.domain.events import Envelope, Killed, encode

    (state.path / "bus" / "orders.events" / str(partition)).mkdir(parents=True, exist_ok=True)
    bus = open_bus(state)
    writer = await bus.claim("orders.events", partition, "test")
    event = Killed(scope="stack", reason="test", by="me")
    for seq in range(count):
        envelope = Envelope(seq, writer.epoch, 1, 1, "desk", "me", "", "", "", event)
        await writer.append([encode(envelope)])
    await writer.close()
    await bus.close()


def test_events_are_printed_from_a_position(cli: Any, stack: Any) -> None:
    import asyncio

    asyncio.run(_write_events(stack.state, 3))
    lines = cli("events", "tail", "--from", "1", "--json").out.splitlines()
    assert [json.loads(line)["event_id"] for line in lines] == ["orders.events/0/1", "orders.events/0/2"]
    assert "orders.events/0/2 Killed scope=stack" in cli("events", "tail").out
    assert "did you mean 'orders.events'" in cli("events", "tail", "--topic", "order.events").err


def test_events_of_all_partitions_are_printed_and_folded_or_those_of_one(cli: Any, stack: Any) -> None:
    import asyncio

    for partition in (0, 2):
        asyncio.run(_write_events(stack.state, 2, partition))
    ids = [json.loads(line)["event_id"] for line in cli("events", "tail", "--json").out.splitlines()]
    assert ids == ["orders.events/0/0", "orders.events/0/1", "orders.events/2/0", "orders.events/2/1"]
    one = cli("events", "tail", "--partition", "2", "--from", "1", "--json").out.splitlines()
    assert [json.loads(line)["event_id"] for line in one] == ["orders.events/2/1"]
    assert "has no partition 3: it has partitions 0 to 2" in cli("events", "tail", "--partition", "3").err
    assert json.loads(cli("replay", "--json").out)["events"] == 4


def test_the_log_is_folded_again(cli: Any, stack: Any) -> None:
    import asyncio

    asyncio.run(_write_events(stack.state, 3))
    assert cli("replay", "--json").json["events"] == 3
