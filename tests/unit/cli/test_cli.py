"""The command line: help, JSON, exit codes, and errors that say what to do."""

import hashlib
import json
import os
import shlex
import socket
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
        "keys new, strategy new, strategy check, strategy backtest, strategy run, strategy list, strategy show, strategy stop, strategy halt, "
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


# ── how a stack is ──────────────────────────────────────────────────────────────────────────────


def status(**service: Any) -> dict[str, Any]:
    reading = {"name": "oms", "port": 8099, "ready": True, "detail": "", "stats": {"p50_ms": 1.5, "orders": 1234}}
    release = {"name": "orders", "failing": False, "reason": "", "restarts": 2, "services": [reading | service]}
    return {"stack": "desk", "version": "1", "ready": True, "stopping": False, "releases": [release]}


def drawn(answer: dict[str, Any]) -> list[str]:
    from rich.console import Console

    from trade2026.cli.table import status_table

    screen = Console(width=200)
    with screen.capture() as text:
        screen.print(status_table(answer))
    return text.get().splitlines()


def test_a_stack_that_is_well_needs_no_words() -> None:
    assert drawn(status())[-1].split() == ["oms", "orders", "8099", "yes", "1.50", "–", "1,234", "–", "2"]


def test_what_is_halted_is_said_first_with_who_since_when_why_and_how_it_ends() -> None:
    stop = {
        "scope": "account:main",
        "halt": True,
        "since": "2030-01-31T16:00:00Z",
        "by": "ann",
        "reason": "lunch",
        "unconfirmed_by": ["gateway"],
        "release": "trade2026 resume --scope account:main --reason …",
    }
    lines = drawn(status() | {"trading": "halted in part", "stops": [stop]})
    assert [line.strip() for line in lines[1:5]] == [
        "trading: halted in part",
        "account:main halted since 2030-01-31T16:00:00Z by ann: lunch",
        "not confirmed yet by gateway",
        "release it with: trade2026 resume --scope account:main --reason …",
    ]
    assert "and 5 more: trade2026 status --json" in "\n".join(
        drawn(status() | {"trading": "halted", "stops": [stop] * 15})
    )


def test_where_the_log_is_split_each_replica_shows_its_partitions() -> None:
    answer = status(stats={"partitions": [0, 1, 2, 5]})
    other = answer["releases"][0] | {"services": [{"name": "oms-1", "port": 8299, "ready": True, "detail": ""}]}
    other["services"][0]["stats"] = {"partitions": []}
    answer["releases"].append(other)
    assert [line.split()[-1] for line in drawn(answer)[1:]] == ["PARTITIONS", "0-2,5", "none"]
    assert "PARTITIONS" not in drawn(status(stats={"partitions": [0]}))[1]


def test_what_is_unwell_is_said_in_words_below_the_table() -> None:
    lines = drawn(status(unwell={"venue_reports": "gateway does not answer"}))
    assert "unwell" in lines[2]
    assert lines[-1].strip() == "oms: venue reports: gateway does not answer"
    assert drawn(status(ready=False, detail="replaying, 40%"))[-1].strip() == "oms: replaying, 40%"


def test_a_process_that_does_not_start_is_explained_by_the_end_of_its_log() -> None:
    answer = status(ready=False)
    answer["releases"][0] |= {"failing": True, "reason": "first line\nport 8099 is taken\n"}
    assert "orders: fails to start: port 8099 is taken" in drawn(answer)[-1]


def test_strategies_are_shown_below_the_services_with_their_profit_and_why_one_does_not_run() -> None:
    row = {
        "name": "maker",
        "status": "running",
        "reason": "",
        "account": "desk-1",
        "position": {"BTCUSDT.SIM": "-0.05"},
        "open_orders": 2,
        "decisions": 1200,
        "pnl": "-1234.567",
    }
    failed = {**row, "name": "dip", "status": "failed", "reason": "ValueError: no\nTraceback", "position": {}}
    lines = drawn(status() | {"strategies": [row, failed]})
    assert lines[-2].split() == ["maker", "running", "desk-1", "-0.05", "BTCUSDT.SIM", "2", "1,200", "-1,234.57", "–"]
    assert lines[-1].split() == ["dip", "failed", "desk-1", "–", "2", "1,200", "-1,234.57", "ValueError:", "no"]


