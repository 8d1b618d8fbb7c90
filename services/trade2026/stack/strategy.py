"""`Strategy`, the manifest of one strategy of a stack."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trade2026.stack.facts import API_VERSION
from trade2026.stack.model import Config, LimitSet, Metadata, Model, Name


class StackRef(Model):
    """The stack that a strategy belongs to."""

    name: str = Field(description="Name of the TradingStack.")


class Source(Model):
    """Where a strategy's code is: `class` or `file`, one of them."""

    class_: str = Field(
        default="",
        alias="class",
        pattern=r"^$|^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="package.module:Class, installed beside the platform.",
    )
    file: str = Field(default="", description="path.py, or path.py:Class; meant from where the manifest is.")
    digest: str = Field(default="", description="Hash of the file, written by the platform.")

    @model_validator(mode="after")
    def _one_of_them(self) -> "Source":
        if bool(self.class_) == bool(self.file):
            raise ValueError("give class or file, one of them")
        return self


class StrategySpec(Model):
    """What should run."""

    stack_ref: StackRef | None = Field(default=None, description="The stack; the one beside it if omitted.")
    source: Source = Field(description="Its code.")
    symbols: list[str] = Field(min_length=1, description="Instruments that it trades; the first is its default.")
    parameters: Config = Field(default_factory=dict, description="Its parameters, by the names of its model.")
    account: Name | None = Field(default=None, description="Account of its orders; the stack's default if omitted.")
    seed: int = Field(default=0, description="Of its randomness.")
    risk: LimitSet = Field(
        default_factory=LimitSet,
        description="Ceilings over the stack's strategyDefaults; a breach of maxDailyLoss or maxExecutions halts it.",
    )


class StrategyMetadata(Metadata):
    """The strategy's name."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
            description="Name of the strategy: its orders are called NAME-NUMBER, its risk scope strategy:NAME.",
        ),
    ]


class Strategy(Model):
    """One strategy in one manifest."""

    api_version: Literal[API_VERSION] = Field(description="Group and version of this resource.")  # type: ignore[valid-type]
    kind: Literal["Strategy"] = Field(description="Strategy.")
    metadata: StrategyMetadata = Field(description="Name of the strategy.")
    spec: StrategySpec = Field(description="What should run.")
    status: dict[str, Any] | None = Field(default=None, description="Written by the operator; ignored in a manifest.")
