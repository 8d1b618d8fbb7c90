"""`Strategy`, the manifest of one strategy of a stack."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trade2026.stack.facts import API_VERSION, STRATEGY_SHARDS_MAX
from trade2026.stack.limits import LimitSet
from trade2026.stack.model import Metadata
from trade2026.stack.rules import Rule
from trade2026.stack.strict import Model
from trade2026.stack.written import Config, FilePath, Name, Text, fixed


class StackRef(Model):
    """The stack that a strategy belongs to."""

    name: Text = Field(description="Name of the TradingStack.")


class Source(Model):
    """Where a strategy's code is: `class` or `file`, one of them."""

    class_: str = Field(
        default="",
        alias="class",
        max_length=253,
        examples=["desk.strategies:Maker"],
        pattern=r"^$|^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$",
        description="package.module:Class, installed beside the platform.",
    )
    file: FilePath = Field(default="", description="path.py, or path.py:Class; meant from where the manifest is.")
    digest: Text = Field(default="", description="Hash of the file, written by the platform.")

    rules = (Rule('(self.class_ == "") != (self.file == "")', "give class or file, one of them"),)


class StrategySpec(Model):
    """What should run."""

    stack_ref: StackRef | None = Field(
        default=None,
        json_schema_extra=fixed("can't be changed: orders and positions belong to a stack; make another strategy"),
        description="The stack; the one beside it if omitted.",
    )
    source: Source = Field(description="Its code.")
    symbols: list[Text] = Field(
        min_length=1, max_length=256, description="Instruments that it trades; the first is its default."
    )
    parameters: Config = Field(default_factory=dict, description="Its parameters, by the names of its model.")
    account: Name | None = Field(default=None, description="Account of its orders; the stack's default if omitted.")
    seed: int = Field(default=0, ge=-(2**63), le=2**63 - 1, description="Of its randomness.")
    mode: Literal["paper", "shadow"] = Field(
        default="paper",
        description="paper: it trades at the stack's venues; shadow: it is run and sends no order.",
    )
    paused: bool = Field(default=False, description="It does not run; in a cluster its orders are cancelled first.")
    replicas: int = Field(
        default=1,
        ge=1,
        le=STRATEGY_SHARDS_MAX,
        description="So many processes share its symbols: kubectl scale strat NAME.",
    )
    risk: LimitSet = Field(
        default_factory=LimitSet,
        description="Ceilings over the stack's strategyDefaults; a breach of maxDailyLoss or maxExecutions halts it.",
    )
    rules = (
        Rule(
            "self.replicas <= len(self.symbols)",
            "{self.replicas} replicas can't share {len(self.symbols)} symbols: some would have none",
            at="replicas",
        ),
    )
    transitions = (
        {
            "rule": "has(self.stackRef) == has(oldSelf.stackRef)",
            "message": "can't be added or taken away: orders and positions belong to a stack; make another strategy",
            "fieldPath": ".stackRef",
        },
    )


class StrategyMetadata(Metadata):
    """The strategy's name."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
            max_length=40,
            examples=["maker-1"],
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
