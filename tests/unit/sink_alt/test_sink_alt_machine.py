"""Given what was registered and recorded, what becomes of a record."""

import json
from typing import Any

import pytest

from trade2026.domain.events import AltDiscarded, AltQuarantined, AltRecorded, AltSourceRegistered, Envelope
from trade2026.sink_alt import machine as machines
from trade2026.sink_alt.commands import AcceptRecord, DiscardRecord, RegisterSource, ReleaseRecord
from trade2026.sink_alt.machine import AltError, AltMachine

NOW = 1_700_000_000 * 10**9


def schema(**properties: Any) -> bytes:
    return json.dumps({"type": "object", "additionalProperties": False, "properties": properties}).encode()


NUMBER = schema(score={"type": "number"})
WIDER = schema(score={"type": ["number", "string"]})


class Desk:
    """A machine and the log that it makes."""

    def __init__(self) -> None:
        self.machine, self.log = AltMachine(), list[Envelope]()

    def do(self, command: Any) -> Any:
        def emit(event: Any) -> None:
            envelope = Envelope(self.machine.next_seq, 1, command.ts, command.ts, "t", "me", "", "", "", event)
            self.machine.apply(envelope)
            self.log.append(envelope)

        return self.machine.decide(command, emit)

    def register(self, text: bytes = NUMBER, source: str = "mood", about: str = "") -> int:
        return self.do(RegisterSource(ts=NOW, source=source, schema=text, about=about))

    def give(self, record_id: str, score: Any = 0.5, *, now: int = NOW, available: int = 0, symbol: str = "") -> Any:
        data = json.dumps({"score": score}).encode()
        return self.do(
            AcceptRecord(
                ts=now, source="mood", record_id=record_id, symbol=symbol, ts_event=NOW - 5, ts_available=available, data=data
            )
        )  # fmt: skip

    def refused(self, act: Any, *args: Any, **named: Any) -> str:
        before = len(self.log)
        with pytest.raises(AltError) as refusal:
            act(*args, **named)
        assert len(self.log) == before, "a refusal records nothing"
        return refusal.value.code

    @property
    def events(self) -> list[type]:
        return [type(each.data) for each in self.log]


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.register()
    return desk


def test_a_schema_is_registered_once_and_gets_a_version_with_each_compatible_change() -> None:
    desk = Desk()
    assert [desk.register(), desk.register(), desk.register(WIDER), desk.register(WIDER)] == [1, 1, 2, 2]
    assert desk.register(WIDER, about="what people feel") == 3
    assert desk.events == [AltSourceRegistered] * 3
    assert desk.refused(desk.register, NUMBER) == "incompatible_schema"
    assert desk.refused(desk.register, b'{"type": "text"}') == "bad_schema"
    assert desk.machine.sources["mood"].about == "what people feel"


def test_a_record_that_fits_is_kept_and_known_from_when_we_got_it(desk: Desk) -> None:
    outcome = desk.give("a", symbol="BTCUSDT.SIM")
    record = desk.log[-1].data
    assert isinstance(record, AltRecorded) and (outcome.status, outcome.seq) == ("accepted", 1)
    assert (record.symbol, record.version, record.ts_event) == ("BTCUSDT.SIM", 1, NOW - 5)
    assert (record.ts_available, record.ts_received, record.released) == (NOW, NOW, False)
    desk.give("b", available=NOW - 100)
    assert desk.log[-1].data.ts_available == NOW - 100  # type: ignore[union-attr]


def test_the_same_record_again_gets_the_first_answer_and_another_under_its_id_is_refused(desk: Desk) -> None:
    first, again = desk.give("a"), desk.give("a", now=NOW + 1)
    assert (again.seq, again.status, again.duplicate, first.duplicate) == (first.seq, "accepted", True, False)
    assert desk.refused(desk.give, "a", 0.75) == "record_id_reused"
    assert desk.refused(desk.give, "a", available=NOW - 1) == "record_id_reused"
    assert desk.events == [AltSourceRegistered, AltRecorded]


def test_a_record_that_does_not_fit_waits_with_the_reason_and_may_be_given_again_mended(desk: Desk) -> None:
    outcome = desk.give("a", "high")
    assert (outcome.status, outcome.reasons) == ("quarantined", ["data.score: is a string, not number"])
    assert desk.give("a", "high").duplicate
    assert desk.give("a", "low").status == "quarantined"
    assert [bytes(record.data) for _, record in desk.machine.quarantine.values()] == [b'{"score": "low"}']
    assert desk.give("a", 1).status == "accepted"
    assert not desk.machine.quarantine and desk.machine.quarantine_bytes == 0
    assert desk.events == [AltSourceRegistered, AltQuarantined, AltQuarantined, AltRecorded]


def test_what_is_released_after_the_schema_was_mended_is_known_only_from_then_on(desk: Desk) -> None:
    desk.give("a", "high")
    desk.give("b", "high", available=NOW - 100)
    release = [ReleaseRecord(ts=NOW + 50, source="mood", record_id=each) for each in "ab"]
    assert desk.do(release[0]).status == "quarantined"
    desk.register(WIDER)
    assert [desk.do(each).status for each in release] == ["accepted", "accepted"]
    records = [each.data for each in desk.log if isinstance(each.data, AltRecorded)]
    assert [(each.ts_available, each.ts_received, each.version, each.released) for each in records] == [
        (NOW + 50, NOW, 2, True),
        (NOW - 100, NOW, 2, True),  # its source says that it was known before
    ]
    assert desk.give("a", "high").duplicate
    assert desk.refused(desk.do, release[0]) == "not_in_quarantine"


def test_what_is_discarded_is_gone_and_its_id_is_free(desk: Desk) -> None:
    desk.give("a", "high")
    desk.do(DiscardRecord(ts=NOW, source="mood", record_id="a"))
    assert desk.events[-1] is AltDiscarded and not desk.machine.quarantine
    assert not desk.give("a", 1).duplicate


def test_a_record_from_the_future_can_t_be_known_already(desk: Desk) -> None:
    assert desk.give("a", available=NOW + machines.AHEAD_NS_MAX).status == "accepted"
    assert desk.give("b", available=NOW + machines.AHEAD_NS_MAX + 1).status == "quarantined"


def test_a_record_of_no_source_is_refused() -> None:
    assert Desk().refused(Desk().give, "a") == "unknown_source"


def test_a_full_quarantine_takes_no_more_and_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "QUARANTINE_RECORDS_MAX", 2)
    desk.give("a", "high")
    desk.give("b", "high")
    assert desk.refused(desk.give, "c", "high") == "quarantine_full"
    assert desk.give("c").status == "accepted"


def test_the_newest_ids_are_remembered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "REMEMBERED", 3)
    for number in range(10):
        desk.give(str(number))
    assert all(desk.give(str(number)).duplicate for number in (7, 8, 9))
    assert not desk.give("0").duplicate


def test_a_snapshot_and_what_follows_is_the_whole_log(desk: Desk) -> None:
    desk.give("a", 1)
    desk.give("b", "high")
    restored = AltMachine()
    restored.restore(desk.machine.snapshot())
    first = len(desk.log)
    desk.register(WIDER)
    desk.do(ReleaseRecord(ts=NOW, source="mood", record_id="b"))
    desk.give("c", 2)
    replayed = AltMachine()
    for envelope in desk.log:
        replayed.apply(envelope)
    for envelope in desk.log[first:]:
        restored.apply(envelope)
    assert restored.snapshot() == replayed.snapshot() == desk.machine.snapshot()
