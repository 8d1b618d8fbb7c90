"""No order that was accepted may exceed a limit, and none may be accepted where trading was stopped.

Told from the log alone: limits as `LimitsAdopted` says, positions as fills sum up, open orders by
`checker_states`. Sizes, open orders, positions and stops are told; rates and collars are not.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
from tests.checker_states import State, States

from trade2026.controls.limits import LimitBook, LimitSet
from trade2026.controls.slices import SLICED, slice_in
from trade2026.domain import events as ev
from trade2026.domain.orders import OrderSpec

_SCALE = 10**9


class LimitWatch:
    """Folds the log, and looks at each order at the moment when it is accepted."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._states = States()
        self._book = LimitBook()
        self._stopped: set[str] = set()
        self._killed: set[str] = set()
        self._list_of: dict[str, str] = {}
        """The list of each order that competes with others of it."""
        self._positions: dict[tuple[str, str], int] = defaultdict(int)

    def apply(self, envelope: ev.Envelope) -> None:
        """Take the next event of `orders.events`."""
        event = envelope.data
        if isinstance(event, ev.LimitsAdopted):
            self._book = msgspec.json.decode(bytes(event.limits), type=LimitBook)
        elif isinstance(event, ev.Killed):
            self._stopped.add(event.scope)
            if not event.halt:
                self._killed.add(event.scope)
        elif isinstance(event, ev.Resumed):
            self._stopped.discard(event.scope)
            self._killed.discard(event.scope)
        elif isinstance(event, ev.OrderFilled):
            self._positions[event.account, event.instrument] += event.last_qty * (1 if event.side == "BUY" else -1)
        elif isinstance(event, ev.OrderAccepted):
            self._accept(envelope.seq, [(event.spec, event.reserved_price)])
        elif isinstance(event, ev.OrderListAccepted):
            legs = [(leg.spec, leg.reserved_price) for leg in event.orders if leg.role != "child"]
            self._accept(envelope.seq, legs)
            competing = [leg.order_id for leg in event.orders if leg.role != "parent" and event.kind != "OTO"]
            self._list_of |= dict.fromkeys(competing, event.list_id)
        elif isinstance(event, ev.OrderReleased):
            self._release(envelope.seq, event)
        self._states.apply(envelope)

    def _accept(self, seq: int, legs: list[tuple[OrderSpec, int]]) -> None:
        taken: list[OrderSpec] = []
        for spec, reserved_price in legs:
            for scope in self._stopped:
                if _is_in(scope, spec):
                    self.faults.append(f"{seq}: {spec.client_order_id} was accepted while {scope} was stopped")
            faults = self._look(spec, reserved_price, taken)
            self.faults += [f"{seq}: {spec.client_order_id} of {spec.account}: {fault}" for fault in faults]
            taken.append(spec)

    def _release(self, seq: int, event: ev.OrderReleased) -> None:
        """A child may only go out if it reduces, counting one of those that are rivals, or is within the limits."""
        spec = event.spec
        told = f"{seq}: {event.order_id} of {spec.account} was released"
        self.faults += [f"{told} while {scope} was killed" for scope in self._killed if _is_in(scope, spec)]
        key = (spec.account, spec.instrument, spec.side)
        largest: dict[str, int] = {}
        for order_id, state in self._states.orders.items():
            if (state.spec.account, state.spec.instrument, state.spec.side) == key:
                name = self._list_of.get(order_id, order_id)
                largest[name] = max(largest.get(name, 0), state.counted[0])
        largest.pop(self._list_of.get(event.order_id, event.order_id), None)
        position = self._positions[spec.account, spec.instrument] * (1 if spec.side == "BUY" else -1)
        if position + sum(largest.values()) + spec.quantity <= 0:
            return
        limits = self._limits(spec)
        worst, _ = self._position(spec, [])
        for limit in _those(limits, "max_position"):
            if worst > limit:
                self.faults.append(f"{told} to a position of {worst}, the most is {limit}")
        for limit in _those(limits, "max_order_quantity"):
            if spec.quantity > limit:
                self.faults.append(f"{told} with quantity {spec.quantity}, the most is {limit}")

    def _look(self, spec: OrderSpec, reserved_price: int, taken: list[OrderSpec]) -> list[str]:
        faults: list[str] = []
        limits = self._limits(spec)
        value = spec.quantity * reserved_price
        for limit in _those(limits, "max_order_quantity"):
            if spec.quantity > limit:
                faults.append(f"quantity {spec.quantity}, the most is {limit}")
        for limit in _those(limits, "max_order_value"):
            if value > limit * _SCALE:
                faults.append(f"value {value}, the most is {limit * _SCALE}")
        for kind in ("account", "strategy", "stack"):
            name = getattr(spec, kind, "")
            if kind != "stack" and not name:
                continue
            those = [state.spec for state in self._states.orders.values() if state.counted[0]] + taken
            count = sum(1 for other in those if getattr(other, kind, "") == name) + 1
            for limit in _those([self._book.of(kind, name)], "max_open_orders"):
                if count > limit:
                    faults.append(f"{count} open orders of {kind} {name}, the most is {limit}")
        worst, reduces = self._position(spec, taken)
        for limit in _those(limits, "max_position"):
            if worst > limit and not reduces:
                faults.append(f"a position of {worst}, the most is {limit}")
        return faults

    def _position(self, spec: OrderSpec, taken: list[OrderSpec]) -> tuple[int, bool]:
        """How large the position could become on the order's side, and whether it can only become smaller."""
        key = (spec.account, spec.instrument, spec.side)
        quantity = spec.quantity + sum(other.quantity for other in taken if other.side == spec.side)
        for state in self._states.orders.values():
            if (state.spec.account, state.spec.instrument, state.spec.side) == key:
                quantity += state.counted[0]
        position = self._positions[spec.account, spec.instrument]
        after = position + quantity if spec.side == "BUY" else -position + quantity
        return after, after <= 0

    def _limits(self, spec: OrderSpec) -> list[LimitSet]:
        book = self._book
        found = [book.stack, book.of("account", spec.account), book.of("instrument", spec.instrument)]
        return [*found, book.of("strategy", spec.strategy)] if spec.strategy else found


