"""What became of every order that a prober has sent: pure, so that it can be shown to find what it is there to find.

An order has a sequence number in its client order id. What its client was told, what the order service lists and what
its log holds must be the same story: acknowledged means there once, refused means not there or there as rejected, and
an attempt without an answer is not known until the same id is asked again.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

_SHOWN_MAX = 12
_ENTERED = ("OrderAccepted", "OrderRefused")
"""Events with which an order begins."""


class Told(StrEnum):
    """What a client knows of an order."""

    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    """Refused by risk, and recorded as that."""
    REFUSED = "refused"
    """Not taken, and nothing recorded."""
    UNKNOWN = "unknown"
    """No answer yet."""


class Answer(NamedTuple):
    """What an attempt was told; status 0 for no answer at all."""

    status: int
    order_id: str = ""
    reject_code: str = ""

    @property
    def is_final(self) -> bool:
        """Whether a client need not ask again: 429 and 5xx say that a retry with the same id is safe."""
        return self.status == 200 or (400 <= self.status < 500 and self.status != 429)

    @property
    def told(self) -> Told:
        """What it says of the order."""
        if not self.is_final:
            return Told.UNKNOWN
        if self.status == 200:
            return Told.ACKNOWLEDGED
        return Told.REJECTED if self.status == 422 and self.order_id else Told.REFUSED


@dataclass
class Sent:
    """One order, as its client knows it. Times are seconds of one clock."""

    at: float
    account: str = ""
    answers: list[Answer] = field(default_factory=list[Answer])
    settled_at: float = 0.0

    @property
    def told(self) -> Told:
        """By the last answer: whoever has no final one knows nothing."""
        return self.answers[-1].told if self.answers else Told.UNKNOWN

    @property
    def was_unknown(self) -> bool:
        """Whether an attempt had no answer, so that it may have been done."""
        return any(answer.status == 0 or (answer.status >= 500 and answer.status != 503) for answer in self.answers)


class Lost(AssertionError):
    """The story of a client and that of the order service differ."""


@dataclass(frozen=True)
class Report:
    """What a run has come to.

    Attributes:
        reject_codes: Why orders were rejected, and how many for each reason.
        resolved: Orders whose first attempt had no answer, and of which it is known now what became of them.
        deferred: Attempts that were told to come again later.
        outage_seconds_max: The longest time between two acknowledgements of one account, or from the start to the first
            of them.
        wait_seconds_max: The longest time from the first attempt of an order to its answer.
    """

    sent: int
    acknowledged: int
    rejected: int
    refused: int
    resolved: int
    deferred: int
    outage_seconds_max: float
    wait_seconds_max: float
    reject_codes: Mapping[str, int] = field(default_factory=dict[str, int])

    def __str__(self) -> str:
        codes = ", ".join(f"{code} {count}" for code, count in self.reject_codes.items())
        return (
            f"{self.sent} orders sent: {self.acknowledged} acknowledged, {self.rejected} rejected"
            f"{f' ({codes})' if codes else ''}, "
            f"{self.refused} refused; {self.resolved} of them unknown for a time, {self.deferred} times told to wait; "
            f"longest outage {self.outage_seconds_max:.1f} s, longest wait {self.wait_seconds_max:.1f} s"
        )


class Ledger:
    """What a prober has sent and was told.

    Args:
        prefix: Of its client order ids; the sequence number follows.
    """

    def __init__(self, prefix: str, started_at: float) -> None:
        self.prefix = prefix
        self.sent: dict[int, Sent] = {}
        self._started_at, self._acknowledged_at = started_at, dict[str, float]()
        self._outage = 0.0

    def client_order_id(self, number: int) -> str:
        """Of an order."""
        return f"{self.prefix}{number}"

    def number_of(self, client_order_id: str) -> int | None:
        """The sequence number in a client order id; None if it is none of ours."""
        digits = client_order_id.removeprefix(self.prefix)
        return int(digits) if digits != client_order_id and digits.isdecimal() else None

    def begun(self, now: float, account: str = "") -> int:
        """A new order is about to be sent: its sequence number."""
        number = len(self.sent)
        self.sent[number] = Sent(now, account)
        return number

    def answered(self, number: int, answer: Answer, now: float) -> None:
        """An attempt has ended."""
        order = self.sent[number]
        order.answers.append(answer)
        if answer.is_final:
            order.settled_at = now
        if answer.told is Told.ACKNOWLEDGED:
            before = self._acknowledged_at.get(order.account, self._started_at)
            self._outage = max(self._outage, now - before)
            self._acknowledged_at[order.account] = max(before, now)

    def acknowledged_since(self, number: int) -> int:
        """How many orders from a sequence number on are acknowledged."""
        return sum(order.told is Told.ACKNOWLEDGED for order in list(self.sent.values())[number:])

    def account(self, listed: Iterable[Mapping[str, Any]], *logs: Iterable[Mapping[str, Any]]) -> Report:
        """Compare every sequence number with the order service and with its log.

        Args:
            listed: Every order of the prober's accounts, as `GET /orders` shows it.
            logs: The whole log of each of their partitions, as `/ws/events` shows it.

        Raises:
            Lost: an order is lost, doubled or invented, is another one than was told, or the log has a gap.
        """
        faults = [*self._faults_of_listed(list(listed)), *self._faults_of_logs([list(log) for log in logs])]
        if faults:
            more = f"\n… and {len(faults) - _SHOWN_MAX} more" if len(faults) > _SHOWN_MAX else ""
            raise Lost("\n".join(faults[:_SHOWN_MAX]) + more)
        return self.report()

    def report(self) -> Report:
        """The figures alone; nothing is compared."""
        told = Counter(order.told for order in self.sent.values())
        orders = [order for order in self.sent.values() if order.settled_at]
        return Report(
            sent=len(self.sent),
            acknowledged=told[Told.ACKNOWLEDGED],
            rejected=told[Told.REJECTED],
            refused=told[Told.REFUSED],
            resolved=sum(order.was_unknown for order in orders),
            deferred=sum(answer.status in (429, 503) for order in self.sent.values() for answer in order.answers),
            outage_seconds_max=self._outage,
            wait_seconds_max=max((order.settled_at - order.at for order in orders), default=0.0),
            reject_codes=Counter(order.answers[-1].reject_code for order in orders if order.told is Told.REJECTED),
        )

    def _faults_of_listed(self, listed: list[Mapping[str, Any]]) -> Iterable[str]:
        yield from self._faults_of("the order service", [(o["client_order_id"], o["order_id"]) for o in listed])
        status = {order["client_order_id"]: order["status"] for order in listed}
        for number, order in self.sent.items():
            found = status.get(self.client_order_id(number))
            if order.told is Told.REJECTED and found not in (None, "Rejected"):
                yield f"{self.client_order_id(number)} was told that it is rejected, and is {found}"

    def _faults_of_logs(self, logs: list[list[Mapping[str, Any]]]) -> Iterable[str]:
        for log in logs:
            if fault := _first_break([event["seq"] for event in log]):
                yield f"the log has a gap or goes back: {fault}"
        events = list(itertools.chain.from_iterable(logs))
        entered = [(event["data"]["spec"], event["data"]["order_id"]) for event in events if event["type"] in _ENTERED]
        yield from self._faults_of("the log", [(spec["client_order_id"], order_id) for spec, order_id in entered])
        fills = Counter(event["data"]["exec_id"] for event in events if event["type"] == "OrderFilled")
        yield from (f"fill {exec_id} is in the log {count} times" for exec_id, count in fills.items() if count > 1)

    def _faults_of(self, where: str, found: list[tuple[str, str]]) -> Iterable[str]:
        """What contradicts the clients in a list of client order ids and order ids."""
        there: dict[int, list[str]] = {}
        for client_order_id, order_id in found:
            if (number := self.number_of(client_order_id)) is not None:
                there.setdefault(number, []).append(order_id)
        for number in sorted(there.keys() - self.sent.keys()):
            yield f"{self.client_order_id(number)} is in {where}, and nobody has sent it"
        for number, order in self.sent.items():
            name, ids = self.client_order_id(number), there.get(number, [])
            told = {answer.order_id for answer in order.answers if answer.order_id}
            if order.told is Told.UNKNOWN:
                yield f"{name} has no answer: {len(order.answers)} attempts"
            if len(ids) > 1:
                yield f"{name} is in {where} {len(ids)} times: {', '.join(ids)}"
            if len(told) > 1:
                yield f"{name} was told to be {' and '.join(sorted(told))}"
            if order.told in (Told.ACKNOWLEDGED, Told.REJECTED) and not ids:
                yield f"{name} was {order.told}, and is not in {where}"
            if order.told is Told.REFUSED and ids:
                yield f"{name} was refused, and is in {where} as {ids[0]}"
            if ids and told and set(ids) != told:
                yield f"{name} was told to be {min(told)}, and is {ids[0]} in {where}"


def _first_break(numbers: list[int]) -> str:
    return next((f"{b} follows {a}" for a, b in itertools.pairwise(numbers) if b != a + 1), "")
