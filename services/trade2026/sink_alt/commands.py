"""What can be asked of the owner of the sources. A command carries all that its decision reads and the log has not."""

from trade2026.domain.commands import Command


class RegisterSource(Command, kw_only=True):
    """Ask for a source, or for a new version of its schema (JSON)."""

    source: str
    schema: bytes
    about: str = ""


class AcceptRecord(Command, kw_only=True):
    """Ask that a record be kept. Times are ns; `ts_available` is 0 where none was given. `data` is JSON."""

    source: str
    record_id: str
    symbol: str
    ts_event: int
    ts_available: int
    data: bytes


class ReleaseRecord(Command, kw_only=True):
    """Ask that a record in quarantine be looked at again: the schema was mended."""

    source: str
    record_id: str


class DiscardRecord(Command, kw_only=True):
    """Ask that a record in quarantine be given up."""

    source: str
    record_id: str
    reason: str = ""
