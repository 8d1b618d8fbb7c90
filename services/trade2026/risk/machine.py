"""What the risk service decides, without I/O: versions of the limits, latched kills, alerts.

The manifest's limits are ceilings. A tightening makes them narrower until it ends; what is in force is
always recomputed from both, so the end of one tightening never undoes another.
"""

from collections import deque

import msgspec

from trade2026.controls.exposure import Exposure
from trade2026.controls.limits import LimitBook, LimitSet, Slices, Tightening, ceiling_of, loosens
from trade2026.domain import events as ev
from trade2026.domain.numbers import to_text
from trade2026.domain.orders import Order

HISTORY_MAX = 1_000
ALERTS_MAX = 10_000
GRANTS_MAX = 1_000
REFUSALS_PER_MINUTE = 20
"""So many refusals of one account for one reason within a minute raise an alert."""
MINUTE_NS = 60_000_000_000


class WouldWiden(Exception):
    """A tightening that is none: `fields` would become wider than what is in force."""

    def __init__(self, scope: str, fields: list[str]) -> None:
        self.scope, self.fields = scope, fields
        super().__init__(f"{', '.join(fields)} of {scope} would be wider than now; only the manifest widens limits")


class Version(msgspec.Struct, frozen=True):
    """One version of the limits, who made it and why."""

    version: int
    ts: int
    by: str
    reason: str
    limits: LimitBook


STOP_ALERTS = ("halted-", "killed-")
"""How the ids of alerts begin that tell of a stop."""


class Alert(msgspec.Struct):
    """Something a risk officer must see, and whether one has."""

    alert_id: str
    ts: int
    severity: str
    scope: str
    message: str
    acknowledged_by: str = ""
    note: str = ""


def tightened(book: LimitBook, wanted: Tightening) -> list[Tightening]:
    """Return the tightenings with one more.

    Raises:
        WouldWiden: some limit in force is tighter than what is wanted.
        KeyError: limits are not kept for such a scope.
    """
    kind, _, name = wanted.scope.partition(":")
    before = book.of(kind, name)
    wider = [
        field
        for field in loosens(wanted.limits, before)
        if field != "restricted" and getattr(wanted.limits, field) is not None  # lists of what is forbidden add up
    ]
    if wider:
        raise WouldWiden(wanted.scope, wider)
    return [*book.tightened, wanted]


def kept_through(tightenings: list[Tightening], scope: str, before: LimitBook, after: LimitBook) -> list[Tightening]:
    """Return the tightenings, those of a scope bound to other ceilings than they were made under.

    A strategy's manifest that comes or goes is no decision about what a person has tightened: that stands.
    """

    def bound(each: Tightening) -> Tightening:
        if each.scope != scope or each.ceiling != ceiling_of(before, scope, each.limits):
            return each
        return msgspec.structs.replace(each, ceiling=ceiling_of(after, scope, each.limits))

    return [bound(each) for each in tightenings]


def unblocked(book: LimitBook, instrument: str) -> list[Tightening]:
    """Return the tightenings without the blocks of an instrument."""
    kept: list[Tightening] = []
    for each in book.tightened:
        names = each.limits.restricted
        if each.ceiling is None and names is not None and instrument in names:
            continue
        kept.append(each)
    return kept


def near_limits(scope: str, limits: LimitSet, exposure: Exposure, day: int, as_of: object) -> list[ev.AlertRaised]:
    """Return an alert for each limit of which nine tenths or more are used; one per scope, limit and UTC day."""
    alerts: list[ev.AlertRaised] = []
    for field, limit, used in (
        ("max_gross_exposure", limits.max_gross_exposure, exposure.gross),
        ("max_net_exposure", limits.max_net_exposure, exposure.net_worst),
        ("max_daily_loss", limits.max_daily_loss, -exposure.daily_pnl if exposure.day == day else 0),
    ):
        if limit is None or used <= 0 or used * 10 < limit * 9:
            continue
        over = used > limit
        alerts.append(
            ev.AlertRaised(
                alert_id=f"{'over' if over else 'near'}-{field}-{scope}-{day}",
                severity="critical" if over else "warning",
                scope=scope,
                message=f"{field} of {scope} is {to_text(limit)}, used are {to_text(used)} as of {as_of}",
            )
        )
    return alerts


def next_end(book: LimitBook) -> int:
    """When the next tightening ends, ns; 0 if none does by itself."""
    return min((each.until for each in book.tightened if each.until), default=0)


