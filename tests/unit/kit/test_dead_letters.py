"""A record that can't be used is put down once, told until somebody has looked, and holds nobody up who may go on."""

import json
from pathlib import Path

import pytest
from tests.waiting import until

from trade2026.domain import events as ev
from trade2026.domain.events import Envelope, decode
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import Record, TopicConfig
from trade2026.kit.dead_letters import DeadLetters
from trade2026.kit.follower import Follower
from trade2026.kit.metrics import Metrics
from trade2026.kit.service import Health
from trade2026.sinks.machine import Feed, Intake, Unstorable
from trade2026.stores.lake import TableSpec

TOPIC = "risk.events"
GOOD = ev.encode(Envelope(0, 1, 1, 1, "desk", "ann", "", "", "", ev.Resumed(scope="stack", reason="test", by="ann")))
STRANGE = GOOD.replace(b"Resumed", b"Reconsidered")


def letters(folder: Path, metrics: Metrics | None = None) -> DeadLetters:
    return DeadLetters(folder, "sink", metrics or Metrics())


def test_a_record_stands_there_once_with_its_position_and_the_reason(tmp_path: Path) -> None:
    metrics = Metrics()
    dead = letters(tmp_path, metrics)
    assert (dead.health(), dead.path.exists()) == ({}, False)
    for _ in range(2):
        dead.put(Record(TOPIC, 1, 7, b"\xff{"), "not JSON")
    (line,) = [json.loads(line) for line in dead.path.read_text().splitlines()]
    assert line == {"topic": TOPIC, "partition": 1, "seq": 7, "reason": "not JSON", "body": "\ufffd{"}
    assert 'trade2026_dead_letters_total{service="sink"} 1\n' in metrics.text()
    again = letters(tmp_path)
    again.put(Record(TOPIC, 1, 7, b"\xff{"), "not JSON")
    assert again.count == 1, "also after a restart"


def test_it_is_told_until_the_file_is_moved_away_and_a_line_cut_off_by_a_crash_is_none(tmp_path: Path) -> None:
    dead = letters(tmp_path)
    dead.put(Record(TOPIC, 0, 1, b"x"), "why")
    assert dead.health() == {"dead_letters": Health(False, dead.health()["dead_letters"].detail)}
    with dead.path.open("a") as file:
        file.write('{"topic": "risk')
    assert letters(tmp_path).count == 1
    dead.path.rename(tmp_path / "seen")
    assert dead.health() == {}


def test_too_many_are_no_accident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trade2026.kit.dead_letters.LETTERS_MAX", 2)
    dead = letters(tmp_path)
    for seq in range(2):
        dead.put(Record(TOPIC, 0, seq, b"x"), "why")
    with pytest.raises(OverflowError, match="move the file away"):
        dead.put(Record(TOPIC, 0, 2, b"x"), "why")


async def test_who_may_go_on_goes_on_and_who_may_not_stops(tmp_path: Path) -> None:
    bus = MemoryBus([TopicConfig(name=TOPIC)])
    dead = letters(tmp_path)
    seen: dict[str, list[int]] = {"sink": [], "owner": []}
    sink = Follower(bus, TOPIC, lambda _, record: seen["sink"].append(record.seq), dead=dead)
    owner = Follower(bus, TOPIC, lambda _, record: seen["owner"].append(record.seq))
    for follower in (sink, owner):
        await follower.start()
    writer = await bus.claim(TOPIC, 0, "test")
    await writer.append([GOOD, STRANGE, GOOD])
    await until(lambda: seen["sink"] == [0, 2] and owner.error, "one goes on, one has stopped")
    assert (seen["owner"], owner.next_seq, sink.next_seq, sink.error, dead.count) == ([0], 1, 3, "", 1)
    for follower in (sink, owner):
        await follower.stop()
    await bus.close()


def test_a_row_that_cannot_be_made_takes_nothing_until_it_is_passed_over() -> None:
    def row(envelope: Envelope) -> tuple[int, int]:
        return (1, 1 // envelope.seq)

    intake = Intake(Feed(TOPIC, TableSpec("risk", (), (), ()), row), {}, 0, 0)
    with pytest.raises(Unstorable, match="ZeroDivisionError"):
        intake.take(decode(GOOD))
    assert (intake.next_seq, intake.rows) == (0, [])
    intake.pass_over()
    assert intake.next_seq == 1
