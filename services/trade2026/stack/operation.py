"""How an operator keeps a stack: drift, deletion, scale. A laptop takes all of it and heeds only the least replicas."""

from typing import Annotated, Literal

from pydantic import Field

from trade2026.domain.shards import SHARDS
from trade2026.stack.rules import Rule
from trade2026.stack.strict import Model
from trade2026.stack.written import Quantile, Quantity, Share, Text, Window

CLUSTER_ONLY = "only in a cluster"
"""Marks a field that a laptop takes and does not heed."""

DriftPolicy = Annotated[Literal["Correct", "Warn", "Ignore"], CLUSTER_ONLY]
DeletionPolicy = Annotated[Literal["Retain", "Delete"], CLUSTER_ONLY]

POINTER = r"^(/([^/~]|~[01])*)+$"


class DriftIgnore(Model):
    """What others may change without being corrected."""

    kind: Text = Field(default="", description="Kind of the objects, e.g. Deployment; empty: every kind.")
    name: Text = Field(default="", description="Name of the object; empty: all of that kind.")
    paths: list[
        Annotated[
            str, Field(pattern=POINTER, max_length=253, examples=["/spec/template/metadata/annotations/team~1note"])
        ]
    ] = Field(
        min_length=1,
        max_length=32,
        description="JSON pointers to what is left alone, each with all that is below it.",
    )


class Rollout(Model):
    """How a change is rolled out."""

    progress_deadline: Window = Field(
        default="10m",
        description="Services that are changed together have so long to become ready, and then all of them go back to "
        "what ran before; those whose pods fail have a minute.",
    )
    bake: Window = Field(
        default="5m",
        description="For so long after its last service is ready a change is not final: objectives that are missed, or "
        "pods that fail, still undo it.",
    )


class Replicas(Model):
    """How many processes share a service's work."""

    min: int = Field(default=1, ge=1, le=SHARDS, description="So many run, each with its share of the partitions.")
    max: Annotated[int | None, CLUSTER_ONLY] = Field(
        default=None,
        ge=1,
        le=SHARDS,
        description="So many may run in a cluster while the objectives ask for it; omitted, never more than min.",
    )
    rules = (
        Rule(
            "self.max is None or self.min <= self.max",
            "min {self.min} is more than max {self.max}; lower it, or raise max",
            at="min",
        ),
    )


class LatencyObjective(Model):
    """So large a share of the time, this quantile of the answers is this fast."""

    quantile: Quantile = Field(default=0.99, description="Of the latencies, e.g. 0.99 for the slowest of a hundred.")
    under: Window = Field(description="Answers are faster than this, e.g. 50ms.")
    objective: Share = Field(
        default="0.999",
        description="Share of the time in which that is to hold, e.g. 99.9%. For those who make alerts of it: scale and SLOMet go by quantile and under, and the stack's own watch by budgets of its own.",
    )
    window: Window = Field(default="30d", description="Over which the error budget is counted; for the same.")


class ServiceLevel(Model):
    """What a service promises, and what its scale follows."""

    latency: list[LatencyObjective] = Field(
        min_length=1, max_length=4, description="At most one for each quantile; the tightest of them decides the scale."
    )
    rules = (
        Rule(
            "all(len([other for other in self.latency if other.quantile == one.quantile]) == 1 for one in self.latency)",
            "has two objectives for one quantile; keep one of them",
            at="latency",
        ),
    )


class ResourceAmounts(Model):
    """An amount of each resource."""

    cpu: Quantity | None = Field(default=None, description="Cores, e.g. 250m for a quarter of one.")
    memory: Quantity | None = Field(default=None, description="Bytes, e.g. 256Mi.")


class Resources(Model):
    """What the scheduler keeps for a service's pods, and what they can't exceed."""

    requests: ResourceAmounts = Field(default_factory=ResourceAmounts, description="Kept for each pod.")
    limits: ResourceAmounts = Field(default_factory=ResourceAmounts, description="Never exceeded by a pod.")
    rules = tuple(
        Rule(
            f"self.requests.{each} is None or self.limits.{each} is None "
            f"or at_most(self.requests.{each}, self.limits.{each})",
            f"{each} {{self.requests.{each}}} is more than the limit {{self.limits.{each}}}; raise limits.{each}, or lower it",
            at="requests",
        )
        for each in ("cpu", "memory")
    )
