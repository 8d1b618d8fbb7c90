"""Every command against a running stack, as a person and as a script meet it."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.stack import ROOT, environment, wait_for
from tests.e2e.conftest import MakeStack
from tests.e2e.stack import QUIET, WAIT_SECONDS, Stack

ESCAPE = "\x1b"


def said(stack: Stack, *words: str, code: int = 0) -> str:
    """What a command prints; it must end with this exit code."""
    done = stack.cli(*words)
    assert done.returncode == code, f"trade2026 {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout if code == 0 else done.stdout + done.stderr


def asked(stack: Stack, *words: str) -> Any:
    """What a command answers with `--json`."""
    return json.loads(said(stack, *words, "--json"))


def submitted(stack: Stack, *words: str) -> str:
    """Submit an order; return its id."""
    return asked(stack, "order", "submit", *words)["order_id"]


@pytest.fixture(scope="module")
def filled(running_stack: Stack) -> str:
    """An order of the account `cli` that has filled, and is in the archive with all that came of it."""
    order_id = submitted(running_stack, "BTCUSDT", "buy", "0.002", "--account", "cli", "--strategy", "mm")
    running_stack.wait_status(order_id, "Filled")

    def traced() -> bool:
        done = running_stack.cli("trace", order_id, "--json")
        kinds = {event["type"] for event in json.loads(done.stdout)["events"]} if done.returncode == 0 else set()
        return {"OrderFilled", "PositionChanged", "PnlRealized"} <= kinds

    wait_for("the order is traced to its P&L", traced, WAIT_SECONDS)
    return order_id


def interruptible() -> None:
    """What was started in the background has Control-C ignored, and so have its children; here it is sent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# ── a stack ─────────────────────────────────────────────────────────────────────────────────────


def test_status_shows_every_service_with_its_numbers(running_stack: Stack, filled: str) -> None:
    running_stack.wait_ready()
    lines = [line.split() for line in said(running_stack, "status").splitlines()]
    assert lines[0][0] == "quickstart"
    heading = next(line for line in lines if line[:1] == ["SERVICE"])
    assert " ".join(heading) == "SERVICE PROCESS PORT READY P50 ms P99 ms ORDERS LAG RESTARTS"
    services = {line[0]: line for line in lines if len(line) == 9 and line is not heading}
    assert services.keys() >= {"oms", "risk", "gateway", "ptrc", "pnl", "archive"}
    assert services["oms"][2] == str(running_stack.port("oms"))
    assert asked(running_stack, "status")["ready"] is True


