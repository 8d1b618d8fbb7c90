"""Cells begin and end as a membership says, and whose an account is is said by the same."""

import asyncio
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from tests.waiting import until

from trade2026.domain.shards import partition_of
from trade2026.kit import cells as cells_module
from trade2026.kit.bus.membership import EmbeddedMembership, Holder, Member
from trade2026.kit.bus.port import BusRefused
from trade2026.kit.cell_service import CellService
from trade2026.kit.cells import Cells
from trade2026.kit.clock import WallClock
from trade2026.kit.forward import HOP, Elsewhere, Forwarder, require_done
from trade2026.kit.identity import LOCAL
from trade2026.kit.messages import Request
from trade2026.kit.metrics import Metrics
from trade2026.kit.problem import Problem
from trade2026.kit.service import Context, Health

ME, OTHER = Member("a", "127.0.0.1:1"), Member("b", "127.0.0.1:2")
P = 4


class Advice:
    """A membership that says what the test says."""

    replaced = ""
    detail = ""

    def __init__(self) -> None:
        self.me, self.partitions = ME, P
        self.held: frozenset[int] = frozenset()
        self.known: dict[int, Member] = {}
        self.looked = 0
        self.holder: Holder | None = None

    async def join(self, holder: Holder) -> None:
        self.holder = holder
        await holder.take(self.held)

    async def leave(self) -> None:
        assert self.holder is not None
        held, self.held = self.held, frozenset()
        await self.holder.let_go(held)

    def whose(self, partition: int) -> Member | None:
        return self.known.get(partition)

    async def look(self) -> None:
        self.looked += 1


class Fake:
    """A cell that starts when the test lets it, or breaks as often as the test says."""

    breaks = 0

    def __init__(self, partition: int) -> None:
        self.partition, self.fenced, self.stopped = partition, False, False
        self.may_start = asyncio.Event()
        self.may_start.set()

    def readiness(self) -> tuple[bool, str]:
        return self.may_start.is_set(), "folded 3 of 7"

    def health(self) -> dict[str, Health]:
        return {"log": Health(not self.fenced, "fenced" if self.fenced else "")}

    async def start(self) -> None:
        await self.may_start.wait()
        if Fake.breaks:
            Fake.breaks -= 1
            raise OSError("no luck")

    async def stop(self) -> None:
        self.stopped = True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells_module, "_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(cells_module, "_SHARE_SECONDS_MAX", 0.001)
    Fake.breaks = 0


async def test_a_process_alone_has_all_cells_when_it_has_started() -> None:
    cells = Cells(EmbeddedMembership(ME, P), Fake)
    await cells.start()
    assert (sorted(cells.here), cells.is_whole, cells.detail, cells.others()) == ([0, 1, 2, 3], True, "", ({}, None))
    assert cells.of_account("main") is cells.here[partition_of("main", P)]
    made = list(cells.here.values())
    await cells.stop()
    assert (cells.here, all(cell.stopped for cell in made)) == ({}, True)


async def test_what_breaks_the_first_start_is_raised_and_nothing_stays() -> None:
    Fake.breaks = 1
    cells = Cells(EmbeddedMembership(ME, 1), Fake)
    with pytest.raises(OSError, match="no luck"):
        await cells.start()
    await cells.stop()
    assert not cells.here


async def test_whom_the_log_refuses_does_not_join_its_replicas() -> None:
    class Refusing:
        async def end(self, topic: str, partition: int) -> int:
            raise BusRefused(f"{topic}/{partition} is another stack's")

    advice = Advice()
    settings = SimpleNamespace(release="a", host="a", address="", ports={}, partitions=lambda _: P)
    context = SimpleNamespace(
        settings=settings, bus=Refusing(), membership=lambda *_: advice, metrics=Metrics(WallClock())
    )
    service = CellService[Fake](cast("Context", context))
    service.split("orders.events", Fake)
    with pytest.raises(BusRefused):
        await service.start()
    assert advice.holder is None


async def test_a_process_has_not_started_before_others_have_let_go_of_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cells_module, "_SHARE_SECONDS_MAX", 60.0)
    advice = Advice()
    cells = Cells(advice, Fake)
    starting = asyncio.create_task(cells.start())
    await until(lambda: advice.holder is not None, "it has joined, and has nothing yet")
    assert not cells.readiness()[0]
    advice.held = frozenset({1})
    await cells.take(advice.held)
    await starting
    assert cells.readiness()[0] and sorted(cells.here) == [1]
    await cells.stop()


