"""What the operator reports of a stack and of a strategy: the schema of their `status`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trade2026.stack.strict import Model
from trade2026.stack.written import Text

Message = Annotated[str, Field(max_length=32_768)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"}, max_length=64)]


def _by(*keys: str) -> dict[str, Any]:
    """A list whose items are told apart by some of their fields."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


class Condition(Model):
    """One observation, by the convention of Kubernetes."""

    type: Text = Field(description="What is observed: Ready, Reconciling, Stalled, Released, Drifted, Paused …")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    reason: Text = Field(description="Why, in one word for programs.")
    message: Message = Field(default="", description="Why, and what happens next, for people.")
    last_transition_time: Time = Field(description="Since when it is so.")
    observed_generation: int = Field(default=0, ge=0, description="Of the spec that was looked at.")


class ServiceStatus(Model):
    """One service as it runs."""

    name: Text = Field(description="Of the service.")
    release: Text = Field(default="", description="Helm release that hosts it.")
    revision: int = Field(default=0, ge=0, description="Of that release.")
    version: Text = Field(default="", description="Of the platform that it runs.")
    ready: int = Field(default=0, ge=0, description="Replicas that are ready.")
    desired: int = Field(default=0, ge=0, description="Replicas that there ought to be.")
    message: Message = Field(default="", description="What it waits for, or why it has so many replicas.")


class Status(Model):
    """What the status of every resource has."""

    observed_generation: int = Field(default=0, ge=0, description="Of the spec that this status is of.")
    conditions: list[Condition] = Field(
        default_factory=list, max_length=32, json_schema_extra=_by("type"), description="Observations, Ready first."
    )


class TradingStackStatus(Status):
    """A stack as it runs."""

    version: Text = Field(default="", description="Version of the platform that all services have reached.")
    services: list[ServiceStatus] = Field(
        default_factory=list, max_length=64, json_schema_extra=_by("name"), description="Each service as it runs."
    )
    services_ready: Text = Field(default="", description="How many of them are ready, e.g. 14/14.")


class StrategyStatus(Status):
    """A strategy as it runs."""

    replicas: int = Field(default=0, ge=0, description="Processes that run it.")
    selector: Text = Field(default="", description="Labels of its pods, for autoscalers.")
    stack: Text = Field(default="", description="TradingStack that it trades on.")
    stage: Text = Field(default="", description="What it does: Pending, Paper, Shadow, Paused or Halted.")
    position: Text = Field(default="", description="Net, in units of its first symbol, rounded.")
    pnl: Text = Field(default="", description="Realised and open profit in the stack's base currency, rounded.")
    drawdown: Text = Field(default="", description="From its highest profit since its process began, rounded.")
    halted_reason: Message = Field(default="", description="Why it was halted; a named person releases it.")
    last_signal_time: Time | None = Field(default=None, description="When it last asked for an order.")