# ── completion ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def complete(cli: Any) -> Any:
    def complete(line: str) -> list[str]:
        # As bash asks: the words, and which of them is being typed.
        words = line.split(" ")
        environment = {"_TRADE2026_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        code = "from trade2026.cli import main; main()"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ) | environment, timeout=60)
        assert done.stderr == ""
        return done.stdout.split()

    return complete


def test_ids_accounts_and_scopes_of_the_stack_are_completed(stack: Any, complete: Any) -> None:
    stack.answers["GET /orders?limit=100"] = (
        200,
        {"orders": [{"order_id": "o0-1", "account": "desk"}, {"order_id": "x"}]},
    )
    stack.answers["GET /orders?limit=100&status=open"] = (200, {"orders": [{"order_id": "o0-1"}]})
    stack.answers["GET /pnl"] = (200, {"accounts": [{"account": "main"}, {"account": "alpha"}]})
    assert complete("trade2026 order show o") == ["o0-1"]
    assert complete("trade2026 order cancel ") == ["o0-1"]
    assert complete("trade2026 positions ") == ["alpha", "desk", "main"]
    assert complete("trade2026 kill --scope account:a") == ["account:alpha"]


def test_strategies_and_symbols_of_the_stack_are_completed_and_no_word_that_a_shell_would_cut(
    stack: Any, complete: Any
) -> None:
    stack.answers["GET /pnl"] = (200, {"accounts": [{"account": "m a i n"}, {"account": "m#1"}, {"account": "m-2"}]})
    stack.answers["GET /strategies"] = (200, {"strategies": [{"name": "maker"}, {"name": "momentum"}]})
    stack.answers["GET /instruments"] = (200, {"instruments": [{"symbol": "BTCUSDT.SIM"}]})
    assert complete("trade2026 positions m") == ["m-2"]
    assert complete("trade2026 strategy halt ma") == ["maker"]
    assert complete("trade2026 kill --scope strategy:mo") == ["strategy:momentum"]
    assert complete("trade2026 order submit B") == ["BTCUSDT.SIM"]


def test_names_from_the_code_are_completed_without_a_stack(complete: Any) -> None:
    assert complete("trade2026 events tail --topic v") == ["venue.reports"]
    assert complete("trade2026 order submit BTCUSDT s") == ["sell"]
    assert "max_order_value=" in complete("trade2026 limits tighten max_o")


def test_parent_orders_are_completed(stack: Any, complete: Any) -> None:
    stack.answers["GET /parents?limit=100"] = (200, {"parents": [{"parent_id": "e0-1"}, {"parent_id": "e0-0"}]})
    stack.answers["GET /parents?limit=100&status=open"] = (200, {"parents": [{"parent_id": "e0-1"}]})
    assert complete("trade2026 parent show e") == ["e0-1", "e0-0"]
    assert complete("trade2026 parent cancel ") == ["e0-1"]
    assert complete("trade2026 parent submit BTCUSDT buy 1 --algo V") == ["VWAP"]


def test_a_stack_that_does_not_answer_offers_nothing(stack: Any, complete: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens there
        ports = stack.state.running()["ports"] | {"oms": taken.getsockname()[1]}
        stack.state.write_running({"stack": "desk", "host": "127.0.0.1", "ports": ports})
        assert complete("trade2026 order show ") == []


# ── parent orders ───────────────────────────────────────────────────────────────────────────────

PARENT = {"parent_id": "e0-1", "status": "Working", "cum_qty": "0.1", "quantity": "0.5"}


def test_a_parent_order_is_sent_as_it_was_given(cli: Any, stack: Any) -> None:
    stack.answers["POST /parents"] = (200, PARENT)
    terms = ("--duration", "10m", "--slices", "60", "--participation-max", "20%", "--id", "mine")
    result = cli("parent", "submit", "BTCUSDT", "buy", "0.5", *terms)
    assert (result.code, result.out) == (0, "e0-1 Working 0.1 of 0.5\n")
    sent = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.5", "algo": "TWAP", "client_order_id": "mine"}
    assert stack.asked == [
        ("POST /parents", {**sent, "duration": "10m", "slices": 60, "participation_max": "20%"}),
    ]


@pytest.mark.parametrize("what", ["pause", "resume", "cancel"])
def test_a_parent_order_is_changed_with_a_reason(cli: Any, stack: Any, what: str) -> None:
    stack.answers[f"POST /parents/e0-1/{what}"] = (200, PARENT)
    assert cli("parent", what, "e0-1", "--reason", "news").out == "e0-1 Working 0.1 of 0.5\n"
    assert stack.asked == [(f"POST /parents/e0-1/{what}", {"reason": "news"})]


def test_an_amendment_of_a_parent_order_names_what_changes(cli: Any, stack: Any) -> None:
    stack.answers["PATCH /parents/e0-1"] = (200, PARENT)
    assert cli("parent", "amend", "e0-1", "--quantity", "0.4").code == 0
    assert stack.asked == [("PATCH /parents/e0-1", {"quantity": "0.4"})]
    nothing = cli("parent", "amend", "e0-1")
    assert (nothing.code, "say what should change" in nothing.err) == (2, True)


def test_a_parent_order_is_shown_with_its_children_and_benchmarks(cli: Any, stack: Any) -> None:
    child = {"order_id": "o0-7", "status": "Filled", "quantity": "0.1", "cum_qty": "0.1", "avg_px": "45000"}
    benchmarks = {"arrival": {"price": "44990", "slippage_bps": 2.223}}
    whole = {**PARENT, "children": [child], "benchmarks": benchmarks}
    stack.answers["GET /parents/e0-1"] = (200, whole)
    shown = cli("parent", "show", "e0-1").out
    assert all(text in shown for text in ("Working", "arrival", "2.223", "o0-7"))
    assert cli("parent", "show", "e0-1", "--json").json == whole
    stack.answers["GET /parents?status=open&limit=50"] = (200, {"parents": [PARENT], "cursor": None})
    assert "e0-1" in cli("parent", "list", "--status", "open").out


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


# ── what a person is told ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("quantity", ["-1", "-0.5", "-.5"])
@pytest.mark.parametrize("what", ["order", "parent"])
def test_a_negative_quantity_is_no_option_but_a_mistake_that_is_explained(cli: Any, what: str, quantity: str) -> None:
    result = cli(what, "submit", "BTCUSDT", "buy", quantity)
    assert result.code == 2
    assert f"a quantity is above 0, not {quantity}" in result.err


def test_an_account_that_has_not_traded_has_no_positions_and_no_profit(cli: Any, stack: Any) -> None:
    stack.answers["GET /positions/nobody"] = 200, {"account": "nobody", "positions": []}
    stack.answers["GET /pnl/nobody"] = 404, {"detail": "it has not traded", "status": 404, "code": "unknown_account"}
    for command, told in (("positions", "nobody has no positions"), ("pnl", "nobody has no profit or loss")):
        result = cli(command, "nobody")
        assert (result.code, result.err) == (0, "")
        assert told in result.out
    assert cli("pnl", "nobody", "--json").json == {"account": "nobody", "by_symbol": []}


@pytest.mark.parametrize(
    ("scope", "halt", "told"),
    [
        ("stack", False, ["account:main is released, but may not trade yet", "stack is killed (by ann: prices)"]),
        ("strategy:mm", True, ["account:main may trade again", "strategy:mm is halted (by ann: prices)"]),
    ],
)
def test_a_release_names_the_stops_that_still_hold(
    cli: Any, stack: Any, scope: str, halt: bool, told: list[str]
) -> None:
    ports = stack.state.running()["ports"]
    stack.state.write_running({"stack": "desk", "host": "127.0.0.1", "ports": {**ports, "risk": ports["oms"]}})
    stop = {"scope": scope, "halt": halt, "by": "ann", "reason": "prices"}
    stack.answers["POST /resume"] = 200, {"scope": "account:main"}
    held = {**stop, "scope": "account:main"}
    stack.answers["GET /killed"] = [(200, {"killed": [stop, held]}), (200, {"killed": [stop]})]
    result = cli("resume", "--scope", "account:main", "--reason", "looked at it")
    assert result.code == 0
    assert all(line in result.out for line in told)
    again = cli("resume", "--scope", "account:main", "--reason", "x", "--json").json
    assert (again["still_stopped"], again["was_stopped"]) == ([stop], False)


def test_a_release_of_what_is_not_stopped_says_so(cli: Any, stack: Any) -> None:
    ports = stack.state.running()["ports"]
    stack.state.write_running({"stack": "desk", "host": "127.0.0.1", "ports": {**ports, "risk": ports["oms"]}})
    stack.answers["POST /resume"] = 200, {"scope": "account:mian"}
    stack.answers["GET /killed"] = 200, {"killed": []}
    stack.answers["GET /orders?account=mian&limit=1"] = 200, {"orders": []}
    stack.answers["GET /pnl"] = 200, {"accounts": [{"account": "main"}]}
    result = cli("resume", "--scope", "account:mian", "--reason", "looked at it")
    assert result.code == 0
    assert result.out.startswith(
        "account:mian was not stopped: nothing is released\nis the name right? No account 'mian'"
    )
    assert "did you mean 'main'?" in result.out


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        ("account:mian", "is the name right? No account 'mian' is defined here or has orders; did you mean 'main'?"),
        (
            "strategy:makr",
            "is the name right? No strategy 'makr' is defined here or has orders; did you mean 'maker'?",
        ),
        ("account:main", ""),
        ("account:old", ""),
        ("strategy:maker", ""),
        ("strategy:by-hand", ""),
        ("strategy:stopped", ""),
        ("trader:nobody", ""),
        ("stack", ""),
    ],
)
def test_a_kill_is_done_and_says_whose_name_is_nobodys(cli: Any, stack: Any, scope: str, told: str) -> None:
    (stack.state.path / "manifest.yaml").write_text(Path(QUICKSTART).read_text())
    stack.answers["POST /kill"] = 200, {"scope": scope}
    stack.answers["GET /pnl"] = 200, {"accounts": [{"account": "main"}]}
    stack.answers["GET /orders?account=mian&limit=1"] = 200, {"orders": []}
    stack.answers["GET /orders?account=old&limit=1"] = 200, {"orders": [{"order_id": "o0-1"}]}
    stack.answers["GET /orders?limit=1000"] = 200, {"orders": [{"strategy": "by-hand"}, {}]}
    stack.answers["GET /strategies"] = 200, {"strategies": [{"name": "stopped"}]}
    result = cli("kill", "--scope", scope, "--reason", "test")
    assert (result.code, f"{scope} is killed" in result.out) == (0, True)
    assert ("is the name right?" in result.out) == bool(told)
    assert told in result.out
    assert cli("kill", "--scope", scope, "--reason", "test", "--json").json["known"] is not bool(told)


