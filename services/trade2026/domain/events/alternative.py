"""`alt.records`: sources of alternative data, and what they have said."""

import msgspec

from trade2026.domain.events.base import Event


class AltSourceRegistered(Event, frozen=True, kw_only=True):
    """A source has a schema from here on, or a new version of it: a JSON Schema, which every older record fits, too."""

    source: str
    version: int
    schema: msgspec.Raw
    about: str = ""


class AltRecorded(Event, frozen=True, kw_only=True):
    """A record that fits version `version` of its source's schema. Times are ns.

    Attributes:
        symbol: What it is about, empty if no instrument.
        ts_event: When that happened, or will.
        ts_available: From when on one could have known it.
        ts_received: When we were given it.
        digest: Of what was given, so that the same record is known again.
        released: It had been in quarantine.
    """

    source: str
    record_id: str
    version: int
    symbol: str = ""
    ts_event: int
    ts_available: int
    ts_received: int
    data: msgspec.Raw
    digest: int
    released: bool = False


class AltQuarantined(Event, frozen=True, kw_only=True):
    """A record that does not fit; `reasons` begin with the place in it. `ts_available` is 0 where none was given."""

    source: str
    record_id: str
    version: int
    symbol: str = ""
    ts_event: int
    ts_available: int = 0
    ts_received: int
    data: msgspec.Raw
    digest: int
    reasons: list[str]


class AltDiscarded(Event, frozen=True, kw_only=True):
    """A record in quarantine is given up; its id may be used again."""

    source: str
    record_id: str
    reason: str = ""


AlternativeEvent = AltSourceRegistered | AltRecorded | AltQuarantined | AltDiscarded
