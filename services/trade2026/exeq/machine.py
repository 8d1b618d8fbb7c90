"""Parents worked into children: which child when, within which limits, and when it is over.

Pure. What may still execute counts in full, so that children together are never more than their parent,
whatever the order service has not answered yet. A slice that was missed is caught up by the next one, within
the bounds of the parent: there is never a burst, after a pause or a crash either.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from trade2026.domain import events as ev
from trade2026.domain.commands import Command, StartOwner
from trade2026.domain.events import AnyEvent, Envelope
from trade2026.domain.instruments import Instrument
from trade2026.domain.numbers import BPS
from trade2026.domain.orders import OrderSpec, OrderType, OrdStatus
from trade2026.domain.parents import MarketSeen, ParentSpec, ParentStatus
from trade2026.exeq import commands as cmd
from trade2026.exeq.parents import Child, ExecutionState, Parent
from trade2026.exeq.schedule import plan_slices

REJECTS_MAX = 3
"""So many refused children in a row, and the parent is paused: a person has to look."""
CANCEL_AGAIN_NS = 10**9
"""Until a cancel that was refused is asked for again."""

SNAPSHOT_VERSION = 1
_decode_state = msgspec.json.Decoder(ExecutionState).decode

_GOES_ON = (ParentStatus.WORKING, ParentStatus.PAUSED)

Emit = Callable[[AnyEvent], None]


class ParentError(Exception):
    """A command that was refused; `code` is for programs, `status` is how HTTP says it."""

    def __init__(self, code: str, message: str, status: int = 409) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class ChildKey(NamedTuple):
    """A child as the order service hears of it."""

    parent_id: str
    number: int
    spec: OrderSpec
    order_id: str
    cancels: int
    seq: int
    """Position of the event that decided what is asked: it, or its cancel."""
    traceparent: str


class ExecutionMachine:
    """Every parent of a stack.

    Args:
        instruments: By id; a child is a multiple of its instrument's lot.
        partition: Names this machine's parents.
    """

    def __init__(self, instruments: Mapping[str, Instrument], partition: int = 0) -> None:
        self.instruments, self.partition = instruments, partition
        self.next_seq = 0
        self.parents: dict[str, Parent] = {}
        self.open: dict[str, Parent] = {}
        self.markets: dict[str, MarketSeen] = {}
        """The newest observation of each instrument."""
        self.orders_seq = -1
        """Position of the newest order event that was folded."""
        self._by_client_id: dict[tuple[str, str], str] = {}

    # ── questions ───────────────────────────────────────────────────────────────────────────

    def traceparent_of(self, subject: str) -> str:
        """The trace that a parent belongs to; empty for one that is not known yet."""
        parent = self.parents.get(subject)
        return parent.traceparent if parent is not None else ""

    def snapshot(self) -> bytes:
        """All that the log has told, to go on from with `restore`."""
        return msgspec.json.encode(
            ExecutionState(
                version=SNAPSHOT_VERSION,
                next_seq=self.next_seq,
                orders_seq=self.orders_seq,
                markets=self.markets,
                parents=list(self.parents.values()),
            )
        )

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot, as if its part of the log had been folded.

        Raises:
            ValueError: it is damaged, or of a version to come.
        """
        state = _decode_state(snapshot)
        if state.version > SNAPSHOT_VERSION:
            raise ValueError(f"its version {state.version} is newer than {SNAPSHOT_VERSION}")
        self.next_seq, self.orders_seq, self.markets = state.next_seq, state.orders_seq, state.markets
        self.parents = {parent.parent_id: parent for parent in state.parents}
        self.open = {parent.parent_id: parent for parent in state.parents if parent.is_open}
        self._by_client_id = {
            (parent.original.account, parent.original.client_order_id): parent.parent_id for parent in state.parents
        }

    def next_due(self) -> int | None:
        """When something is to be decided next (ns); None while nothing waits for time."""
        times = [due for parent in self.open.values() if (due := _due(parent)) is not None]
        return min(times) if times else None

    def unacknowledged(self) -> list[ChildKey]:
        """Children that the order service may not have, in the order in which they were decided."""
        return [key for key in self._working() if not key.order_id]

    def uncanceled(self) -> list[ChildKey]:
        """Children that the order service has, and whose cancel was decided."""
        return [key for key in self._working() if key.order_id and key.cancels]

    def _working(self) -> list[ChildKey]:
        return [
            ChildKey(
                parent.parent_id,
                child.number,
                child.spec,
                child.order_id,
                child.cancels,
                child.cancel_seq if child.order_id else child.decided_seq,
                parent.traceparent,
            )
            for parent in self.open.values()
            for child in parent.open_children
        ]

    # ── decisions ───────────────────────────────────────────────────────────────────────────

    def decide(self, command: Command, emit: Emit) -> str:
        """Decide one command; return the parent's id, "" for none.

        Raises:
            ParentError: it was refused, nothing was emitted.
        """
        if isinstance(command, cmd.ReportChild):
            return self._report(command, emit)
        if isinstance(command, cmd.PassTime):
            for parent in list(self.open.values()):
                self._work(parent, command.ts, command.markets.get(parent.spec.instrument), emit)
            return ""
        if isinstance(command, cmd.AcceptParent):
            return self._accept(command, emit)
        if isinstance(command, StartOwner):
            emit(
                ev.OwnerStarted(
                    owner=command.owner,
                    epoch=command.epoch,
                    code_version=command.code_version,
                    config_hash=command.config_hash,
                )
            )
            return ""
        assert isinstance(command, cmd.PauseParent | cmd.ResumeParent | cmd.CancelParent | cmd.AmendParent)
        parent = self.parents.get(command.parent_id)
        if parent is None:
            raise ParentError("unknown_parent", f"there is no parent {command.parent_id!r}", 404)
        if isinstance(command, cmd.CancelParent) and parent.status in (ParentStatus.CANCELING, ParentStatus.CANCELED):
            return parent.parent_id
        if parent.status not in _GOES_ON:
            raise ParentError("parent_ended", f"{parent.parent_id} is {parent.status}")
        if isinstance(command, cmd.AmendParent):
            self._amend(parent, command, emit)
        elif isinstance(command, cmd.CancelParent):
            emit(
                ev.ParentStopping(
                    parent_id=parent.parent_id, status=ParentStatus.CANCELING, reason=command.reason or "canceled"
                )
            )
        elif isinstance(command, cmd.PauseParent):
            if parent.status is ParentStatus.WORKING:
                emit(ev.ParentPaused(parent_id=parent.parent_id, reason=command.reason))
        elif parent.status is ParentStatus.PAUSED:
            emit(ev.ParentResumed(parent_id=parent.parent_id))
        self._settle(parent, command.ts, self.markets.get(parent.spec.instrument), emit)
        return parent.parent_id

    def _accept(self, command: cmd.AcceptParent, emit: Emit) -> str:
        spec = command.spec
        known = self._by_client_id.get((spec.account, spec.client_order_id))
        if known is not None:
            if self.parents[known].original != spec:
                raise ParentError(
                    "client_order_id_reused", f"{spec.client_order_id!r} is {known}, which has other terms"
                )
            return known
        begin = max(command.ts, spec.start_at)
        end = spec.end_at or begin + spec.duration
        if spec.algo.is_sliced and end <= begin:
            raise ParentError("bad_time", "the end is not after the start", 422)
        weights = spec.profile or command.weights
        slices = plan_slices(spec, begin, end, weights, self.instruments[spec.instrument].lot_size)
        parent_id = f"e{self.partition}-{len(self.parents)}"
        emit(
            ev.ParentAccepted(
                parent_id=parent_id,
                spec=spec,
                begin_at=begin,
                end_at=end if spec.algo.is_sliced else 0,
                slices=slices,
            )
        )
        self._work(self.parents[parent_id], command.ts, command.market, emit)
        return parent_id

    def _amend(self, parent: Parent, command: cmd.AmendParent, emit: Emit) -> None:
        old = parent.spec
        asked = {
            name: value
            for name in ("quantity", "price", "end_at", "child_quantity_max", "participation_bps")
            if (value := getattr(command, name)) is not None
        }
        spec = msgspec.structs.replace(old, **asked)
        if spec.quantity < parent.committed and spec.quantity < old.quantity:
            raise ParentError("below_committed", "children that are filled or work are more than that already", 422)
        if not old.algo.is_sliced and (command.end_at or command.child_quantity_max or command.participation_bps):
            raise ParentError("unexpected_field", f"a {old.algo} parent is not sliced", 422)
        if (old.price == 0) != (spec.price == 0) and not old.algo.is_sliced:
            raise ParentError("unexpected_field", f"a {old.algo} parent stays one", 422)
        begin = max(command.ts, parent.slices[0].due)
        end = command.end_at or parent.end_at
        if old.algo.is_sliced and end <= begin:
            raise ParentError("bad_time", "the end is not in the future", 422)
        left = max(1, len(parent.slices) - parent.next_slice)
        lot = self.instruments[spec.instrument].lot_size
        profile = spec.profile[len(spec.profile) * parent.next_slice // len(parent.slices) :]
        weights = profile or command.weights
        planned = msgspec.structs.replace(spec, slices=left)
        done = min(parent.committed, spec.quantity)
        slices = plan_slices(planned, begin, end, weights, lot, done=done)
        end = end if old.algo.is_sliced else 0
        emit(ev.ParentAmended(parent_id=parent.parent_id, spec=spec, end_at=end, slices=slices, done=done))
        if spec.price != old.price or not old.algo.is_sliced:
            self._cancel_children(parent, emit)  # what works has the old terms

    def _work(self, parent: Parent, now: int, market: MarketSeen | None, emit: Emit) -> None:
        """Do what the time asks for."""
        if parent.end_at and now >= parent.end_at and parent.status in _GOES_ON:
            reason = "its time is over"
            emit(ev.ParentStopping(parent_id=parent.parent_id, status=ParentStatus.EXPIRING, reason=reason))
        elif parent.status is ParentStatus.WORKING:
            self._reach_slice(parent, now, market, emit)
        self._settle(parent, now, market, emit)

    def _reach_slice(self, parent: Parent, now: int, market: MarketSeen | None, emit: Emit) -> None:
        number = parent.next_slice - 1
        while number + 1 < len(parent.slices) and parent.slices[number + 1].due <= now:
            number += 1
        if number < parent.next_slice or (not parent.spec.algo.is_sliced and parent.open_children):
            return
        emit(ev.SliceReached(parent_id=parent.parent_id, number=number, market=market))
        quantity = self.child_quantity(parent, number)
        if quantity > 0:
            count = len(parent.children)
            emit(ev.ChildDecided(parent_id=parent.parent_id, number=count, spec=_child_spec(parent, count, quantity)))

    def child_quantity(self, parent: Parent, number: int) -> int:
        """How much a slice may add now: never beyond its target, nor beyond any limit of the parent."""
        spec, slices = parent.spec, parent.slices
        committed = parent.committed
        wanted = min(slices[number].target, spec.quantity) - committed
        if not spec.algo.is_sliced:
            return wanted
        wanted = min(wanted, slice_quantity_max(parent, number))
        if spec.child_quantity_max:
            wanted = min(wanted, spec.child_quantity_max)
        if spec.participation_bps:
            wanted = min(wanted, parent.benchmarks.volume * spec.participation_bps // BPS - committed)
        lot = self.instruments[spec.instrument].lot_size
        return max(0, wanted // lot * lot)

    def _report(self, command: cmd.ReportChild, emit: Emit) -> str:
        report = command.report
        parent = self.parents.get(report.parent_id)
        if parent is None or report.number >= len(parent.children):
            return ""
        if 0 <= report.orders_seq <= self.orders_seq or not _is_news(parent.children[report.number], report):
            return parent.parent_id
        emit(report)
        if report.status is OrdStatus.REJECTED:
            self._after_reject(parent, report.reason, emit)
        elif report.status in (OrdStatus.CANCELED, OrdStatus.EXPIRED) and _is_over(parent):
            emit(ev.ParentStopping(parent_id=parent.parent_id, status=ParentStatus.CANCELING, reason=report.reason))
        self._settle(parent, command.ts, command.market, emit)
        return parent.parent_id

    def _after_reject(self, parent: Parent, reason: str, emit: Emit) -> None:
        if parent.status is not ParentStatus.WORKING:
            return
        if not parent.spec.algo.is_sliced:
            emit(ev.ParentEnded(parent_id=parent.parent_id, status=ParentStatus.REJECTED, reason=reason))
        elif parent.rejects >= REJECTS_MAX:
            paused = f"{parent.rejects} children in a row were refused: {reason}"
            emit(ev.ParentPaused(parent_id=parent.parent_id, reason=paused))

    def _settle(self, parent: Parent, now: int, market: MarketSeen | None, emit: Emit) -> None:
        """Cancel what must not work any more, and end a parent for which nothing works."""
        if not parent.is_open:
            return
        for child in parent.open_children:
            if 0 < child.cancel_again_at <= now:
                emit(ev.ChildCancelDecided(parent_id=parent.parent_id, number=child.number))
        if parent.status is not ParentStatus.WORKING:
            self._cancel_children(parent, emit)
        if parent.open_children:
            return
        if parent.filled >= parent.spec.quantity:
            status, reason = ParentStatus.FILLED, ""
        elif parent.status is ParentStatus.CANCELING:
            status, reason = ParentStatus.CANCELED, parent.reason
        elif parent.status is ParentStatus.EXPIRING:
            status, reason = ParentStatus.EXPIRED, parent.reason
        else:
            return
        emit(ev.ParentEnded(parent_id=parent.parent_id, status=status, reason=reason, market=market))

    def _cancel_children(self, parent: Parent, emit: Emit) -> None:
        for child in parent.open_children:
            if not child.cancel_decided:
                emit(ev.ChildCancelDecided(parent_id=parent.parent_id, number=child.number))

    # ── facts ───────────────────────────────────────────────────────────────────────────────

    def apply(self, envelope: Envelope) -> None:
        """Fold the next event."""
        assert envelope.seq == self.next_seq, f"{envelope.seq} follows {self.next_seq - 1}"
        self.next_seq += 1
        data = envelope.data
        if isinstance(data, ev.ParentAccepted):
            self._apply_accepted(envelope, data)
            return
        if isinstance(data, ev.OwnerStarted):
            return
        assert isinstance(data, ev.ExecutionEvent), type(data)
        parent = self.parents[data.parent_id]
        parent.ts_updated = envelope.ts_event
        if isinstance(data, ev.ChildDecided):
            parent.children.append(
                Child(number=data.number, spec=data.spec, quantity=data.spec.quantity, decided_seq=envelope.seq)
            )
        elif isinstance(data, ev.ChildCancelDecided):
            child = parent.children[data.number]
            child.cancels, child.cancel_again_at, child.cancel_seq = child.cancels + 1, 0, envelope.seq
        elif isinstance(data, ev.ChildReported):
            self._apply_report(parent, data, envelope.ts_event)
        else:
            self._apply_to_parent(parent, data)

    def _apply_accepted(self, envelope: Envelope, data: ev.ParentAccepted) -> None:
        parent = Parent(
            parent_id=data.parent_id,
            spec=data.spec,
            original=data.spec,
            slices=data.slices,
            end_at=data.end_at,
            principal=envelope.principal,
            traceparent=envelope.traceparent,
            ts_created=envelope.ts_event,
            ts_updated=envelope.ts_event,
        )
        self.parents[parent.parent_id] = self.open[parent.parent_id] = parent
        self._by_client_id[data.spec.account, data.spec.client_order_id] = parent.parent_id

    def _apply_to_parent(self, parent: Parent, data: AnyEvent) -> None:
        if isinstance(data, ev.SliceReached):
            parent.next_slice = data.number + 1
            self._see(parent, data.market)
        elif isinstance(data, ev.ParentAmended):
            parent.spec, parent.slices, parent.end_at, parent.next_slice = data.spec, data.slices, data.end_at, 0
            parent.planned_from = data.done
        elif isinstance(data, ev.ParentPaused):
            parent.status, parent.reason, parent.rejects = ParentStatus.PAUSED, data.reason, 0
        elif isinstance(data, ev.ParentResumed):
            parent.status, parent.reason = ParentStatus.WORKING, ""
            if not parent.spec.algo.is_sliced:
                parent.next_slice = 0  # its child was cancelled by the pause: what is left begins again
        elif isinstance(data, ev.ParentStopping):
            parent.status, parent.reason = data.status, data.reason
        else:
            assert isinstance(data, ev.ParentEnded)
            parent.status, parent.reason = data.status, data.reason
            self._see(parent, data.market)
            del self.open[parent.parent_id]

    def _apply_report(self, parent: Parent, data: ev.ChildReported, ts: int) -> None:
        child = parent.children[data.number]
        self.orders_seq = max(self.orders_seq, data.orders_seq)
        child.order_id = data.child_order_id or child.order_id
        child.quantity = data.quantity or child.quantity
        child.cum_qty, child.cum_cost = max(child.cum_qty, data.cum_qty), max(child.cum_cost, data.cum_cost)
        child.reason = data.reason or child.reason
        if data.cancel_rejected:
            child.cancel_again_at = ts + CANCEL_AGAIN_NS
        if data.status is not None and child.is_open:
            child.status = data.status
            parent.rejects = parent.rejects + 1 if data.status is OrdStatus.REJECTED else 0

    def _see(self, parent: Parent, market: MarketSeen | None) -> None:
        if market is not None:
            self.markets[parent.spec.instrument] = market
            parent.benchmarks.see(market)


def slice_quantity_max(parent: Parent, number: int) -> int:
    """The most that one slice may be: what is planned for it, and the parent's share of that to catch up."""
    slices = parent.slices
    planned = slices[number].target - (slices[number - 1].target if number else parent.planned_from)
    basis = max(planned, (parent.spec.quantity - parent.planned_from) // len(slices))
    return planned + basis * parent.spec.catch_up_bps // BPS


def _is_news(child: Child, report: ev.ChildReported) -> bool:
    """Whether a report says what is not known: the answer and the log tell of the same order."""
    return (
        (bool(report.child_order_id) and report.child_order_id != child.order_id)
        or (report.status is not None and report.status is not child.status and child.is_open)
        or (report.quantity != 0 and report.quantity != child.quantity)
        or report.cum_qty > child.cum_qty
        or (report.cancel_rejected and child.is_open)
    )


def _is_over(parent: Parent) -> bool:
    """Whether a passed-through parent has lost its child without having asked for it."""
    waits = parent.next_slice < len(parent.slices)
    return (
        parent.status is ParentStatus.WORKING
        and not parent.spec.algo.is_sliced
        and not waits
        and not parent.open_children
        and parent.filled < parent.spec.quantity
    )


def _due(parent: Parent) -> int | None:
    """When this parent needs the time (ns); None while it waits for something else."""
    times = [child.cancel_again_at for child in parent.open_children if child.cancel_again_at]
    if parent.end_at and parent.status in _GOES_ON:
        times.append(parent.end_at)
    blocked = not parent.spec.algo.is_sliced and parent.open_children
    if parent.status is ParentStatus.WORKING and parent.next_slice < len(parent.slices) and not blocked:
        times.append(parent.slices[parent.next_slice].due)
    return min(times, default=None)


def _child_spec(parent: Parent, number: int, quantity: int) -> OrderSpec:
    spec: ParentSpec = parent.spec
    if spec.algo.is_sliced:
        order_type = OrderType.LIMIT if spec.price else OrderType.MARKET
    else:
        order_type = OrderType(spec.algo.value)
    return OrderSpec(
        client_order_id=f"{parent.parent_id}-{number}",
        account=spec.account,
        instrument=spec.instrument,
        side=spec.side,
        order_type=order_type,
        quantity=quantity,
        price=spec.price,
        stop_price=spec.stop_price,
        strategy=spec.strategy,
        trader=spec.trader,
        desk=spec.desk,
        client=spec.client,
        algo=spec.algo.value,
        parent_order_id=parent.parent_id,
    )
