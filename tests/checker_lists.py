"""Lists of orders by what OCO, OTO and bracket mean, told from the log alone.

An execution of a rival, a leg of an OCO list or an exit of a bracket, ends the others at once. Children of an OTO
list wait for their parent and are independent after that.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.checker_states import CLOSED, State, States

from trade2026.domain import events as ev

_ENDS_A_RIVAL = (ev.CancelRequested, ev.OrderCanceled, ev.OrderExpired)
_ENDS_WAITING = (ev.OrderReleased, ev.OrderRejected, ev.OrderCanceled)
_SAYS_RIVAL = "of the same list executed"


@dataclass
class _List:
    kind: str
    parent: str = ""
    legs: list[str] = field(default_factory=list)
    """All but the parent."""
    released: dict[str, int] = field(default_factory=dict)
    """By side, what children were released with, nanos."""


class ListWatch:
    """Folds the log; what has to follow an event must be the next that follows."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._states = States()
        self._lists: dict[str, _List] = {}
        self._owed: dict[str, tuple[type, ...]] = {}
        """Orders that the next events have to be about, and how."""
        self._had_rival: set[str] = set()
        """Orders that had to end because a rival executed; the venue's answer repeats it."""

    def apply(self, envelope: ev.Envelope) -> None:
        """Take the next event of `orders.events`."""
        event = envelope.data
        order_id: str = getattr(event, "order_id", "")
        expected = self._owed.pop(order_id, ())
        if self._owed and not expected:
            self.faults.append(f"{envelope.seq}: {type(event).__name__} comes before the end of {sorted(self._owed)}")
            self._owed.clear()
        if expected and not isinstance(event, expected):
            self.faults.append(f"{envelope.seq}: {type(event).__name__} of {order_id}, which had to end or be released")
        if expected == _ENDS_A_RIVAL:
            self._had_rival.add(order_id)
        if order_id not in self._had_rival and getattr(event, "reason", "").endswith(_SAYS_RIVAL):
            self.faults.append(f"{envelope.seq}: {order_id} has no rival, but ended because one executed")
        if isinstance(event, ev.OrderListAccepted):
            self._note(event)
        if isinstance(event, ev.OrderReleased):
            self._look_at_release(envelope.seq, event)
        before = self._status(order_id)
        self._states.apply(envelope)
        if order_id in self._lists:
            self._owe(order_id, event, before)

    def _note(self, event: ev.OrderListAccepted) -> None:
        found = _List(event.kind)
        for leg in event.orders:
            self._lists[leg.order_id] = found
            if leg.role == "parent":
                found.parent = leg.order_id
            else:
                found.legs.append(leg.order_id)

    def _owe(self, order_id: str, event: ev.AnyEvent, before: str) -> None:
        found, state = self._lists[order_id], self._states.orders[order_id]
        ended = state.status in CLOSED and before not in CLOSED
        if order_id == found.parent:
            if ended:
                how = _ENDS_WAITING if state.filled else (ev.OrderCanceled,)
                self._owed = {leg: how for leg in found.legs if self._status(leg) == "Suspended"}
            return
        executed = isinstance(event, ev.OrderFilled)
        if (found.kind == "OCO" and (ended or executed)) or (found.kind == "BRACKET" and executed):
            open_ones = [leg for leg in found.legs if leg != order_id and self._status(leg) not in CLOSED]
            self._owed |= {leg: _ENDS_A_RIVAL for leg in open_ones if self._status(leg) != "PendingCancel"}

    def _look_at_release(self, seq: int, event: ev.OrderReleased) -> None:
        found, side = self._lists[event.order_id], event.spec.side
        parent, child = self._states.orders[found.parent], self._states.orders[event.order_id]
        found.released[side] = found.released.get(side, 0) + event.spec.quantity
        told = f"{seq}: {event.order_id} was released"
        if parent.status not in CLOSED or not parent.filled:
            self.faults.append(f"{told} before its parent has ended with an execution")
        if event.spec.quantity > child.leaves:
            self.faults.append(f"{told} with more than was asked for")
        if self._may_be_larger(found, parent, child):
            return
        taken = event.spec.quantity if found.kind == "BRACKET" or side == parent.spec.side else found.released[side]
        if taken > parent.filled:
            self.faults.append(f"{told}: {taken} of {parent.filled} that its parent has executed")

    @staticmethod
    def _may_be_larger(found: _List, parent: State, child: State) -> bool:
        return found.kind == "OTO" and parent.status == "Filled" and child.spec.side != parent.spec.side

    def _status(self, order_id: str) -> str:
        state = self._states.orders.get(order_id)
        return state.status if state is not None else ""


def broken_lists(envelopes: Iterable[ev.Envelope]) -> list[str]:
    """Everything that a leg of a list did and may not, or did not and must."""
    watch = ListWatch()
    for envelope in envelopes:
        watch.apply(envelope)
    return watch.faults
