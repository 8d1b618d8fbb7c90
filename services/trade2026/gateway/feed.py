"""The market goes on: what each source says to `market.raw`, its prints to the venue too.

The venue hears of a print at once, everybody else from the normalizer. At most one turn is under way; while the bus
is busy, the sources wait and their trades are published together afterwards. Books are conflated. An instrument that
is silent has heartbeats.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from trade2026.domain.events import decode
from trade2026.domain.market import Trade, VenueMessage
from trade2026.gateway.book import BookModel
from trade2026.gateway.commands import ObservePrint
from trade2026.gateway.messages import BOOK_INTERVAL_NS, HEARTBEAT_NS, RAW, heartbeat, said
from trade2026.gateway.stream import MarketStream
from trade2026.gateway.venues import Source
from trade2026.gateway.view import MarketView
from trade2026.kit.bus.port import Bus, BusError, Fenced
from trade2026.kit.clock import Clock
from trade2026.kit.publisher import Publisher

log = logging.getLogger(__name__)

_PAUSE_SECONDS_MIN = 0.001
"""What is due within so long is published together."""
_PAUSE_SECONDS_MAX = 0.1
_BUSY_SECONDS = 0.02
"""While the venue's log takes no more."""
_TRADES_PER_TURN = 1_000
_LOOK_BACK = 4_000
_RETRY_SECONDS = 1.0


_decode_trade = msgspec.json.Decoder(Trade).decode


class Instrumented:
    """One instrument: where its trades come from, and what follows from them."""

    def __init__(self, source: Source, model: BookModel) -> None:
        self.source, self.model = source, model
        self.view = MarketView(source.instrument)
        self.book_due = 0
        self.book_is_new = False
        self.newest = -1
        """The venue's number of the newest trade."""
        self.heartbeat_due = 0


