"""What the market trades while parents work, and when in the day it traded before."""

from collections.abc import Mapping

from trade2026.domain.events import Envelope, decode
from trade2026.domain.market import Trade
from trade2026.domain.parents import MarketSeen
from trade2026.kit.bus.port import Bus, Record
from trade2026.kit.follower import Follower

TICKS = "market.ticks"
_LOOK_BACK = 1_000
"""Trades that are read for a last price."""
_CATCH_UP_MAX = 50_000
"""Trades that are read after an interruption; older ones are missing in the volume."""
_PROFILE_MAX = 200_000
_BATCH = 2_000
_MINUTE_NS = 60 * 10**9
_DAY_MINUTES = 1_440


class Tape:
    """Follows trades, only while it is needed; goes on from what was seen when it is opened again."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._seen: dict[str, MarketSeen] = {}
        self._follower: Follower | None = None

    async def open(self, seen: Mapping[str, MarketSeen]) -> None:
        """Count on from here; to the end of what is there before this returns. Idempotent."""
        if self._follower is not None:
            return
        end = await self._bus.end(TICKS, 0)
        behind = min((market.next_seq for market in seen.values()), default=end)
        begin = max(min(end - _LOOK_BACK, behind), end - _CATCH_UP_MAX, await self._bus.start(TICKS, 0))
        self._seen = dict(seen)
        self._follower = Follower(self._bus, TICKS, self._on_trade, from_seq=begin)
        await self._follower.start()

    async def close(self) -> None:
        """Follow no more. Idempotent."""
        if self._follower is not None:
            follower, self._follower = self._follower, None
            await follower.stop()

    @property
    def followed(self) -> Follower | None:
        """Trades as they are followed; None while nobody needs them."""
        return self._follower

    @property
    def error(self) -> str:
        """Why it no longer follows; empty while it does, or needs not."""
        return self._follower.error if self._follower is not None else ""

    def get(self, instrument: str) -> MarketSeen | None:
        """What was seen of an instrument; None before its first trade."""
        return self._seen.get(instrument)

    @property
    def markets(self) -> dict[str, MarketSeen]:
        """Every instrument that has traded."""
        return dict(self._seen)

    def _on_trade(self, envelope: Envelope, record: Record) -> None:
        trade = envelope.data
        if not isinstance(trade, Trade):
            return
        before = self._seen.get(trade.instrument)
        if before is None:
            self._seen[trade.instrument] = MarketSeen(trade.price, 0, 0, record.seq + 1)
        elif record.seq >= before.next_seq:
            volume, value = before.volume + trade.quantity, before.value + trade.quantity * trade.price
            self._seen[trade.instrument] = MarketSeen(trade.price, volume, value, record.seq + 1)


class VolumeProfile:
    """Recorded volume by minute of the day (UTC), read when it is asked for."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._next_seq = 0
        self._minutes: dict[str, list[int]] = {}

    async def weights(self, instrument: str, begin: int, end: int, parts: int) -> tuple[int, ...]:
        """Return the volume that equal parts of the time from `begin` to `end` (ns) had; empty where none is known."""
        await self._read()
        minutes = self._minutes.get(instrument)
        if minutes is None:
            return ()
        edges = [begin + (end - begin) * number // parts for number in range(parts + 1)]
        found = tuple(_volume(minutes, edges[number], edges[number + 1]) for number in range(parts))
        return found if any(found) else ()

    async def _read(self) -> None:
        end = await self._bus.end(TICKS, 0)
        self._next_seq = max(self._next_seq, end - _PROFILE_MAX, await self._bus.start(TICKS, 0))
        while self._next_seq < end:
            records = await self._bus.read(TICKS, 0, self._next_seq, _BATCH)
            if not records:
                return
            for record in records:
                self._add(decode(record.body))
            self._next_seq = records[-1].seq + 1

    def _add(self, envelope: Envelope) -> None:
        trade = envelope.data
        if isinstance(trade, Trade):
            minutes = self._minutes.setdefault(trade.instrument, [0] * _DAY_MINUTES)
            minutes[envelope.ts_event // _MINUTE_NS % _DAY_MINUTES] += trade.quantity


def _volume(minutes: list[int], begin: int, end: int) -> int:
    """Volume from `begin` to `end`, ns; of a minute that is not all in it, the share that is."""
    total, at = 0, begin
    while at < end:
        until = min(end, (at // _MINUTE_NS + 1) * _MINUTE_NS)
        total += minutes[at // _MINUTE_NS % _DAY_MINUTES] * (until - at) // _MINUTE_NS
        at = until
    return total
