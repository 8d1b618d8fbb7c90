"""What is to be delivered and paid, and when: the fills of a day, netted, n days later (T+n). Pure."""

from collections.abc import Iterator
from datetime import date, timedelta

import msgspec

from trade2026.domain.instruments import DEFAULT_SESSION, Instrument

DAY_NS = 86_400 * 10**9
DAYS_KEPT = 60
"""Trade days that are kept apart; older ones have settled and are summed up."""
EARLIER = -1
"""The trade day under which older ones are summed up."""
_FRIDAY = 4
_EPOCH = date(1970, 1, 1)


class Obligation(msgspec.Struct):
    """The net of one account's fills in one instrument on one trade day."""

    quantity: int = 0
    """Signed: to be received; nanos."""
    cash: int = 0
    """Signed: to be received, fees deducted; at `COST_SCALE` of the settlement currency."""


class Ledger(msgspec.Struct):
    """One account's obligations: trade day (days since the epoch) → instrument → net."""

    days: dict[int, dict[str, Obligation]] = {}

    def add(self, ts: int, instrument: str, quantity: int, cash: int) -> None:
        """Add a fill of a time (ns)."""
        day = ts // DAY_NS
        if day not in self.days and len(self.days) > DAYS_KEPT:
            self._sum_up(min(known for known in self.days if known != EARLIER))
        net = self.days.setdefault(day, {}).setdefault(instrument, Obligation())
        net.quantity += quantity
        net.cash += cash

    def _sum_up(self, day: int) -> None:
        earlier = self.days.setdefault(EARLIER, {})
        for instrument, net in self.days.pop(day).items():
            total = earlier.setdefault(instrument, Obligation())
            total.quantity += net.quantity
            total.cash += net.cash

    def lines(self) -> Iterator[tuple[int, str, Obligation]]:
        """Trade day, instrument and net, the oldest first."""
        for day, nets in sorted(self.days.items()):
            for instrument, net in sorted(nets.items()):
                yield day, instrument, net


def settlement_day(trade_day: int, days: int, instrument: Instrument | None) -> int:
    """Return when a trade settles, in days since the epoch; weekends count only where it trades on them."""
    always = instrument is None or instrument.session == DEFAULT_SESSION

    def is_open(day: date) -> bool:
        return always or day.weekday() <= _FRIDAY

    when, left = _EPOCH + timedelta(days=trade_day), days
    while left:
        when += timedelta(days=1)
        left -= is_open(when)
    while not is_open(when):
        when += timedelta(days=1)
    return (when - _EPOCH).days