def test_whose_name_it_is_can_stay_open_but_the_kill_is_done(cli: Any, stack: Any) -> None:
    stack.answers["POST /kill"] = 200, {"scope": "account:mian"}
    result = cli("kill", "--scope", "account:mian", "--reason", "test")
    assert (result.code, "is the name right?" in result.out) == (0, False)


@pytest.mark.parametrize(
    ("account", "others", "told"), [("mian", [], True), ("mian", ["o0-1"], False), ("main", [], False)]
)
def test_the_first_order_of_a_new_account_is_told(
    cli: Any, stack: Any, account: str, others: list[str], told: bool
) -> None:
    (stack.state.path / "manifest.yaml").write_text(Path(QUICKSTART).read_text())
    stack.answers["POST /orders"] = 200, {"order_id": "o0-2", "status": "PendingNew"}
    orders = [{"order_id": each} for each in ["o0-2", *others]]
    stack.answers[f"GET /orders?account={account}&limit=2"] = 200, {"orders": orders}
    result = cli("order", "submit", "BTCUSDT", "buy", "1", "--account", account)
    assert result.out == "o0-2 PendingNew\n"
    assert result.err == ("note: 'mian' is a new account; did you mean 'main'?\n" if told else "")


def test_a_release_says_that_it_could_not_ask_what_else_is_stopped_and_where(cli: Any, stack: Any) -> None:
    stack.answers["POST /resume"] = 200, {"scope": "account:main"}
    risk = f"risk of desk at 127.0.0.1:{stack.state.running()['ports']['risk']} is not listening"
    result = cli("resume", "--scope", "account:main", "--reason", "looked at it")
    assert result.code == 0
    assert "account:main is released (by oms)" in result.out
    assert "may trade again" not in result.out
    assert risk in result.out
    told = cli("resume", "--scope", "account:main", "--reason", "x", "--json").json
    assert (told["still_stopped"], told["by"]) == (None, "oms")
    assert len(told["failures"]) == 2
    assert all(risk in failure for failure in told["failures"])
