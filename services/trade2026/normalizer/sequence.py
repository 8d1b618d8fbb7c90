"""The numbered messages of one instrument in the venue's order, each once, with what is missing between them.

A message whose turn it is goes on at once. One that comes too early waits for those before it, `window_ns` at most;
then they are given up, and a `Gap` says between which times the market is not known. Pure.
"""

import msgspec

from trade2026.domain.market import Trade

HELD_MAX = 10_000
"""Messages that may wait; beyond it the oldest gap is given up."""
HOLES_MAX = 1_000
"""Gaps whose numbers are remembered, to tell a late message from a doubled one."""


class Gap(msgspec.Struct, frozen=True, gc=False, tag="Gap", tag_field="type"):
    """Between the two times (ns, both included) trades may be missing; `first` to `last` are their numbers.

    After a `restart` of the venue's numbering nobody knows how many: the numbers are -1.
    """

    instrument: str
    ts_from: int
    ts_to: int
    first: int
    last: int
    reason: str
    """`lost`, `late` (it came when its bar was closed) or `restart`."""


class Counts(msgspec.Struct):
    """What happened to messages, for one instrument."""

    received: int = 0
    passed: int = 0
    doubled: int = 0
    reordered: int = 0
    late: int = 0
    """Came after they had been given up: in no bar."""
    lost: int = 0
    """Given up and never seen since."""
    gaps: int = 0
    restarts: int = 0


class SequenceState(msgspec.Struct):
    """What a sequence remembers."""

    expected: int = -1
    """The number whose turn it is; -1 before the first message."""
    ts_last: int = 0
    held: dict[int, tuple[int, int, Trade]] = {}
    """By number: when it came, when it was made, what it is."""
    waits_since: int = 0
    """When the oldest message that waits came."""
    holes: list[tuple[int, int]] = []
    """First and last number of what was given up, oldest first."""
    first: int = -1
    """The first number of this numbering that was seen."""
    counts: Counts = msgspec.field(default_factory=Counts)
    tail_since: int = 0
    """Since when the venue says that it has made trades which have not come; 0 if it does not."""
    is_resumed: bool = False
    """The connection is a new one: what is missing before the next message was said to nobody."""