def _those(limits: Iterable[LimitSet], name: str) -> list[int]:
    return [value for each in limits if (value := getattr(each, name)) is not None]


def _is_in(scope: str, spec: OrderSpec) -> bool:
    kind, _, name = scope.partition(":")
    if kind == "stack":
        return True
    if kind == "venue":
        return spec.instrument.endswith(f".{name}")
    return getattr(spec, kind) == name


def over_limits(envelopes: Iterable[ev.Envelope]) -> list[str]:
    """Everything that was accepted and should not have been."""
    watch = LimitWatch()
    for envelope in envelopes:
        watch.apply(envelope)
    return watch.faults


def exposures(envelopes: Iterable[ev.Envelope], account: str, as_of: int) -> tuple[int, int]:
    """What the open orders of an account come to as of an event: how many, and their value in nanos of money."""
    states = States()
    for envelope in envelopes:
        if envelope.seq > as_of:
            break
        states.apply(envelope)
    counted = [state.counted for state in states.orders.values() if state.spec.account == account]
    return sum(1 for quantity, _ in counted if quantity), sum(quantity * price for quantity, price in counted) // _SCALE


def over_spanning_limits(logs: Iterable[Sequence[ev.Envelope]], book: LimitBook) -> list[str]:
    """Everything that was accepted although all partitions together were over a limit then.

    Args:
        logs: Of each partition: they are put in the order of their times, which one clock has given.
        book: The limits, which nobody changed meanwhile. Open orders and what they are worth are told.
    """
    merged = sorted(
        ((envelope.ts_init, number, envelope) for number, log in enumerate(logs) for envelope in log),
        key=lambda each: each[:2],
    )
    return over_together(((number, envelope) for _, number, envelope in merged), book)


def over_together(events: Iterable[tuple[int, ev.Envelope]], book: LimitBook) -> list[str]:
    """As `over_spanning_limits`, of the events of all partitions in the order in which they became durable.

    Args:
        events: Each with its partition.
    """
    states: dict[int, States] = {}
    faults: list[str] = []
    for number, envelope in events:
        states.setdefault(number, States()).apply(envelope)
        event = envelope.data
        if isinstance(event, ev.OrderAccepted):
            accepted = [event.spec]
        elif isinstance(event, ev.OrderListAccepted):
            accepted = [leg.spec for leg in event.orders]
        else:
            continue
        everything = [state for each in states.values() for state in each.orders.values()]
        for spec in accepted:
            faults += [f"{number}/{envelope.seq}: {fault}" for fault in _over(everything, spec, book)]
    return faults


def over_shared(events: Iterable[tuple[int, ev.Envelope]], partitions: int) -> list[str]:
    """Every moment when the slices of a limit were together more than the limit that all were cut from.

    Args:
        events: Of all partitions, in the order in which they became durable, each with its partition.
    """
    books: dict[int, LimitBook] = {}
    faults: list[str] = []
    for number, envelope in events:
        if not isinstance(envelope.data, ev.LimitsAdopted):
            continue
        books[number] = msgspec.json.decode(bytes(envelope.data.limits), type=LimitBook)
        if len(books) < partitions:
            continue
        for scope in {scope for book in books.values() for scope in book.slices}:
            for field in SLICED:
                parts = [part for book in books.values() if (part := slice_in(book.slices, scope, field)) is not None]
                limits = {part.of for part in parts}
                values = [part.value for part in parts]
                if len(parts) == partitions and len(limits) == 1 and sum(values) > max(limits):
                    faults.append(f"{number}/{envelope.seq}: {field} of {scope} is {values}, together over {limits}")
    return faults


def _over(states: list[State], spec: OrderSpec, book: LimitBook) -> list[str]:
    faults: list[str] = []
    named = [("stack", ""), ("strategy", spec.strategy), ("instrument", spec.instrument), ("desk", spec.desk)]
    for kind, name in named:
        if kind != "stack" and not name:
            continue
        limits = book.of(kind, name)
        counted = [each.counted for each in states if kind == "stack" or getattr(each.spec, kind) == name]
        count = sum(1 for quantity, _ in counted if quantity)
        value = sum(quantity * price for quantity, price in counted) // _SCALE
        for what, found, limit in (
            ("open orders", count, limits.max_open_orders),
            ("of value open", value, limits.max_gross_exposure),
        ):
            if limit is not None and found > limit:
                faults.append(f"{kind} {name} has {found} {what}, the most is {limit}")
    return faults