class Feed:
    """Publishes what the sources say.

    Args:
        observe: Hands a print to the venue; it is asked only while `may_publish` says yes.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        *,
        tenant: str,
        owner: str,
        instruments: list[Instrumented],
        stream: MarketStream,
        observe: Callable[[ObservePrint], Any],
        may_publish: Callable[[], bool],
    ) -> None:
        self.bus, self.clock, self.stream = bus, clock, stream
        self.instruments = {item.source.instrument.instrument_id: item for item in instruments}
        self.published = 0
        self.error = "not started"
        """Why nothing is published; empty while all is well."""
        self.fenced = False
        """Another process publishes the market: this one is of no use any more."""
        self._observe, self._may_publish = observe, may_publish
        self._raw = Publisher(bus, RAW, tenant=tenant, clock=clock, owner=owner)
        self._under_way: list[asyncio.Future[int]] = []
        self._task: asyncio.Task[None] | None = None

    async def start(self, last_prints: dict[str, str]) -> None:
        """Go on after the last trade that was published or that filled an order, and publish the next.

        Args:
            last_prints: Per instrument, the id of the newest print in the venue's reports. `market.raw` is not
                durable: after a power cut the reports may know a print that it has lost.
        """
        await self._raw.start()
        await self._look_back()
        now = self.clock.now()
        for name, item in self.instruments.items():
            reported = item.source.position_of(last_prints.get(name, ""))
            item.newest = max(item.newest, -1 if reported is None else reported)
            item.source.start(now, item.newest + 1)
        self.error = ""
        self.turn()

    async def _look_back(self) -> None:
        """Learn from what was said where each instrument is."""
        by_symbol = {(i.venue, i.symbol): item for item in self.instruments.values() for i in [item.source.instrument]}
        end = self._raw.next_seq
        begin = max(end - _LOOK_BACK, await self.bus.start(RAW, 0))
        while begin < end:
            records = await self.bus.read(RAW, 0, begin, end - begin)
            for record in records:
                envelope = decode(record.body)
                message = envelope.data
                assert isinstance(message, VenueMessage)
                item = by_symbol.get((message.venue, message.symbol))
                if item is None:
                    continue
                item.newest = message.venue_seq
                if message.channel == "trades":
                    trade = _decode_trade(message.body)
                    item.view.on_trade(envelope.ts_event, trade)
                    item.model.on_trade(trade)
            if not records:
                break
            begin = records[-1].seq + 1

    def run(self) -> None:
        """Go on in the background."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Finish what is under way, and let the topics go."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._raw.stop()

    @property
    def finished(self) -> bool:
        """Whether every source has ended."""
        return all(item.source.finished for item in self.instruments.values())

    def turn(self) -> None:
        """Publish what is due now.

        Raises:
            BusError: an earlier append failed.
        """
        if any(not future.done() for future in self._under_way):
            return
        finished, self._under_way = self._under_way, []
        for future in finished:
            future.result()
        if not self._may_publish():
            return
        now = self.clock.now()
        for item in self.instruments.values():
            self._publish_trades(item, now)
        self._publish_others(now)

    def _publish_trades(self, item: Instrumented, now: int) -> None:
        due = item.source.due(now, _TRADES_PER_TURN)
        if not due:
            return
        first = self._raw.next_seq
        envelopes = [
            self._raw.stamp(said(item.source.instrument, trade, now), offset=offset, ts_event=ts, principal="market")
            for offset, (ts, trade) in enumerate(due)
        ]
        self._under_way.append(self._raw.append(envelopes))
        item.newest, item.heartbeat_due = due[-1][1].venue_seq, now + HEARTBEAT_NS
        for _, trade in due:
            item.model.on_trade(trade)
        book = item.model.book()
        for offset, (ts, trade) in enumerate(due):
            item.view.on_trade(ts, trade)
            self._observe(
                ObservePrint(
                    ts=ts,
                    principal="market",
                    causation_id=f"{RAW}/0/{first + offset}",
                    trade=trade,
                    book=book if offset == len(due) - 1 else None,
                )
            )
        item.view.book, item.book_is_new = book, True
        self.published += len(due)
        self.stream.on_trades(item.view, due)

    def _publish_others(self, now: int) -> None:
        """Books that are new, and heartbeats of who has been silent."""
        messages: list[VenueMessage] = []
        for item in self.instruments.values():
            if item.book_is_new and now >= item.book_due:
                assert item.view.book is not None
                messages.append(said(item.source.instrument, item.view.book, now))
                item.book_due, item.book_is_new = now + BOOK_INTERVAL_NS, False
                self.stream.on_book(item.view)
            if item.newest >= 0 and now >= item.heartbeat_due:
                # All that was due is published, so no trade of before this moment will come.
                messages.append(heartbeat(item.source.instrument, item.newest, now))
                item.heartbeat_due = now + HEARTBEAT_NS
        if messages:
            envelopes = [
                self._raw.stamp(message, offset=offset, ts_event=now, principal="market")
                for offset, message in enumerate(messages)
            ]
            self._under_way.append(self._raw.append(envelopes))

    def _pause(self) -> float:
        """Seconds until the next trade, book or heartbeat is due."""
        dues = [item.source.next_due for item in self.instruments.values() if not item.source.finished]
        dues += [item.book_due for item in self.instruments.values() if item.book_is_new]
        dues += [item.heartbeat_due for item in self.instruments.values() if item.newest >= 0]
        if not self._may_publish():
            return _BUSY_SECONDS
        if not dues:
            return _PAUSE_SECONDS_MAX
        return min(max((min(dues) - self.clock.now()) / 1e9, _PAUSE_SECONDS_MIN), _PAUSE_SECONDS_MAX)

    async def _run(self) -> None:
        while True:
            if self._under_way:
                await asyncio.wait(self._under_way)
            await asyncio.sleep(self._pause())
            try:
                self.turn()
            except Fenced as error:
                self.fenced, self.error = True, f"another process publishes the market: {error}"
                log.error(self.error)
                return
            except BusError as error:
                await self._begin_again(error)
            except Exception as error:
                self.error = f"market data is not published any more: {error!r}"
                log.exception(self.error)
                return

    async def _begin_again(self, error: BusError) -> None:
        """The bus refused market data: claim the topic again, and go on after what it has."""
        log.warning("market data could not be written: %s", error)  # one line an outage
        while True:
            self.error = f"market data could not be written: {error}"
            await asyncio.sleep(_RETRY_SECONDS)
            try:
                self._under_way = []
                await self._raw.start()
            except BusError as failure:
                error = failure
                continue
            self.error = ""
            return
