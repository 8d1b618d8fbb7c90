"""What must hold of a log after anything has happened to its writers: slow, obvious, independent of the folds.

log = await read_orders(bus)            # raises Broken with everything that is wrong
log.require(order_ids_that_were_acknowledged)
for name, answer in answers.items():    # GET /positions/{account} of each service
    compare_positions(log, answer, name)
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from trade2026.domain import events as ev
from trade2026.domain.numbers import cost_to_nanos, to_nanos, to_text
from trade2026.domain.orders import OrderSpec, partition_of_id
from trade2026.kit.bus.port import Bus

ORDERS = "orders.events"
REPORTS = "venue.reports"
_SCALE = 10**9
_SHOWN_MAX = 20

_FINAL = (ev.OrderCanceled, ev.OrderExpired, ev.OrderRejected)
_NEVER_AFTER_CLOSE = (
    *_FINAL,
    ev.OrderOpened,
    ev.OrderTriggered,
    ev.StopTrailed,
    ev.OrderReleased,
    ev.CancelRequested,
    ev.ReplaceRequested,
    ev.OrderReplaced,
)


class Broken(AssertionError):
    """The log or an answer is not what it must be; the message lists what is wrong."""

    def __init__(self, what: str, faults: list[str]) -> None:
        more = f"\n… and {len(faults) - _SHOWN_MAX} more" if len(faults) > _SHOWN_MAX else ""
        super().__init__(f"{what}:\n" + "\n".join(faults[:_SHOWN_MAX]) + more)
        self.faults = faults


@dataclass
class Life:
    """One order, told event by event."""

    order_id: str
    spec: OrderSpec
    quantity: int
    closed: str = ""
    fills: list[ev.OrderFilled] = field(default_factory=list)

    @property
    def cum_qty(self) -> int:
        """Executed so far, nanos."""
        return sum(fill.last_qty for fill in self.fills)


@dataclass
class Held:
    """A position by exact fractions: average cost as a textbook tells it. Amounts are in nanos."""

    quantity: int = 0
    average: Fraction = Fraction(0)
    realized: Fraction = Fraction(0)
    fees: int = 0
    fills: int = 0

    def add(self, fill: ev.OrderFilled) -> None:
        """Fold one fill; `realized` and `fees` are at the scale of a price times a quantity."""
        signed = fill.last_qty if fill.side == "BUY" else -fill.last_qty
        if self.quantity * signed >= 0:
            whole = abs(self.quantity) + abs(signed)
            self.average = (self.average * abs(self.quantity) + fill.last_px * abs(signed)) / whole
        else:
            closing = min(abs(self.quantity), abs(signed))
            self.realized += (fill.last_px - self.average) * closing * (1 if self.quantity > 0 else -1)
            if abs(signed) > abs(self.quantity):
                self.average = Fraction(fill.last_px)
        self.quantity += signed
        self.fees += fill.fee
        self.fills += 1
        if self.quantity == 0:
            self.average = Fraction(0)


@dataclass
class OrderLog:
    """A whole log of orders, of one partition, that has been found sound."""

    envelopes: list[ev.Envelope]
    orders: dict[str, Life]
    partition: int = 0
    _held: dict[str, tuple[int, dict[str, Held]]] = field(default_factory=dict)
    """By account: what it held after which event; a later question goes on from there."""

    @property
    def fills(self) -> list[ev.Envelope]:
        """Every execution, in order."""
        return [envelope for envelope in self.envelopes if isinstance(envelope.data, ev.OrderFilled)]

    def require(self, order_ids: Iterable[str]) -> None:
        """Every acknowledged order must be here.

        Raises:
            Broken: some are lost.
        """
        lost = [order_id for order_id in order_ids if order_id not in self.orders]
        if lost:
            raise Broken("acknowledged orders are not in the log", lost)

    def positions(self, account: str, as_of: int) -> dict[str, Held]:
        """What the account holds after the event at `as_of`, by instrument."""
        known, held = self._held.get(account, (-1, {}))
        if known > as_of:
            known, held = -1, {}
        first = self.envelopes[0].seq if self.envelopes else 0
        for envelope in self.envelopes[max(0, known + 1 - first) : as_of + 1 - first]:
            fill = envelope.data
            if isinstance(fill, ev.OrderFilled) and fill.account == account:
                held.setdefault(fill.instrument, Held()).add(fill)
        self._held[account] = (as_of, held)
        return {instrument: replace(position) for instrument, position in held.items()}


async def read_partition(
    bus: Bus, topic: str, partition: int = 0, *, known: Sequence[ev.Envelope] = ()
) -> list[ev.Envelope]:
    """Read all that is kept of a partition.

    Args:
        known: What an earlier call has returned; it is not read again.

    Raises:
        Broken: a gap, an epoch or `ts_init` that falls, or a record under another position than its own.
    """
    envelopes, faults = list(known), list[str]()
    start = await bus.start(topic, partition)
    position = known[-1].seq + 1 if known else start
    end = await bus.end(topic, partition)
    if end < position:
        faults.append(f"{topic} ended at {position} before, now it ends at {end}")
    while position < end:
        records = await bus.read(topic, partition, position, 2_000)
        if not records:
            faults.append(f"{topic} says it ends at {end}, and has nothing at {position}")
            break
        for record in records:
            envelope = ev.decode(record.body)
            if not record.seq == envelope.seq == position:
                faults.append(f"at {position} lies record {record.seq} with event {envelope.seq}")
            if envelopes and envelope.epoch < envelopes[-1].epoch:
                faults.append(f"{position}: epoch falls from {envelopes[-1].epoch} to {envelope.epoch}")
            if envelopes and envelope.ts_init < envelopes[-1].ts_init:
                faults.append(f"{position}: ts_init falls from {envelopes[-1].ts_init} to {envelope.ts_init}")
            envelopes.append(envelope)
            position = record.seq + 1
    assert position >= start
    if faults:
        raise Broken(f"{topic}/{partition} is no sound log", faults)
    return envelopes


async def read_orders(bus: Bus, partition: int = 0, *, known: Sequence[ev.Envelope] = ()) -> OrderLog:
    """Read a partition of `orders.events` whole and follow every order through its life.

    Raises:
        Broken: the log is not sound, or an order did what no order may.
    """
    envelopes = await read_partition(bus, ORDERS, partition, known=known)
    orders, faults = follow_orders(envelopes)
    faults += [f"{order_id} is in partition {partition}" for order_id in orders if _home(order_id) != partition]
    if faults:
        raise Broken(f"{ORDERS} tells of impossible lives", faults)
    return OrderLog(envelopes, orders, partition)


def _home(order_id: str) -> int:
    return max(0, partition_of_id(order_id))


def follow_orders(envelopes: Iterable[ev.Envelope]) -> tuple[dict[str, Life], list[str]]:
    """Return every order's life, and all that is wrong with them."""
    orders: dict[str, Life] = {}
    client_ids: dict[tuple[str, str], str] = {}
    executions: set[tuple[str, str]] = set()
    faults: list[str] = []
    last_report = -1
    for envelope in envelopes:
        event, seq = envelope.data, envelope.seq
        for order_id, spec, refused in _born(event):
            if order_id in orders:
                faults.append(f"{seq}: order {order_id} exists already")
            key = (spec.account, spec.client_order_id)
            if key in client_ids:
                faults.append(f"{seq}: {key} names {client_ids[key]} and {order_id}")
            client_ids[key] = order_id
            orders[order_id] = Life(order_id, spec, spec.quantity, "Rejected" if refused else "")
        report = getattr(event, "report_seq", -1)
        if report >= 0:
            if report <= last_report:
                faults.append(f"{seq}: report {report} follows report {last_report}")
            last_report = report
        order_id = getattr(event, "order_id", "")
        if not order_id or isinstance(event, ev.OrderAccepted | ev.OrderRefused):
            continue
        order = orders.get(order_id)
        if order is None:
            faults.append(f"{seq}: {type(event).__name__} of order {order_id}, which does not exist")
            continue
        faults += [f"{seq}: order {order_id}: {fault}" for fault in _step(order, event)]
        if isinstance(event, ev.OrderFilled):
            execution = (event.instrument.rpartition(".")[2], event.exec_id)
            if execution in executions:
                faults.append(f"{seq}: execution {execution} counts twice")
            executions.add(execution)
    return orders, faults