async def test_a_cell_that_comes_later_begins_as_often_as_it_takes() -> None:
    advice = Advice()
    cells = Cells(advice, Fake)
    await cells.start()
    assert cells.is_whole, "it has nothing, and nothing is missing"
    Fake.breaks = 3
    advice.held = frozenset({2})
    await cells.take(advice.held)
    assert (cells.is_whole, cells.detail) == (False, "partition 2: starting")
    with pytest.raises(Problem) as refused:
        cells.at(2)
    assert refused.value.code == "not_ready"
    await until(lambda: 2 in cells.here, "it is here")
    assert (Fake.breaks, cells.is_whole, cells.detail) == (0, True, "")
    await cells.stop()


@pytest.mark.parametrize("folds_behind", [False, True], ids=["order", "projection"])
async def test_what_comes_later_leaves_it_ready_for_what_it_has(folds_behind: bool) -> None:
    """A projection's cell has started before it has folded all."""
    advice, made = Advice(), dict[int, Fake]()

    class Behind(Fake):
        async def start(self) -> None:
            if not folds_behind:
                await super().start()

    def make(partition: int) -> Fake:
        made[partition] = Behind(partition)
        if partition in (1, 2):
            made[partition].may_start.clear()
        return made[partition]

    advice.held = frozenset({0})
    cells = Cells(advice, make)
    await cells.start()
    assert cells.readiness() == (True, "ready")
    advice.held = frozenset({0, 1, 2})
    await cells.take(advice.held)
    await until(lambda: made.keys() >= {1, 2} and (2 in cells.here or not folds_behind), "they begin")
    assert cells.readiness() == (True, "ready") and cells.at(0) is made[0]
    assert (cells.is_whole, cells.detail) == (False, "partition 1: folded 3 of 7; partition 2: folded 3 of 7")
    with pytest.raises(Problem, match="partition 1 is being taken over here"):
        cells.at(1)
    asked = Request("GET", "/positions", {}, b"", {HOP: b"1"}, b"", LOCAL, 0)
    with pytest.raises(Problem, match="folded 3 of 7: ask again"):
        await cells.asked_of_others(asked)  # whoever asks takes the answer for all of partition 1, too
    made[1].may_start.set()
    made[2].may_start.set()
    await until(lambda: cells.is_whole, "all is here")
    assert cells.at(1) is made[1] and await cells.asked_of_others(asked) == []
    made[1].may_start.clear()
    assert cells.readiness() == (False, "folded 3 of 7"), "it was here, and recovers"
    made[1].may_start.set()
    advice.held = frozenset()
    await cells.let_go(frozenset({0, 1, 2}))
    made.clear()
    advice.held = frozenset({1})
    await cells.take(advice.held)
    await until(lambda: 1 in made and (1 in cells.here or not folds_behind), "it begins")
    assert cells.readiness() == (False, "partition 1: folded 3 of 7"), "there is nothing that it could answer for"
    await cells.stop()


async def test_what_is_let_go_while_it_starts_does_not_come() -> None:
    advice = Advice()
    blocked: list[Fake] = []

    def make(partition: int) -> Fake:
        blocked.append(Fake(partition))
        blocked[-1].may_start.clear()
        return blocked[-1]

    cells = Cells(advice, make)
    await cells.start()
    await cells.take(frozenset({1}))
    await until(lambda: blocked, "it is made")
    assert (cells.is_whole, cells.detail) == (False, "partition 1: folded 3 of 7")
    await cells.let_go(frozenset({1}))
    assert (cells.here, blocked[0].stopped, cells.is_whole) == ({}, True, True)
    assert not asyncio.all_tasks() - {asyncio.current_task()}, "nothing is left that could still start it"
    await cells.stop()


async def test_what_is_another_s_is_named_and_what_is_nobody_s_is_refused() -> None:
    advice = Advice()
    advice.held, advice.known = frozenset({0}), {0: ME, 1: OTHER, 2: OTHER}
    cells = Cells(advice, Fake)
    await cells.start()
    for partition in (1, 2):
        with pytest.raises(Elsewhere) as elsewhere:
            cells.at(partition)
        assert elsewhere.value.member == OTHER
    with pytest.raises(Problem) as refused:
        cells.at(3)
    assert (refused.value.status, refused.value.code) == (503, "no_owner")
    found, missing = cells.others()
    assert found == {OTHER: [1, 2]}, "who can be reached is named although one is missing"
    assert missing is not None and missing.code == "no_owner"
    await until(lambda: advice.looked, "the group is asked: what was not heard once may never be told again")
    advice.known[3] = OTHER
    assert cells.others() == ({OTHER: [1, 2, 3]}, None)
    await cells.stop()


