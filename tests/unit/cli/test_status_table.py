"""How a stack is, as a person sees it."""

from typing import Any


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