def _born(event: ev.AnyEvent) -> list[tuple[str, OrderSpec, bool]]:
    if isinstance(event, ev.OrderAccepted):
        return [(event.order_id, event.spec, False)]
    if isinstance(event, ev.OrderRefused):
        return [(event.order_id, event.spec, True)]
    if isinstance(event, ev.OrderListAccepted):
        return [(leg.order_id, leg.spec, False) for leg in event.orders]
    return []


def _step(order: Life, event: ev.AnyEvent) -> list[str]:
    if order.closed and isinstance(event, _NEVER_AFTER_CLOSE):
        return [f"{type(event).__name__} after it was {order.closed}"]
    if isinstance(event, _FINAL):
        order.closed = type(event).__name__.removeprefix("Order")
    elif isinstance(event, ev.OrderReleased):
        order.quantity = event.spec.quantity
    elif isinstance(event, ev.OrderReplaced):
        order.quantity = event.quantity
        if order.cum_qty >= order.quantity:
            order.closed = "Filled"
    elif isinstance(event, ev.OrderFilled):
        return _fill(order, event)
    return []


def _fill(order: Life, fill: ev.OrderFilled) -> list[str]:
    faults: list[str] = []
    spec = order.spec
    if (fill.account, fill.instrument, fill.side) != (spec.account, spec.instrument, spec.side):
        faults.append(f"execution {fill.exec_id} is of another account, instrument or side")
    if fill.last_qty <= 0 or fill.last_px <= 0:
        faults.append(f"execution {fill.exec_id} of {fill.last_qty} at {fill.last_px}")
    order.fills.append(fill)
    if fill.cum_qty != order.cum_qty:
        faults.append(f"cum_qty is {fill.cum_qty}, its executions sum to {order.cum_qty}")
    cost = sum(other.last_qty * other.last_px for other in order.fills)
    if fill.cum_cost != cost:
        faults.append(f"cum_cost is {fill.cum_cost}, its executions cost {cost}")
    if order.closed:
        if fill.leaves_qty:
            faults.append(f"leaves {fill.leaves_qty} after it was {order.closed}")
    elif fill.cum_qty + fill.leaves_qty != order.quantity:
        faults.append(f"cum_qty {fill.cum_qty} and leaves_qty {fill.leaves_qty} are not {order.quantity}")
    if not order.closed and order.cum_qty >= order.quantity:
        order.closed = "Filled"
    return faults