def test_watching_as_json_prints_an_object_a_line(running_stack: Stack) -> None:
    command = [sys.executable, "-m", "trade2026", "status", "--watch", "--json"]
    process = subprocess.Popen(
        [*command, "--state-dir", str(running_stack.state_dir)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment() | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=interruptible,
    )
    assert process.stdout is not None
    try:
        assert [json.loads(process.stdout.readline())["stack"] for _ in range(2)] == ["quickstart"] * 2
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(WAIT_SECONDS)
        process.stdout.close()
    assert process.returncode == 130


def test_what_is_unwell_is_said_and_the_exit_code_tells(make_stack: MakeStack) -> None:
    stack = make_stack()
    os.kill(stack.pids()[stack.release_of("gateway")], signal.SIGSTOP)

    def unwell() -> str | None:
        done = stack.cli("status")
        return done.stdout if done.returncode == 1 and "gateway: " in done.stdout else None

    said_of_it = wait_for("status says that the gateway is unwell", unwell, WAIT_SECONDS)
    assert re.search(r"^gateway +\S+ +\d+ +no", said_of_it, re.MULTILINE)


def test_apply_says_what_changed_and_what_was_left_alone(make_stack: MakeStack, tmp_path: Path) -> None:
    stack = make_stack()
    assert "nothing changed" in said(stack, "apply", "-f", str(QUIET))
    other = tmp_path / "slower.yaml"
    other.write_text(QUIET.read_text().replace("speed: 60", "speed: 30"))
    assert other.read_text() != QUIET.read_text()
    text = said(stack, "apply", "-f", str(other))
    assert f"{stack.release_of('gateway')}: started again" in text
    assert stack.release_of("oms") in text.split("untouched:")[1]


def test_down_stops_it_and_every_command_then_says_how_to_start_it(make_stack: MakeStack) -> None:
    stack = make_stack()
    order_id = submitted(stack, "BTCUSDT", "buy", "0.001")
    assert "is down; its state stays in" in said(stack, "down")
    for words in (
        ("status",),
        ("down",),
        ("apply", "-f", str(QUIET)),
        ("order", "list"),
        ("order", "show", order_id),
        ("positions",),
        ("pnl",),
        ("limits",),
        ("trace", order_id),
        ("kill", "--reason", "r"),
        ("resume", "--reason", "r"),
    ):
        assert "not" in said(stack, *words, code=3), words
    assert json.loads(stack.cli("order", "list", "--json").stderr)["error"]
    # What reads the log needs no stack.
    assert asked(stack, "replay")["orders"] == 1
    assert asked(stack, "replay", "--verify")["differences"] == []
    assert "OwnerStarted" in said(stack, "events", "tail")


def test_a_second_up_of_the_same_stack_is_refused(running_stack: Stack) -> None:
    text = said(running_stack, "up", "-f", str(QUIET), "--detach", code=1)
    assert "error: " in text
    assert running_stack.status()["ready"]


# ── orders ──────────────────────────────────────────────────────────────────────────────────────


def test_an_order_is_submitted_amended_listed_shown_and_canceled(running_stack: Stack) -> None:
    text = said(
        running_stack, "order", "submit", "BTCUSDT", "buy", "0.001", "--price", "30000", "--account", "cli-life"
    )
    order_id, status = text.split()
    assert status == "PendingNew"
    running_stack.wait_status(order_id, "New")
    assert said(running_stack, "order", "amend", order_id, "--price", "29000").split()[0] == order_id

    def amended() -> bool:
        order = asked(running_stack, "order", "show", order_id)
        return order["status"] == "New" and order["price"] == "29000"

    wait_for("the venue has taken the amendment", amended, WAIT_SECONDS)
    assert order_id in said(running_stack, "order", "list", "--account", "cli-life", "--status", "open")
    assert said(running_stack, "order", "cancel", order_id).split()[0] == order_id
    running_stack.wait_status(order_id, "Canceled")
    assert said(running_stack, "order", "list", "--account", "cli-life", "--status", "open") == "no orders\n"
    history = said(running_stack, "order", "show", order_id)
    for event in ("OrderAccepted", "OrderOpened", "ReplaceRequested", "OrderReplaced", "CancelRequested"):
        assert event in history


def test_all_open_orders_of_a_scope_are_canceled(running_stack: Stack) -> None:
    ids = [
        submitted(running_stack, "BTCUSDT", "buy", "0.001", "--price", "30000", "--account", "cli-all")
        for _ in range(2)
    ]
    assert asked(running_stack, "order", "cancel", "--all", "--scope", "account:cli-all")["asked"] == 2
    for order_id in ids:
        running_stack.wait_status(order_id, "Canceled")


def test_every_order_type_can_be_submitted(running_stack: Stack) -> None:
    base = ("--account", "cli-types")
    for words in (
        ("sell", "0.001", "--type", "STOP", "--stop-price", "30000"),
        ("sell", "0.001", "--type", "STOP_LIMIT", "--stop-price", "30000", "--price", "29000"),
        ("sell", "0.001", "--type", "TRAILING_STOP", "--stop-price", "30000", "--trailing-offset", "5000"),
        ("buy", "0.01", "--type", "ICEBERG", "--price", "30000", "--display-quantity", "0.001"),
        ("buy", "0.001", "--price", "30000", "--tif", "DAY", "--post-only"),
        ("buy", "0.001", "--price", "30000", "--tif", "GTD", "--expire-at", "2100-01-01T00:00:00Z"),
    ):
        assert submitted(running_stack, "BTCUSDT", *words, *base)
    assert asked(running_stack, "order", "cancel", "--all", "--scope", "account:cli-types")["asked"] == 6


def test_a_repeated_client_order_id_gives_the_first_answer(running_stack: Stack) -> None:
    words = ("BTCUSDT", "buy", "0.001", "--price", "30000", "--account", "cli-twice", "--id", "once")
    assert submitted(running_stack, *words) == submitted(running_stack, *words)
    other = [*words]
    other[2] = "0.002"
    assert "client_order_id" in said(running_stack, "order", "submit", *other, code=4)
    said(running_stack, "order", "cancel", "--all", "--scope", "account:cli-twice")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("order", "submit", "NOPE", "buy", "1"), "NOPE"),
        (("order", "submit", "BTCUSDT", "hold", "1"), "side"),
        (("order", "submit", "BTCUSDT", "buy", "-1"), ""),
        (("order", "submit", "BTCUSDT", "buy", "0.001", "--price", "45000.001"), "price"),
        (("order", "submit", "BTCUSDT", "buy", "5000"), "MAX_ORDER_QUANTITY"),
        (("order", "show", "o0-999999999"), "o0-999999999"),
        (("order", "cancel", "o0-999999999"), "o0-999999999"),
        (("trace", "o0-999999999"), "o0-999999999"),
        (("limits", "tighten", "max_order_value=99999999999", "--reason", "r"), "max_order_value"),
        (("kill", "--scope", "galaxy", "--reason", "r"), "scope"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_the_platform_refuses_is_explained(running_stack: Stack, words: tuple[str, ...], told: str) -> None:
    if "-1" in words:
        words = (*words[:4], "--", *words[4:])
        done = subprocess.run(
            [sys.executable, "-m", "trade2026", *words[:2], "--state-dir", str(running_stack.state_dir), *words[2:]],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment(),
            timeout=120,
        )
    else:
        done = running_stack.cli(*words)
    assert done.returncode == 4, done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("order", "submit", "BTCUSDT"),
        ("order", "submit", "BTCUSDT", "buy", "1", "--nonsense"),
        ("order", "list", "--limit", "0"),
        ("ordre",),
        ("limits", "tighten", "max_order_value", "--reason", "r"),
        ("kill",),
        ("events", "tail", "--topic", "nope"),
    ],
    ids=" ".join,
)
def test_wrong_usage_has_exit_code_2(running_stack: Stack, words: tuple[str, ...]) -> None:
    assert "Traceback" not in said(running_stack, *words, code=2)