async def test_one_that_was_fenced_and_is_still_ours_begins_anew_and_alone_it_says_who_it_was() -> None:
    advice = Advice()
    advice.held = frozenset({0, 1})
    cells = Cells(advice, Fake)
    await cells.start()
    before = cells.here[1]
    before.fenced = True
    await cells.replace_fenced()
    await until(lambda: 1 in cells.here, "it is here again")
    assert (before.stopped, cells.here[1] is not before, cells.replaced) == (True, True, "")
    alone = Cells(EmbeddedMembership(ME, 2), Fake)
    await alone.start()
    alone.here[1].fenced = True
    await alone.replace_fenced()
    assert "partition 1" in alone.replaced, "another stack on the same files: this one ends"


async def test_what_is_let_go_during_the_first_start_does_not_fail_the_others() -> None:
    advice = Advice()
    advice.held = frozenset({0, 1})
    made: dict[int, Fake] = {}

    def make(partition: int) -> Fake:
        made[partition] = Fake(partition)
        made[partition].may_start.clear()
        return made[partition]

    cells = Cells(advice, make)
    starting = asyncio.ensure_future(cells.start())
    await until(lambda: len(made) == 2, "both begin")
    advice.held = frozenset({0})
    await cells.let_go(frozenset({1}))
    made[0].may_start.set()
    await starting
    assert (sorted(cells.here), made[1].stopped) == ([0], True)
    await cells.stop()


async def test_a_cell_that_can_not_even_be_made_is_made_later() -> None:
    advice, tries = Advice(), iter((OSError("no disk"), OSError("no disk"), None))

    def make(partition: int) -> Fake:
        if (error := next(tries)) is not None:
            raise error
        return Fake(partition)

    cells = Cells(advice, make)
    await cells.start()
    advice.held = frozenset({3})
    await cells.take(advice.held)
    await until(lambda: cells.is_whole, "it is here")
    assert sorted(cells.here) == [3]
    await cells.stop()


@pytest.mark.parametrize("name", [b"causation-id", b"authorization", b"traceparent"])
async def test_a_header_that_would_end_its_line_is_refused_before_anything_is_sent(name: bytes) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    member = Member("b", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(Problem) as refused:
        await Forwarder().send(member, "GET", "/", {name: b"a\r\n\r\nPOST /kill HTTP/1.1"}, b"")
    assert (refused.value.status, refused.value.code, asked) == (422, "malformed_header", [])
    server.close()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\n\r\n{}", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", b"nonsense\r\n\r\n"],
)
async def test_an_answer_that_is_not_whole_is_none_and_its_connection_is_not_used_again(answer: bytes) -> None:
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    member, forwarder = Member("b", f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), Forwarder()
    for _ in range(2):
        with pytest.raises(Problem) as unknown:
            await forwarder.send(member, "POST", "/orders", {}, b"{}")
        assert (unknown.value.status, unknown.value.code) == (503, "not_acknowledged")
        assert unknown.value.body()["replica"] == "b"
    assert len(connections) == 2
    server.close()


async def test_a_503_of_another_replica_says_whose_it_is() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = msgspec.json.encode(Problem(503, "not_ready", "3 of 9 are folded", retry_after=1).body())
        head = b"HTTP/1.1 503 x\r\nretry-after: 1\r\ncontent-type: application/problem+json\r\n"
        writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    member, forwarder = Member("orders-2", f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), Forwarder()
    answer = await forwarder.send(member, "GET", "/orders", {}, b"")
    said = msgspec.json.decode(answer.body)
    assert (said["code"], said["detail"], said["replica"]) == ("not_ready", "orders-2: 3 of 9 are folded", "orders-2")
    assert (answer.status, answer.content_type, answer.headers) == (
        503,
        "application/problem+json",
        ((b"retry-after", b"1"),),
    )
    with pytest.raises(Problem) as refused:
        require_done(answer)
    assert refused.value.body()["replica"] == "orders-2"
    server.close()
    await server.wait_closed()
    with pytest.raises(Problem) as gone:
        await Forwarder().send(member, "GET", "/orders", {}, b"")
    assert (gone.value.code, gone.value.body()["replica"]) == ("not_reached", "orders-2")