def check_venue(log: OrderLog, reports: list[ev.Envelope]) -> None:
    """The venue took each order once, and what it executed is what the order log tells.

    Args:
        reports: All of `venue.reports`, read before the log if the stack runs.

    Raises:
        Broken: an order or an execution is doubled, lost, unknown or different on one of the two sides.
    """
    placed: Counter[str] = Counter()
    executed: Counter[str] = Counter()
    for report in reports:
        if isinstance(report.data, ev.VenueAccepted):
            placed[report.data.order_id] += 1
        elif isinstance(report.data, ev.VenueFilled):
            executed[report.data.exec_id] += 1
    faults = [f"the venue took order {order_id} {times} times" for order_id, times in placed.items() if times > 1]
    faults += [
        f"the venue reports execution {exec_id} {times} times" for exec_id, times in executed.items() if times > 1
    ]
    faults += [f"the venue has order {order_id}, the log does not" for order_id in placed if order_id not in log.orders]
    known = max((getattr(envelope.data, "report_seq", -1) for envelope in log.envelopes), default=-1)
    told = {getattr(envelope.data, "report_seq", -1): envelope.data for envelope in log.fills}
    first, end = (reports[0].seq, reports[-1].seq + 1) if reports else (0, 0)
    for seq, fill in told.items():
        if seq >= end:
            continue  # reported since
        report = reports[seq - first].data if seq >= first else None
        if not isinstance(report, ev.VenueFilled) or _terms(report) != _terms(fill):
            faults.append(f"the fill {_terms(fill)} of report {seq} is not what the venue reported: {report}")
    for report in reports:
        if isinstance(report.data, ev.VenueFilled) and report.seq <= known and report.seq not in told:
            faults.append(f"the venue's fill {_terms(report.data)} of report {report.seq} is not in the log")
    if faults:
        raise Broken("the venue and the order log disagree", faults)