class Sequence:
    """Puts one instrument's messages in order.

    Args:
        window_ns: How long a message waits for those before it.
        jitter_ns: How far the venue's clock may run backwards from one number to the next. A lower number with a
            later time than that means that the venue began its numbering anew.
    """

    def __init__(self, instrument: str, window_ns: int, jitter_ns: int = 0, state: SequenceState | None = None) -> None:
        self.instrument, self.window_ns, self.jitter_ns = instrument, window_ns, jitter_ns
        self.state = state or SequenceState()

    def add(self, now: int, ts: int, trade: Trade) -> list[tuple[int, Trade] | Gap]:
        """Take a message that was made at `ts` and came at `now` (ns); return what goes on, in order."""
        state, number = self.state, trade.venue_seq
        counts = state.counts
        counts.received += 1
        if number == state.expected and not state.held:
            state.expected, state.ts_last, state.tail_since, state.is_resumed = number + 1, ts, 0, False
            counts.passed += 1
            return [(ts, trade)]
        state.tail_since = 0
        gone = self.advance(now) if state.held else []
        if state.expected < 0:
            state.expected = state.first = number
        if number < state.expected:
            return gone + self._take_lower(ts, trade)
        if number in state.held:
            counts.doubled += 1
            return gone
        if not state.held:
            state.waits_since = now
        state.held[number] = (now, ts, trade)
        if number == state.expected:
            gone += self._release()
        elif state.is_resumed or len(state.held) > HELD_MAX:
            gone += self._give_up()
        return gone

    def advance(self, now: int) -> list[tuple[int, Trade] | Gap]:
        """It is `now` (ns): return what need wait no longer."""
        gone: list[tuple[int, Trade] | Gap] = []
        while self.state.held and now - self.state.waits_since >= self.window_ns:
            gone += self._give_up()
        return gone

    def resume(self) -> list[tuple[int, Trade] | Gap]:
        """The connection to the venue is a new one: what was not said on the old one will not come."""
        gone: list[tuple[int, Trade] | Gap] = []
        while self.state.held:
            gone += self._give_up()
        self.state.is_resumed = True
        return gone

    def hear_of(self, now: int, ts: int, number: int) -> list[tuple[int, Trade] | Gap]:
        """By `ts` (ns) the venue has made no trade after this number; give up what does not come in time."""
        state = self.state
        if self.has_all(number) or state.held or state.expected < 0:
            state.tail_since = 0
        elif not state.tail_since:
            state.tail_since = now
        elif now - state.tail_since >= self.window_ns:
            gap = Gap(self.instrument, state.ts_last, max(ts, state.ts_last), state.expected, number, "lost")
            self._forget(number + 1)
            state.tail_since = 0
            return [gap]
        return []

    def has_all(self, number: int) -> bool:
        """Whether every trade up to a number has gone on."""
        return not self.state.held and self.state.expected > number

    def _take_lower(self, ts: int, trade: Trade) -> list[tuple[int, Trade] | Gap]:
        state, number = self.state, trade.venue_seq
        if ts > state.ts_last + self.jitter_ns:
            return self._begin_anew(ts, trade)
        if number < state.first:
            state.counts.late += 1
            state.first = number
        elif self._fill_hole(number):
            state.counts.late += 1
            state.counts.lost -= 1
        else:
            state.counts.doubled += 1
        return []

    def _begin_anew(self, ts: int, trade: Trade) -> list[tuple[int, Trade] | Gap]:
        """The venue counts from elsewhere: let go what waits, then go on with this one."""
        state, gone = self.state, []
        while state.held:
            gone += self._give_up()
        gone.append(Gap(self.instrument, state.ts_last, max(ts, state.ts_last), -1, -1, "restart"))
        state.counts.restarts += 1
        state.counts.passed += 1
        state.holes = []
        state.first, state.expected, state.ts_last = trade.venue_seq, trade.venue_seq + 1, ts
        return [*gone, (ts, trade)]

    def _give_up(self) -> list[tuple[int, Trade] | Gap]:
        """What is missing before the first that waits will not come."""
        state = self.state
        first, number = state.expected, min(state.held)
        ts = state.held[number][1]
        self._forget(number)
        gap = Gap(self.instrument, state.ts_last, max(ts, state.ts_last), first, number - 1, "lost")
        return [gap, *self._release()]

    def _forget(self, number: int) -> None:
        """Expect a number, and take those before it for lost."""
        state = self.state
        state.holes.append((state.expected, number - 1))
        del state.holes[:-HOLES_MAX]
        state.counts.gaps += 1
        state.counts.lost += number - state.expected
        state.expected = number

    def _release(self) -> list[tuple[int, Trade] | Gap]:
        """Let go what follows without a gap."""
        state = self.state
        gone: list[tuple[int, Trade] | Gap] = []
        while (held := state.held.pop(state.expected, None)) is not None:
            _, ts, trade = held
            state.expected += 1
            state.ts_last, state.is_resumed = ts, False
            gone.append((ts, trade))
        state.counts.passed += len(gone)
        state.counts.reordered += len(gone) - 1
        if state.held:
            state.waits_since = min(came for came, _, _ in state.held.values())
        return gone

    def _fill_hole(self, number: int) -> bool:
        """Whether the number was given up; it is not any more."""
        holes = self.state.holes
        for place in range(len(holes) - 1, -1, -1):
            first, last = holes[place]
            if first <= number <= last:
                rest = [(first, number - 1), (number + 1, last)]
                holes[place : place + 1] = [hole for hole in rest if hole[0] <= hole[1]]
                return True
        return False
