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


RiskEvent = LimitsChanged | AlertRaised | AlertAcknowledged | Killed | Resumed | OwnerStarted