def _terms(fill: Any) -> tuple[str, str, int, int]:
    return fill.order_id, fill.exec_id, fill.last_qty, fill.last_px


async def check_derived(bus: Bus, log: OrderLog, topic: str) -> list[ev.Envelope]:
    """As `check_image`, of all that is on a topic now. Returns what was published."""
    published = await read_partition(bus, topic, log.partition)
    check_image(log, published, topic)
    return published


def check_image(log: OrderLog, published: list[ev.Envelope], topic: str) -> None:
    """`positions` and `pnl` must tell of each fill at most once, in order, and name it as their cause.

    Args:
        published: All of the topic, read before the log if the stack runs.

    Raises:
        Broken: a fill is told twice, or something that is no fill.
    """
    fills = {envelope.seq: envelope for envelope in log.fills}
    told = Counter(getattr(envelope.data, "as_of", -1) for envelope in published)
    faults = [f"the fill at {as_of} is told {times} times" for as_of, times in told.items() if times > 1]
    newest = -1
    for envelope in published:
        event = envelope.data
        as_of = getattr(event, "as_of", -1)
        if as_of < newest:
            faults.append(f"{envelope.seq}: as_of falls from {newest} to {as_of}")
        newest = as_of
        fill = fills.get(as_of)
        if fill is None or getattr(event, "exec_id", "") != getattr(fill.data, "exec_id", ""):
            faults.append(f"{envelope.seq}: there is no such fill at {as_of}")
        elif envelope.causation_id != f"{ORDERS}/{log.partition}/{as_of}":
            faults.append(f"{envelope.seq}: caused by {envelope.causation_id!r}, not by the fill at {as_of}")
    if faults:
        raise Broken(f"{topic} is no image of the fills", faults)


def compare_positions(log: OrderLog, answer: dict[str, Any], name: str = "the service") -> None:
    """Compare an answer to `GET /positions/{account}` with the log as of the same event.

    Quantity and fees must be exact; realized and average price to the last of nine decimals. Fields that
    an answer does not have are not compared.

    Raises:
        Broken: it says something else, or speaks of events that are not in the log.
    """
    as_of = answer["as_of"]
    if as_of >= len(log.envelopes):
        raise Broken(name, [f"is as of {as_of}, the log ends at {len(log.envelopes) - 1}"])
    held = log.positions(answer["account"], as_of)
    said = {line["symbol"]: line for line in answer["positions"]}
    faults = [
        f"{symbol} is not held at all" for symbol in said.keys() - held.keys() if to_nanos(said[symbol]["quantity"])
    ]
    for symbol, position in held.items():
        line = said.get(symbol)
        if line is None:
            if position.quantity:
                faults.append(f"{symbol} is missing, {to_text(position.quantity)} are held")
            continue
        wanted = {
            "quantity": (position.quantity, 0),
            "fees": (cost_to_nanos(position.fees), 0),
            "realized": (position.realized / _SCALE, 1 + Fraction(position.fills, _SCALE)),
            "average_price": (position.average, 1 + position.fills),
        }
        for key, (value, tolerance) in wanted.items():
            if key in line and abs(to_nanos(line[key]) - value) > tolerance:
                faults.append(f"{symbol}: {key} is {line[key]}, must be {float(value) / _SCALE:.9f}")
    if faults:
        raise Broken(f"{name} as of {as_of}", faults)
