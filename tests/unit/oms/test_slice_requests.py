"""Orders that wait for a larger part of a limit: together, not one after the other, and never for long."""

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from trade2026.controls.limits import LimitBook, Slice
from trade2026.controls.slices import Shortage
from trade2026.kit.calls import Answer
from trade2026.oms import slice_requests
from trade2026.oms.slice_requests import SliceRequests

SHORT = Shortage("stack", "max_open_orders", 11)


class Risk:
    """Answers requests, and grants what it said."""

    def __init__(self, room: int = 100, silent: bool = False, steps: int = 1) -> None:
        self.room, self.silent, self.steps = room, silent, steps
        self.asked: list[int] = []
        self.value = 10
        self.limits = SimpleNamespace(adopted=asyncio.Event())

    async def __call__(self, url: str, body: bytes, *, authorization: str = "", seconds_max: float = 2.0) -> Answer:
        needed = msgspec.json.decode(body)["needed"]
        self.asked.append(needed)
        if self.silent:
            await asyncio.sleep(seconds_max)
            return Answer(0, detail="no answer")
        granted = needed <= self.room
        if granted:
            self.steps -= 1
            less = self.steps + 1 if self.steps > 0 else 0
            asyncio.get_running_loop().call_soon(self._grant, needed - less)
        return Answer(200, msgspec.json.encode({"granted": granted}))

    def _grant(self, value: int) -> None:
        self.value = value
        recorded, self.limits.adopted = self.limits.adopted, asyncio.Event()
        recorded.set()

    @property
    def book(self) -> LimitBook:
        return LimitBook(partitions=2, slices={"stack": {"max_open_orders": Slice(100, self.value)}})


class Owner:
    """Whose limits they are."""

    partition = 1

    def __init__(self, risk: Risk) -> None:
        self._risk = risk

    @property
    def machine(self) -> Any:
        return SimpleNamespace(controls=SimpleNamespace(book=self._risk.book))


class Held(dict[tuple[str, str], float]):
    """As if no time passed: what is to be waited for is waited for."""

    def __setitem__(self, limit: tuple[str, str], until: float) -> None:
        super().__setitem__(limit, until + 60.0)


def requests(risk: Risk) -> SliceRequests:
    settings: Any = SimpleNamespace(ports={"risk": 1}, url=lambda name: f"http://{name}")
    return SliceRequests(settings, Owner(risk), risk.limits, risk)  # type: ignore[arg-type]


async def test_many_that_wait_are_asked_for_in_one_request() -> None:
    risk = Risk()
    asking = requests(risk)
    assert await asyncio.gather(*(asking.more(SHORT) for _ in range(20))) == [True] * 20
    assert risk.asked == [30]
    assert await asking.more(SHORT)
    assert risk.asked == [30], "there is room: nothing is to be asked for"


async def test_where_there_is_not_enough_for_all_there_may_be_for_some_and_nobody_asks_again_at_once() -> None:
    risk = Risk(room=12)
    asking = requests(risk)
    found = await asyncio.gather(*(asking.more(Shortage("stack", "max_open_orders", 11)) for _ in range(5)))
    assert (risk.asked, found) == ([15, 11], [True] * 5)
    nothing = Risk(room=0)
    asking = requests(nothing)
    asking._silent_until = Held()
    assert [await asking.more(SHORT) for _ in range(5)] == [False] * 5
    assert nothing.asked == [11]


async def test_what_comes_late_and_in_steps_is_waited_for_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slice_requests, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(SliceRequests, "seconds_max", 60.0)
    risk = Risk(steps=5)
    asking = requests(risk)
    assert await asking.more(Shortage("stack", "max_open_orders", 40))
    assert set(risk.asked) == {40}
    assert len(risk.asked) > 1


async def test_a_silent_risk_is_waited_for_once_and_not_by_each() -> None:
    risk = Risk(silent=True)
    asking = requests(risk)
    began = asyncio.get_running_loop().time()
    assert await asyncio.gather(*(asking.more(SHORT) for _ in range(50))) == [False] * 50
    assert await asking.more(SHORT) is False
    assert len(risk.asked) == 1
    assert asyncio.get_running_loop().time() - began >= SliceRequests.answer_seconds_max


async def test_who_waits_while_the_cell_stops_is_told_that_there_is_no_room() -> None:
    risk = Risk(silent=True)
    asking = requests(risk)
    waiting = asyncio.create_task(asking.more(SHORT))
    while not risk.asked:
        await asyncio.sleep(0)
    await asking.stop()
    assert await waiting is False
