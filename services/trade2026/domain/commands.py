"""What can be asked of the owner of an order shard.

A command carries everything that its decision reads and the log does not have already: the time, the
market reference and, for a repeated client order id, the answer that was given before.
"""

from typing import Literal

import msgspec

from trade2026.domain.events import ReportEvent
from trade2026.domain.market import Reference
from trade2026.domain.orders import Order, OrderSpec

ListKind = Literal["OCO", "OTO", "BRACKET"]


class Command(msgspec.Struct, kw_only=True):
    """Common to all: when it reached us and on whose behalf."""

    ts: int
    principal: str = "local"
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""


class AddsExposure(Command, kw_only=True):
    """Common to what a limit may have no room for."""

    may_wait: bool = False
    """Do not refuse what only this partition's part of a limit has no room for: it will be asked again."""


class SubmitOrder(AddsExposure, kw_only=True):
    """Ask for one order."""

    spec: OrderSpec
    reference: Reference | None = None


class SubmitList(AddsExposure, kw_only=True):
    """Ask for orders that depend on each other; all are accepted or none.

    OCO: the first that executes or is cancelled cancels the others. OTO: `specs[0]` works at once, the
    others are Suspended until it fills, and then independent of each other. BRACKET: OTO whose two
    children are exits, of which the first that executes cancels the other.
    """

    kind: ListKind
    specs: list[OrderSpec]
    reference: Reference | None = None


class CancelOrder(Command, kw_only=True):
    """Ask that the rest of an order be cancelled."""

    order_id: str
    reason: str = ""


class CancelAll(Command, kw_only=True):
    """Ask that every open order in a scope be cancelled; `scope` as in `Kill`."""

    scope: str = "stack"
    reason: str = ""


class AmendOrder(AddsExposure, kw_only=True):
    """Ask for another quantity, price or stop price; 0 leaves a field as it is."""

    order_id: str
    quantity: int = 0
    price: int = 0
    stop_price: int = 0
    reference: Reference | None = None


class ObserveMarket(Command, kw_only=True):
    """The price range of an instrument since the last observation: triggers stops, moves trails."""

    instrument: str
    reference: Reference


class PassTime(Command, kw_only=True):
    """The shell's timer: orders whose time is over expire."""


class ApplyReport(Command, kw_only=True):
    """A venue said something. `report_seq` is its position in the venue's log (idempotence)."""

    report: ReportEvent
    report_seq: int
    ts_report: int = 0
    recalled: Order | None = None
    """The order as the history has it, when it has left memory."""


class ForgetClosed(Command, kw_only=True):
    """The history has every event before this position: closed orders without a later one may leave memory."""

    before_seq: int
    keep: int = 0
    """So many stay all the same, the newest."""


class Kill(Command, kw_only=True):
    """Stop trading in a scope and cancel what is open there, until a named person resumes it.

    `scope` is `stack`, `account:NAME`, `strategy:NAME`, `instrument:SYMBOL.VENUE`, `venue:NAME`,
    `desk:NAME`, `trader:NAME` or `client:NAME`.
    """

    scope: str
    reason: str
    halt: bool = False
    """A halt refuses new orders and lets the open ones work; a kill cancels them too."""
    cause: Literal["person", "breach", "repeated_execution"] = "person"


class Resume(Command, kw_only=True):
    """A named person releases a kill or a halt."""

    scope: str
    reason: str


class AdoptLimits(Command, kw_only=True):
    """Limits as the risk service has versioned them; `limits` is the JSON of `controls.LimitBook`."""

    version: int
    limits: msgspec.Raw


class StartOwner(Command, kw_only=True):
    """A process has claimed the shard: who, under which code and configuration (law 15)."""

    owner: str
    epoch: int
    code_version: str
    config_hash: str