# ── accounts, risk ──────────────────────────────────────────────────────────────────────────────


def test_positions_and_pnl_of_an_account_are_shown(running_stack: Stack, filled: str) -> None:
    assert re.search(r"^BTCUSDT.SIM +0.002 ", said(running_stack, "positions", "cli"), re.MULTILINE)
    assert asked(running_stack, "positions", "cli")["positions"][0]["quantity"] == "0.002"
    text = said(running_stack, "pnl", "cli")
    assert "by symbol" in text
    assert re.search(r"^mm ", text, re.MULTILINE)
    assert asked(running_stack, "pnl", "cli")["account"] == "cli"
    assert said(running_stack, "positions", "nobody") == "nobody has no positions\n"
    assert said(running_stack, "pnl", "nobody") == "nobody has no profit or loss: it has not traded\n"


def test_a_limit_is_tightened_and_then_refuses(running_stack: Stack) -> None:
    scope = ("--scope", "account:cli-tight")
    said(running_stack, "limits", "tighten", "max_order_quantity=0.5", *scope, "--reason", "test")
    assert re.search(r"^accounts:cli-tight +max_order_quantity +0.5$", said(running_stack, "limits"), re.MULTILINE)
    assert asked(running_stack, "limits", "show")["limits"]["accounts"]["cli-tight"]["max_order_quantity"] == "0.5"

    def refused() -> bool:
        done = running_stack.cli("order", "submit", "BTCUSDT", "buy", "1", "--price", "30000", "--account", "cli-tight")
        return "MAX_ORDER_QUANTITY" in done.stderr

    wait_for("the order service has adopted the limit", refused, WAIT_SECONDS)


def test_a_kill_stops_its_scope_until_it_is_resumed(running_stack: Stack) -> None:
    order = ("BTCUSDT", "buy", "0.001", "--price", "30000", "--account", "cli-kill")
    scope = ("--scope", "account:cli-kill")
    open_order = submitted(running_stack, *order)
    text = said(running_stack, "kill", *scope, "--reason", "test")
    assert "account:cli-kill is killed" in text
    assert "trade2026 resume --scope account:cli-kill" in text
    running_stack.wait_status(open_order, "Canceled")
    assert "KILLED" in said(running_stack, "order", "submit", *order, code=4)
    said(running_stack, "resume", *scope, "--reason", "test")
    wait_for("trading again", lambda: running_stack.cli("order", "submit", *order).returncode == 0, WAIT_SECONDS)
    said(running_stack, "order", "cancel", "--all", *scope)


