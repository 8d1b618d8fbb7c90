"""`strategies.events`: what strategies were given, and what they decided."""

import msgspec

from trade2026.domain.events.base import Event
from trade2026.domain.orders import OrderSpec


class Run(msgspec.Struct, frozen=True, array_like=True):
    """Records that follow each other in one partition: `count` of them from `first`; with 0, the next is at `first`.

    `topic` is `clock` for the passing of time: then `first` is the time (ns).
    """

    topic: str
    partition: int
    first: int
    count: int = 1


class Delivered(Event, frozen=True, kw_only=True):
    """What the strategies were given, in this order, since the record before. `digest` is of the records."""

    runs: list[Run]
    digest: str = ""


class StrategyWarmed(Event, frozen=True, kw_only=True):
    """History that one strategy was given before it started."""

    strategy: str
    runs: list[Run]
    digest: str = ""


class StrategyStarted(Event, frozen=True, kw_only=True):
    """A strategy begins: its code (a hash), its parameters, and what it may trade. `ts` is its time (ns)."""

    strategy: str
    code: str
    account: str
    instruments: list[str]
    parameters: msgspec.Raw
    ts: int


class StrategyStopped(Event, frozen=True, kw_only=True):
    """A strategy has ended in order; its orders in the instruments that it leaves are to be cancelled."""

    strategy: str
    reason: str
    ts: int
    leaves: list[str] = []


class StrategyFailed(Event, frozen=True, kw_only=True):
    """A strategy raised an error, or decided otherwise than before: it waits for a named person."""

    strategy: str
    reason: str


class OrderDecided(Event, frozen=True, kw_only=True):
    """A strategy's order; `number` counts its decisions."""

    strategy: str
    number: int
    spec: OrderSpec


class OrderListDecided(Event, frozen=True, kw_only=True):
    """Orders of a strategy that depend on each other."""

    strategy: str
    number: int
    kind: str
    specs: list[OrderSpec]


class CancelDecided(Event, frozen=True, kw_only=True):
    """A strategy wants the rest of its order cancelled."""

    strategy: str
    number: int
    client_order_id: str


class AmendDecided(Event, frozen=True, kw_only=True):
    """A strategy wants other terms for its order; 0 leaves a field as it is."""

    strategy: str
    number: int
    client_order_id: str
    quantity: int = 0
    price: int = 0
    stop_price: int = 0


class DecisionRefused(Event, frozen=True, kw_only=True):
    """The order service would not take a decision, and has not recorded it. Delivered to the strategy."""

    strategy: str
    number: int
    code: str
    reason: str
    ts: int


class SymbolsClaimed(Event, frozen=True, kw_only=True):
    """In `strategies.shards`: one process of a strategy wants to trade these, and does when no other claims them."""

    strategy: str
    instruments: list[str]


class SymbolsReleased(Event, frozen=True, kw_only=True):
    """It trades these no more: nothing of the strategy is open in them."""

    strategy: str
    instruments: list[str]


Decision = OrderDecided | OrderListDecided | CancelDecided | AmendDecided

ShardEvent = SymbolsClaimed | SymbolsReleased
StrategyEvent = (
    Delivered | StrategyWarmed | StrategyStarted | StrategyStopped | StrategyFailed | DecisionRefused | Decision
)
