"""The platform with one law broken at a time. Each must be found out, or the simulation proves nothing."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import msgspec
from tests.simulation import faults as f

from trade2026.archive.store import HistoryStore
from trade2026.controls import order_log, slices
from trade2026.domain import events as ev
from trade2026.domain.positions import Position
from trade2026.gateway.machine import PaperVenue
from trade2026.kit.bus.memory import _MemoryWriter
from trade2026.kit.outlet import Outlet
from trade2026.kit.owner import Owner
from trade2026.oms import admission, lists, risk_follower
from trade2026.oms.machine import OrderMachine
from trade2026.oms.venue_follower import VenueFollower
from trade2026.risk import slicing

Patches = list[tuple[Any, str, Callable[..., Any]]]


@dataclass(frozen=True)
class Mutation:
    """A law, broken. `storm` is the weather in which that shows."""

    name: str
    patches: Patches
    storm: tuple[type[f.Fault], ...]

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """Run with it."""
        with contextlib.ExitStack() as stack:
            for owner, name, replacement in self.patches:
                stack.enter_context(mock.patch.object(owner, name, replacement))
            yield


_commit, _start, _report, _refusal = Owner._commit, Owner.start, OrderMachine._report, admission._refusal
_claim, _venue_apply, _apply_fill = (
    Outlet.claim,
    PaperVenue.apply,
    Position.apply_fill,
)
_write, _decide_reports = HistoryStore.write, VenueFollower._decide


def _answer_at_once(self: Owner, answered: Any) -> None:
    _commit(self, [])
    assert self._writer is not None
    self._settle(None, self._writer, answered)


async def _start_without_time(self: Owner) -> None:
    await _start(self)
    self._ts_init = 0


async def _recover_with_what_memory_has(self: Owner) -> None:
    assert self._writer is not None
    await self._writer.close()
    self._bodies.clear()
    self._last_commit = None
    self._writer = await self.bus.claim(self.topic, self.partition, self.name)
    self.ready = True


def _report_without_position(self: OrderMachine, command: Any, emit: Any) -> None:
    def forgetful(event: Any) -> None:
        emit(msgspec.structs.replace(event, report_seq=-1) if hasattr(event, "report_seq") else event)

    _report(self, command, forgetful)


def _refuse_all_but(*codes: str) -> Callable[..., Any]:
    def refusal(*args: Any) -> Any:
        found = _refusal(*args)
        return None if found is not None and str(found[0]) in codes else found

    return refusal


def _rivals_in_every_list(order: Any) -> str:
    return order.list_id if order.list_role in ("oco", "child") else ""


def _fill_twice(self: Position, *args: Any) -> int:
    _apply_fill(self, *args)
    return _apply_fill(self, *args)


def _forget_what_was_answered(self: PaperVenue, envelope: ev.Envelope, partition: int = 0) -> None:
    _venue_apply(self, envelope, partition)
    self.reports[partition].orders_next = 0


async def _claim_without_looking(self: Outlet, end: int) -> None:
    await _claim(self, end)
    self.told_seq = -1


def _restore_without_controls(state: bytes, fold: Any, controls: Any) -> None:
    kept = controls.snapshot()
    _restore(state, fold, controls)
    controls.restore(kept)


_restore = order_log.restore


def _write_without_orders(self: HistoryStore, topic: str, next_seq: int, index: Any, orders: Any = ()) -> None:
    _write(self, topic, next_seq, index)


async def _decide_by_any_machine(self: VenueFollower, machine: Any) -> None:
    await _decide_reports(self, self.owner.machine)


def _give_at_once(limit: int, current: Any, held: Any, used: Any, needs: Any) -> list[int]:
    return slices.redivide(limit, current, [0] * len(held), used, needs)


def _record_only_more(book: Any, partition: int, partitions: int, held: Any, granted: Any, grant: int) -> Any:
    larger = {
        scope: {
            field: part
            for field, part in parts.items()
            if (mine := slices.slice_in(held.slices, scope, field)) is None or part.value > mine.value
        }
        for scope, parts in granted.items()
    }
    return slices.sliced(book, partition, partitions, held, larger, grant)


def _use_nothing(*_: Any) -> int:
    return 0


def _nothing(*_: Any) -> None:
    return None


MUTATIONS = (
    Mutation("an answer does not wait until it is durable", [(Owner, "_commit", _answer_at_once)], (f.Crash, f.CommitFailure, f.SlowCommits)),
    Mutation("the same client order id makes another order", [(OrderMachine, "known", _nothing)], (f.LostMessages, f.DuplicatedRequests)),
    Mutation("a zombie is not fenced", [(_MemoryWriter, "_refusal", _nothing)], (f.ZombieOwner,)),
    Mutation("the time of the log is forgotten by a restart", [(Owner, "start", _start_without_time)], (f.ClockJump, f.Crash)),
    Mutation("a failed commit stays in memory", [(Owner, "_recover", _recover_with_what_memory_has)], (f.CommitFailure,)),
    Mutation("the position of a report is not kept", [(OrderMachine, "_report", _report_without_position)], (f.Crash,)),
    Mutation("reports of before a recovery are decided after it", [(VenueFollower, "_decide", _decide_by_any_machine)], (f.CommitFailure, f.SlowCommits)),
    Mutation("a fill counts twice", [(Position, "apply_fill", _fill_twice)], (f.Crash,)),
    Mutation("the venue forgets what it has answered", [(PaperVenue, "apply", _forget_what_was_answered), (PaperVenue, "find", _nothing)], (f.GracefulRestart,)),
    Mutation("a fill is published again after a restart", [(Outlet, "claim", _claim_without_looking)], (f.Crash, f.GracefulRestart)),
    Mutation("a snapshot is without its limits", [(order_log, "restore", _restore_without_controls)], (f.PowerCut,)),
    Mutation("a kill does not refuse", [(admission, "_refusal", _refuse_all_but("KILLED", "HALTED"))], (f.SlowReads,)),
    Mutation("positions have no limit", [(admission, "_refusal", _refuse_all_but("MAX_POSITION"))], (f.SlowReads,)),
    Mutation("children of OTO cancel each other", [(lists, "rivals", _rivals_in_every_list)], (f.SlowReads,)),
    Mutation("rivals do not cancel each other", [(OrderMachine, "_cancel_rivals", _nothing)], (f.SlowReads,)),
    Mutation("the venue does not hear of cancels", [(PaperVenue, "_cancel", _nothing)], (f.SlowReads,)),
    Mutation("a slice is given before others have let go", [(slicing, "redivide", _give_at_once)], (f.SlowReads,)),
    Mutation("a slice never becomes smaller", [(risk_follower, "sliced", _record_only_more)], (f.SlowReads,)),
    Mutation("what is open beyond a slice does not count", [(slicing, "used_of", _use_nothing)], (f.SlowReads,)),
    Mutation("the history lacks orders", [(HistoryStore, "write", _write_without_orders)], (f.SlowReads,)),
)  # fmt: skip
