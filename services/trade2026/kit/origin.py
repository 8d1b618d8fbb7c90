"""What a request from one service to another follows from: the trace that it belongs to, and the event behind it."""

import re
from typing import NamedTuple

from trade2026.kit import tracing

CAUSATION_HEADER = "causation-id"
_EVENT_ID = re.compile(r"[a-z][a-z_.]{0,40}/\d{1,4}/\d{1,19}")


class Origin(NamedTuple):
    """W3C trace context and event id; either may be empty."""

    traceparent: str = ""
    causation_id: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """As a request carries it."""
        named = {"traceparent": self.traceparent, CAUSATION_HEADER: self.causation_id}
        return {name: value for name, value in named.items() if value}

    @property
    def span(self) -> str:
        """The context of the span that the request is: under the caller's if it gave a valid one, else of a new trace."""
        if tracing.parse_traceparent(self.traceparent):
            return tracing.child(self.traceparent)
        return tracing.new_traceparent()

    @property
    def cause(self) -> str:
        """The event id; empty if it is none. It is what the caller says, and no more."""
        return self.causation_id if _EVENT_ID.fullmatch(self.causation_id) else ""


NOWHERE = Origin()


def decided(traceparent: str, event_id: str) -> Origin:
    """What follows from an event of a trace: its span is named after it, as `archive` exports it."""
    return Origin(tracing.named(traceparent, event_id) if traceparent else "", event_id)
