"""What the events of every log are made of, and the one event that stands in all of them."""

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag=True):
    """Base of all events; the JSON field `type` holds the class name."""


class OwnerStarted(Event, frozen=True, kw_only=True):
    """A process owns this partition from here on."""

    owner: str
    epoch: int
    code_version: str
    config_hash: str
