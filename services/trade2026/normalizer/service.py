"""The normalizer: follows `market.raw`, owns `market.ticks`, `market.books` and `market.bars`.

What it promises: every trade of a venue once and in the venue's order, every bar once, each with the message that made
it certain as its cause; after a restart all of it goes on as if nothing had happened. The newest bars are answered
from memory, which follows the own topic.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

from trade2026.domain.events import Envelope
from trade2026.domain.instruments import Instruments
from trade2026.domain.market import Bar, Book, Trade
from trade2026.kit.bus.port import Record
from trade2026.kit.follower import Follower
from trade2026.kit.http import App
from trade2026.kit.lag import Followed
from trade2026.kit.projection import Projection
from trade2026.kit.service import Context, Health, Service
from trade2026.normalizer import api
from trade2026.normalizer.fold import BARS, BOOKS, TICKS, MarketFold
from trade2026.normalizer.machine import Rules

RAW = "market.raw"
BARS_KEPT = 2_000
"""Newest bars of each instrument and interval that are answered."""
_READ_BACK_MAX = 20_000

Kept = deque[tuple[int, Bar]]
"""Bars with their positions in `market.bars`, oldest first."""


class NormalizerService(Service):
    """The market as the platform tells it, and the quality of what it is made of."""

    name = "normalizer"
    title = "Market data and its quality"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.instruments = Instruments(self.settings.instruments)
        self.rules = msgspec.convert(self.settings.config.get(self.name, {}), Rules, strict=False)
        self.kept: dict[tuple[str, str], Kept] = {}
        publishes: dict[str, tuple[type, ...]] = {TICKS: (Trade,), BOOKS: (Book,), BARS: (Bar,)}
        self.projection = Projection(context, self.name, self._empty, publishes, follows=RAW)
        self._bars: Follower | None = None

    @property
    def fold(self) -> MarketFold:
        """The market; another object after a recovery."""
        return self.projection.machine

    def routes(self, app: App) -> None:
        api.add_routes(app, self)

    async def start(self) -> None:
        await self.projection.start()
        bus = self.context.bus
        begin = max(await bus.start(BARS, 0), await bus.end(BARS, 0) - _READ_BACK_MAX)
        self._bars = Follower(bus, BARS, self._keep, from_seq=begin)
        await self._bars.start()

    async def stop(self) -> None:
        if self._bars is not None:
            await self._bars.stop()
        await self.projection.stop()

    def readiness(self) -> tuple[bool, str]:
        return self.projection.readiness()

    def replaced(self) -> str:
        return self.projection.replaced

    def followed(self) -> Iterable[Followed]:
        return [part for part in (self.projection.followed, self._bars) if part is not None]

    def health(self) -> dict[str, Health]:
        checks = self.projection.health()
        checks["market_data"] = checks.pop("log")
        error = self._bars.error if self._bars is not None else ""
        if error:
            checks[BARS] = Health(False, error)
        return checks

    def stats(self) -> dict[str, Any]:
        return {
            **self.projection.stats(),
            "bars": self._bars.next_seq if self._bars is not None else 0,
            "unknown_venue": self.fold.unknown,
        }

    def _empty(self) -> MarketFold:
        dialects = {venue.name: venue.type for venue in self.settings.venues}
        return MarketFold(self.settings.instruments, self.rules, dialects)

    def _keep(self, envelope: Envelope, record: Record) -> None:
        bar = envelope.data
        assert isinstance(bar, Bar)
        kept = self.kept.setdefault((bar.instrument, bar.interval), deque(maxlen=BARS_KEPT))
        kept.append((record.seq, bar))
