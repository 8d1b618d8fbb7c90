"""A log in memory that only knows its end."""

from typing import Protocol

from trade2026.domain.events import AnyEvent, Envelope, encode


class Sink(Protocol):
    """Takes the records of one topic."""

    def add(self, body: bytes) -> None: ...


class Partition:
    """One topic; what is written goes to its sink, if it has one."""

    def __init__(self, topic: str, tenant: str, sink: Sink | None) -> None:
        self.topic, self.next_seq = topic, 0
        self._tenant, self._sink = tenant, sink

    def append(
        self, event: AnyEvent, ts: int, ts_event: int = 0, *, principal: str, order_id: str = "", cause: str = ""
    ) -> Envelope:
        """Stamp and write an event at `ts` (ns), which happened then if nothing else is said."""
        envelope = Envelope(self.next_seq, 1, ts_event or ts, ts, self._tenant, principal, order_id, cause, "", event)
        self.next_seq += 1
        if self._sink is not None:
            self._sink.add(encode(envelope))
        return envelope