def test_a_halt_lets_open_orders_work(running_stack: Stack) -> None:
    order = ("BTCUSDT", "buy", "0.001", "--price", "30000", "--account", "cli-halt")
    scope = ("--scope", "account:cli-halt")
    order_id = submitted(running_stack, *order)
    running_stack.wait_status(order_id, "New")
    assert "is halted" in said(running_stack, "kill", "--halt", *scope, "--reason", "test")
    said(running_stack, "order", "submit", *order, code=4)
    assert running_stack.order(order_id)["status"] == "New"
    said(running_stack, "resume", *scope, "--reason", "test")
    said(running_stack, "order", "cancel", order_id)


def test_a_halt_lets_a_reduce_only_order_fill(running_stack: Stack) -> None:
    account, scope = ("--account", "cli-reduce"), ("--scope", "account:cli-reduce")
    running_stack.wait_status(submitted(running_stack, "BTCUSDT", "buy", "0.002", *account), "Filled")
    said(running_stack, "kill", "--halt", *scope, "--reason", "test")
    try:
        order_id = submitted(running_stack, "BTCUSDT", "sell", "0.001", "--reduce-only", *account)
        running_stack.wait_status(order_id, "Filled")
        refused = said(running_stack, "order", "submit", "BTCUSDT", "sell", "0.001", *account, code=4)
        assert "HALTED" in refused
    finally:
        said(running_stack, "resume", *scope, "--reason", "test")


# ── the log ─────────────────────────────────────────────────────────────────────────────────────


def test_a_trace_shows_every_step_in_every_service_with_its_latency(running_stack: Stack, filled: str) -> None:
    text = said(running_stack, "trace", filled)
    steps = [line for line in text.splitlines() if "━" in line]
    services = ("oms", "gateway", "gateway", "oms", "oms")
    for service, event in zip(
        (*services, "ptrc", "pnl"),
        (
            "OrderAccepted",
            "VenueAccepted",
            "VenueFilled",
            "OrderOpened",
            "OrderFilled",
            "PositionChanged",
            "PnlRealized",
        ),
        strict=True,
    ):
        (step,) = [line for line in steps if f" {event} " in line]
        assert f" {service} " in step
        assert re.match(r" *\d+\.\d{3} ms +\+\d+\.\d{3} ms ", step)
    assert len(steps) == 7


