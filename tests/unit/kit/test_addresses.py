"""A service with several replicas is asked at one that answers."""

import json
from pathlib import Path

import msgspec

from trade2026.kit.settings import ProcessSettings


def settings(state: Path) -> ProcessSettings:
    given = {
        "stack": "desk",
        "release": "risk",
        "services": ["risk"],
        "config_hash": "",
        "allowed_versions": [],
        "instruments": [],
        "venues": [],
        "topics": [],
        "ports": {"oms": 1, "sink-alt": 5},
        "state_dir": str(state),
    }
    return msgspec.convert(given, ProcessSettings)


def note(state: Path, **ports: int) -> None:
    (state / "run").mkdir(exist_ok=True)
    (state / "run" / "stack.json").write_text(json.dumps({"ports": {"oms": 1, **ports}, "stack": "desk"}))


def urls(*ports: int) -> list[str]:
    return [f"http://127.0.0.1:{port}" for port in ports]


def test_the_next_replica_is_meant_when_one_does_not_answer_whatever_has_come_and_gone(tmp_path: Path) -> None:
    where = settings(tmp_path).addresses("oms")
    where.move_on(where.url)
    assert where.url == urls(1)[0]
    note(tmp_path, **{"oms-1": 2, "oms-2": 3})
    found = []
    for _ in range(4):
        where.move_on(where.url)
        found.append(where.url)
    assert found == urls(2, 3, 1, 2)
    gone = where.url
    where.move_on("http://127.0.0.1:1")
    assert where.url == gone, "another has moved on already"
    note(tmp_path)
    where.move_on(gone)
    assert where.url == urls(1)[0]


def test_who_runs_now_is_read_anew_and_a_note_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    told = settings(tmp_path)
    note(tmp_path, **{"oms-1": 2})
    assert told.urls("oms") == urls(1, 2)
    assert told.urls("sink-alt") == urls(5)
    (tmp_path / "run" / "stack.json").write_text("{")
    assert told.urls("oms") == urls(1)