class Grants:
    """What one partition was granted, oldest first, until its log shows it."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, Slices]] = deque()
        """The position of each grant, and what it says."""
        self.forgotten = -1
        """The newest grant that was dropped before it was seen to be recorded."""

    def add(self, seq: int, slices: Slices) -> None:
        """One more."""
        self.waiting.append((seq, slices))
        if len(self.waiting) > GRANTS_MAX:
            self.forgotten = self.waiting.popleft()[0]

    def recorded(self, grant: int) -> None:
        """The partition's log has all up to this one."""
        while self.waiting and self.waiting[0][0] <= grant:
            self.waiting.popleft()


class RiskMachine:
    """The fold of `risk.events`."""

    def __init__(self) -> None:
        self.next_seq = 0
        self.book = LimitBook(version=0)
        """In force; version 0 until the first was recorded."""
        self.history: deque[Version] = deque(maxlen=HISTORY_MAX)
        self.alerts: dict[str, Alert] = {}
        self.stopped: dict[str, ev.Killed] = {}
        """Kills and halts that were asked for here and not resumed here."""
        self.grants: dict[int, Grants] = {}
        """By partition: slices that it may not have recorded yet."""

    def apply(self, envelope: ev.Envelope) -> None:
        """Fold the next event.

        Raises:
            ev.UnknownEvent: it is no event of this topic.
        """
        assert envelope.seq == self.next_seq, f"event {envelope.seq} follows {self.next_seq - 1}"
        data = envelope.data
        match data:
            case ev.LimitsChanged():
                self.book = msgspec.json.decode(data.limits, type=LimitBook)
                self.history.append(Version(data.version, envelope.ts_init, data.by, data.reason, self.book))
            case ev.SlicesGranted():
                self.grants.setdefault(data.partition, Grants()).add(
                    envelope.seq, msgspec.json.decode(data.slices, type=Slices)
                )
            case ev.AlertRaised():
                alert = Alert(data.alert_id, envelope.ts_init, data.severity, data.scope, data.message)
                self.alerts.setdefault(data.alert_id, alert)
                while len(self.alerts) > ALERTS_MAX:
                    del self.alerts[next(iter(self.alerts))]
            case ev.AlertAcknowledged():
                alert = self.alerts.get(data.alert_id)
                if alert is not None:
                    alert.acknowledged_by, alert.note = data.by, data.note
            case ev.Killed():
                self.stopped[data.scope] = data
            case ev.Resumed():
                self.stopped.pop(data.scope, None)
            case ev.OwnerStarted():
                pass
            case _:
                raise ev.UnknownEvent(f"{type(data).__name__} is no risk event")
        self.next_seq = envelope.seq + 1


class Watch:
    """Finds in a partition of the order log what a risk officer must see; the same log gives the same alerts."""

    def __init__(self, partition: int = 0) -> None:
        self._names = f"-{partition}-" if partition else "-"
        self._minute = 0
        self._refusals: dict[tuple[str, str], int] = {}

    def look(self, envelope: ev.Envelope, order: Order | None = None) -> ev.AlertRaised | None:
        """Return the alert that an order event calls for.

        Args:
            order: That the event has changed, if memory holds it.
        """
        match envelope.data:
            case ev.Killed() as stop:
                word = "halted" if stop.halt else "killed"
                return ev.AlertRaised(
                    alert_id=f"{word}{self._names}{envelope.seq}",
                    severity="warning" if stop.cause == "person" else "critical",
                    scope=stop.scope,
                    message=f"{stop.scope} was {word} by {stop.by}: {stop.reason}",
                )
            case ev.OrderRefused() as refused:
                return self._refused(refused, envelope.ts_event)
            case ev.OrderRejected() as rejected if order is not None and order.list_role == "child":
                return ev.AlertRaised(
                    alert_id=f"unprotected-{rejected.order_id}",
                    severity="critical",
                    scope=f"account:{order.spec.account}",
                    message=f"{rejected.order_id} of list {order.list_id} was rejected with {rejected.reject_code} after "
                    f"its parent had executed, which may have nothing to protect it now: {rejected.reason}",
                )
            case _:
                return None

    def _refused(self, refused: ev.OrderRefused, ts: int) -> ev.AlertRaised | None:
        minute = ts // MINUTE_NS
        if minute != self._minute:
            self._minute = minute
            self._refusals.clear()
        key = (refused.spec.account, refused.reject_code)
        count = self._refusals[key] = self._refusals.get(key, 0) + 1
        if count != REFUSALS_PER_MINUTE:
            return None
        account, code = key
        return ev.AlertRaised(
            alert_id=f"refusals-{account}-{code}-{minute}",
            severity="warning",
            scope=f"account:{account}",
            message=f"{count} orders were refused within a minute with {code}: {refused.reason}",
        )
