"""`risk.events`: the limits in force, alerts, and trading stopped and resumed."""

from typing import Literal

import msgspec

from trade2026.domain.events.base import Event, OwnerStarted
from trade2026.domain.events.stops import Killed, Resumed


class LimitsChanged(Event, frozen=True, kw_only=True):
    """The limits in force: the manifest's ceilings with what the API has tightened, and until when."""

    version: int
    limits: msgspec.Raw
    by: str
    reason: str


class SlicesGranted(Event, frozen=True, kw_only=True):
    """What one partition may use from now on of limits that span partitions."""

    partition: int
    slices: msgspec.Raw
    """JSON of `controls.Slices`: by scope and limit, those that change."""


class AlertRaised(Event, frozen=True, kw_only=True):
    """Something a risk officer must see. `alert_id` is stable, so a replay raises it once."""

    alert_id: str
    severity: Literal["info", "warning", "critical"]
    scope: str
    message: str


class AlertAcknowledged(Event, frozen=True, kw_only=True):
    """A person has seen it."""

    alert_id: str
    by: str
    note: str = ""


RiskEvent = LimitsChanged | SlicesGranted | AlertRaised | AlertAcknowledged | Killed | Resumed | OwnerStarted
