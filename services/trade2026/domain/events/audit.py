"""`audit`: what people and processes did to the stack that no other topic tells. Every process writes here."""

from trade2026.domain.events.base import Event


class ProcessStarted(Event, frozen=True, kw_only=True):
    """A process of the stack begins. `config_hash` is of its settings."""

    release: str
    services: list[str]
    code_version: str
    config_hash: str


class ProcessStopping(Event, frozen=True, kw_only=True):
    """A process ends in order; one that was killed says nothing."""

    release: str
    services: list[str]


class KeyUsed(Event, frozen=True, kw_only=True):
    """A key was used at a process, for the first time in an hour. The envelope's principal is whose it is."""

    release: str
    role: str


class KeyRefused(Event, frozen=True, kw_only=True):
    """Keys that nobody has were tried at a process; `count` of them since it last said so."""

    release: str
    count: int


class ManifestApplied(Event, frozen=True, kw_only=True):
    """A manifest begins to take effect. `changed` are the releases that start, or start again, for it."""

    code_version: str
    config_hash: str
    manifest_sha256: str
    changed: list[str]
    removed: list[str] = []
    by: str


class ManifestTakenBack(Event, frozen=True, kw_only=True):
    """The manifest before is in force again: a release did not become ready under the new one."""

    config_hash: str
    reason: str


class StackStopping(Event, frozen=True, kw_only=True):
    """The whole stack is being stopped."""

    by: str


AuditEvent = (
    ProcessStarted | ProcessStopping | KeyUsed | KeyRefused | ManifestApplied | ManifestTakenBack | StackStopping
)
