"""What a process says for the audit log is written, whoever else writes there and whatever fails meanwhile."""

import asyncio
import json
import logging

import pytest
from tests.waiting import until

from trade2026.domain.events import Envelope, KeyRefused, KeyUsed, StackStopping, decode
from trade2026.kit import audit
from trade2026.kit.access import Access
from trade2026.kit.audit import REFUSED_AGAIN_NS, TOPIC, USED_AGAIN_NS, WAITING_MAX, AuditTrail, KeyUse
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import BusFull, TopicConfig
from trade2026.kit.identity import Keyring, Principal
from trade2026.kit.log import JsonFormatter
from trade2026.kit.problem import Problem


class Clock:
    def __init__(self) -> None:
        self.ns = 10**18

    def now(self) -> int:
        return self.ns


def a_trail(bus: MemoryBus, owner: str = "a", clock: Clock | None = None) -> AuditTrail:
    return AuditTrail(bus, [TOPIC], stack="s", owner=owner, clock=clock or Clock())  # type: ignore[arg-type]


async def written(bus: MemoryBus) -> list[Envelope]:
    return [decode(record.body) for record in await bus.read(TOPIC, 0, 0, 10_000)]


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus([TopicConfig(name=TOPIC)])


async def test_what_several_processes_say_at_a_time_is_written_once_each(bus: MemoryBus) -> None:
    trails = [a_trail(bus, name) for name in "abcdef"]
    for trail in trails:
        trail.start()
    for trail in trails:
        for n in range(5):
            trail.say(StackStopping(by=f"{trail.owner}{n}"), "ann")
            await asyncio.sleep(0)
    await until(lambda: all(not trail._waiting for trail in trails), "all is written")
    for trail in trails:
        await trail.stop()
    found = await written(bus)
    assert sorted(each.data.by for each in found) == sorted(f"{name}{n}" for name in "abcdef" for n in range(5))  # type: ignore[union-attr]
    assert {each.principal for each in found} == {"ann"}
    assert [each.seq for each in found] == list(range(30))


async def test_what_cannot_be_written_waits_and_is_written_when_it_can(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RETRY_SECONDS_MIN", 0.001)
    claim, full = bus.claim, [True]

    async def refuse(*words: object) -> object:
        if full:
            raise BusFull("no room")
        return await claim(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(bus, "claim", refuse)
    trail = a_trail(bus)
    trail.start()
    trail.say(StackStopping(by="ann"))
    await until(lambda: trail._warned, "it was tried")
    full.clear()
    await until(lambda: not trail._waiting, "it is written")
    await trail.stop()
    assert len(await written(bus)) == 1


async def test_what_waits_is_bounded_and_the_end_does_not_wait_for_ever(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(audit, "STOP_SECONDS_MAX", 0.01)

    async def refuse(*words: object) -> object:
        raise BusFull("no room")

    monkeypatch.setattr(bus, "claim", refuse)
    trail = a_trail(bus)
    trail.start()
    for _ in range(WAITING_MAX + 3):
        trail.say(StackStopping(by="ann"))
    assert trail.dropped == 3
    await trail.stop()
    assert "could not be written" in caplog.text


async def test_without_the_topic_nothing_is_said() -> None:
    trail = AuditTrail(MemoryBus([]), [], stack="s", owner="a", clock=Clock())  # type: ignore[arg-type]
    trail.start()
    trail.say(StackStopping(by="ann"))
    await trail.stop()
    assert not trail._waiting


async def test_the_use_of_a_key_is_said_once_an_hour_and_wrong_ones_are_counted(bus: MemoryBus) -> None:
    clock = Clock()
    trail = a_trail(bus, clock=clock)
    use = KeyUse(trail, "orders")
    ann, bob = Principal("ann", "trader"), Principal("bob", "viewer")
    for who in (ann, ann, bob):
        use.used(who)
    for _ in range(3):
        use.refused()
    clock.ns += USED_AGAIN_NS
    use.used(ann)
    use.refused()
    said = [(event, who) for event, who, _ in trail._waiting]
    assert said == [
        (KeyUsed(release="orders", role="trader"), "ann"),
        (KeyUsed(release="orders", role="viewer"), "bob"),
        (KeyRefused(release="orders", count=1), "anonymous"),
        (KeyUsed(release="orders", role="trader"), "ann"),
        (KeyRefused(release="orders", count=3), "anonymous"),
    ]
    assert REFUSED_AGAIN_NS < USED_AGAIN_NS


def test_an_open_service_has_no_keys_to_tell_of(bus: MemoryBus) -> None:
    trail = a_trail(bus)
    access = Access(Keyring("", "127.0.0.1"), KeyUse(trail, "orders"))
    access.admit({b"host": b"localhost"}, "viewer")
    assert not trail._waiting


def test_a_wrong_key_is_told(bus: MemoryBus, tmp_path) -> None:  # type: ignore[no-untyped-def]
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    trail = a_trail(bus)
    access = Access(Keyring(str(keys), "127.0.0.1"), KeyUse(trail, "orders"))
    with pytest.raises(Problem):
        access.admit({b"authorization": b"Bearer nobody's"}, "viewer")
    assert [type(event) for event, _, _ in trail._waiting] == [KeyRefused]


def test_a_line_of_the_log_names_the_trace_that_it_is_of() -> None:
    record = logging.LogRecord("kit", logging.ERROR, "", 0, "%s failed", ("GET /orders",), None)
    record.trace_id = "0af7651916cd43dd8448eb211c80319c"
    line = json.loads(JsonFormatter("orders").format(record))
    assert (line["trace_id"], line["message"], line["process"]) == (record.trace_id, "GET /orders failed", "orders")