def test_events_are_tailed_and_followed(running_stack: Stack, filled: str) -> None:
    lines = said(running_stack, "events", "tail", "--from", "0", "--json").splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(len(lines)))
    for topic in (
        "venue.reports",
        "risk.events",
        "positions",
        "pnl",
        "market.raw",
        "market.ticks",
        "market.books",
        "market.bars",
    ):
        assert f" {topic}/0/" in said(running_stack, "events", "tail", "--topic", topic)
    follower = subprocess.Popen(
        [
            *(sys.executable, "-m", "trade2026", "events", "tail", "--follow", "--json"),
            *("--state-dir", str(running_stack.state_dir)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment() | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=interruptible,
    )
    assert follower.stdout is not None
    try:
        order_id = submitted(running_stack, "BTCUSDT", "buy", "0.001", "--account", "cli-tail")
        for line in follower.stdout:
            if json.loads(line)["data"].get("order_id") == order_id:
                break
        else:
            pytest.fail("the follower ended before the order came")
    finally:
        follower.send_signal(signal.SIGINT)
        follower.wait(WAIT_SECONDS)
        follower.stdout.close()


def test_a_running_log_is_replayed_and_its_decisions_are_the_same(running_stack: Stack, filled: str) -> None:
    text = said(running_stack, "replay")
    assert re.match(r"[\d,]+ events in ", text)
    assert "every one is as it was recorded" in said(running_stack, "replay", "--verify")


def test_a_backup_of_a_running_stack_is_restored_elsewhere(running_stack: Stack, filled: str, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", tmp_path / "restored"
    assert "files" in said(running_stack, "backup", str(copy))
    assert (copy / "VERSION").exists() or list(copy.rglob("VERSION"))
    done = subprocess.run(
        [sys.executable, "-m", "trade2026", "restore", str(copy), "--state-dir", str(other), "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    replayed = subprocess.run(
        [sys.executable, "-m", "trade2026", "replay", "--verify", "--json", "--state-dir", str(other)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        timeout=120,
    )
    assert json.loads(replayed.stdout)["differences"] == []
    assert "error: " in said(running_stack, "restore", str(copy), code=1)  # it runs: nothing is put in its place


# ── tools ───────────────────────────────────────────────────────────────────────────────────────


def test_doctor_finds_a_running_stack_fit(running_stack: Stack) -> None:
    checks = {check["name"]: check for check in json.loads(running_stack.cli("doctor", "--json").stdout)["checks"]}
    assert {"python", "versions", "state directory", "ports", "disk", "fsync", "open files"} <= checks.keys()
    # Whether the disk is fast enough is not ours to say here.
    assert all(check["ok"] for name, check in checks.items() if name != "fsync")


def test_the_module_is_the_same_command() -> None:
    script = Path(sys.executable).parent / "trade2026"
    by_script, by_module = (
        subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60, cwd=ROOT).stdout
        for command in ([str(script)], [sys.executable, "-m", "trade2026"])
    )
    assert by_script == by_module
    assert "Begin with: trade2026 up -f manifests/quickstart.yaml" in by_module


@pytest.mark.parametrize(
    "words",
    [("status",), ("order", "list"), ("order", "show"), ("trace",), ("limits",), ("positions", "cli"), ("pnl", "cli")],
    ids=" ".join,
)
def test_what_a_script_reads_has_no_colour_and_does_not_depend_on_the_terminal(
    running_stack: Stack, filled: str, words: tuple[str, ...]
) -> None:
    words = (*words, filled) if words[-1] in ("show", "trace") else words
    texts = []
    for columns in ("20", "500"):
        done = subprocess.run(
            [sys.executable, "-m", "trade2026", *words, "--state-dir", str(running_stack.state_dir)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
            env=environment() | {"COLUMNS": columns, "TERM": "xterm-256color"},
        )
        assert ESCAPE not in done.stdout + done.stderr
        texts.append([line.split()[0] for line in done.stdout.splitlines() if line.split()])
    if words[0] != "status" and words[0] != "pnl":
        assert texts[0] == texts[1]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A narrow pseudo-terminal: (ours, the command's)."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    yield ours, theirs
    os.close(ours)


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_narrow_terminal_cuts_nothing_off_and_no_color_is_honoured(
    running_stack: Stack, filled: str, terminal: tuple[int, int], no_color: str
) -> None:
    ours, theirs = terminal
    process = subprocess.Popen(
        [sys.executable, "-m", "trade2026", "trace", filled, "--state-dir", str(running_stack.state_dir)],
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        cwd=ROOT,
        env=environment() | {"TERM": "xterm-256color", "NO_COLOR": no_color},
    )
    os.close(theirs)
    written = bytearray()
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
    assert process.wait(WAIT_SECONDS) == 0
    text = written.decode()
    assert "PositionChanged" in text
    assert "…" not in text
    if no_color:
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)


def test_the_first_order_is_counted_by_the_curl_of_questdb(running_stack: Stack, filled: str) -> None:
    port, query = running_stack.port("questdb"), urllib.parse.quote("SELECT COUNT(*) FROM orders")

    def counted() -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/exec?query={query}", timeout=WAIT_SECONDS) as answer:
            body = json.load(answer)
        assert body["columns"] == [{"name": "COUNT()", "type": "LONG"}]
        return body["dataset"][0][0]

    assert wait_for("the order is counted", counted, WAIT_SECONDS) >= 1


def test_a_query_is_a_table_json_or_csv(running_stack: Stack, filled: str) -> None:
    query = f"SELECT order_id, side FROM orders WHERE order_id = '{filled}'"
    wait_for("the order is there", lambda: filled in said(running_stack, "query", query), WAIT_SECONDS)
    assert [line.split() for line in said(running_stack, "query", query).splitlines()] == [
        ["order_id", "side"],
        [filled, "BUY"],
    ]
    assert asked(running_stack, "query", query)["dataset"] == [[filled, "BUY"]]
    assert said(running_stack, "query", query, "--csv") == f'"order_id","side"\n"{filled}","BUY"\n'


def test_a_query_that_is_wrong_says_where(running_stack: Stack) -> None:
    done = running_stack.cli("query", "SELECT nosuch FROM orders")
    assert done.returncode == 4
    assert done.stderr == "error: Invalid column: nosuch\n  SELECT nosuch FROM orders\n         ^\n"
