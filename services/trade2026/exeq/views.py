"""Parents as users see them: decimal text, RFC 3339 times, basis points."""

import msgspec

from trade2026.domain.numbers import average_price, to_text
from trade2026.domain.parents import MarketSeen
from trade2026.exeq.parents import Child, Parent
from trade2026.kit.views import time_text


class ChildView(msgspec.Struct, omit_defaults=True):
    """A child."""

    client_order_id: str
    order_id: str
    status: str
    quantity: str
    cum_qty: str
    avg_px: str
    reason: str = ""


class BenchmarkView(msgspec.Struct):
    """A price to compare with, and how much worse we were: negative is better, null while unknown."""

    price: str
    slippage_bps: float | None


class ParentView(msgspec.Struct, omit_defaults=True):
    """A parent with its progress."""

    parent_id: str
    client_order_id: str
    status: str
    account: str
    symbol: str
    side: str
    algo: str
    quantity: str
    cum_qty: str
    leaves_qty: str
    working_qty: str
    avg_px: str
    slices: int
    slices_reached: int
    scheduled_qty: str
    created_at: str
    updated_at: str
    price: str = ""
    stop_price: str = ""
    begin_at: str = ""
    end_at: str = ""
    next_slice_at: str = ""
    child_quantity_max: str = ""
    participation_max_bps: int = 0
    reason: str = ""
    benchmarks: dict[str, BenchmarkView] = {}
    children: list[ChildView] = []


def parent_view(parent: Parent, market: MarketSeen | None = None, *, children: bool = False) -> ParentView:
    """Show a parent.

    Args:
        market: As of now, while the parent is open: the benchmarks so far.
    """
    spec, slices, reached = parent.spec, parent.slices, parent.next_slice
    waiting = slices[reached].due if parent.is_open and reached < len(slices) else 0
    return ParentView(
        parent_id=parent.parent_id,
        client_order_id=spec.client_order_id,
        status=parent.status,
        account=spec.account,
        symbol=spec.instrument,
        side=spec.side,
        algo=spec.algo,
        quantity=to_text(spec.quantity),
        cum_qty=to_text(parent.filled),
        leaves_qty=to_text(max(0, spec.quantity - parent.filled) if parent.is_open else 0),
        working_qty=to_text(sum(child.leaves for child in parent.children)),
        avg_px=to_text(parent.average_price),
        slices=len(slices),
        slices_reached=reached,
        scheduled_qty=to_text(slices[reached - 1].target if reached else parent.planned_from),
        created_at=time_text(parent.ts_created),
        updated_at=time_text(parent.ts_updated),
        price=to_text(spec.price) if spec.price else "",
        stop_price=to_text(spec.stop_price) if spec.stop_price else "",
        begin_at=time_text(slices[0].due),
        end_at=time_text(parent.end_at),
        next_slice_at=time_text(waiting),
        child_quantity_max=to_text(spec.child_quantity_max) if spec.child_quantity_max else "",
        participation_max_bps=spec.participation_bps,
        reason=parent.reason,
        benchmarks=benchmarks(parent, market),
        children=[_child_view(child) for child in parent.children] if children else [],
    )


def benchmarks(parent: Parent, market: MarketSeen | None) -> dict[str, BenchmarkView]:
    """Arrival price, and the market's time and volume weighted prices since then."""
    seen = parent.benchmarks
    if seen.first is None:
        return {}
    vwap = seen.vwap
    if market is not None and parent.is_open and market.volume > seen.first.volume:
        vwap = average_price(market.value - seen.first.value, market.volume - seen.first.volume)
    prices = {"arrival": seen.arrival, "twap": seen.twap, "vwap": vwap}
    return {name: BenchmarkView(to_text(price), parent.slippage_bps(price)) for name, price in prices.items()}


def _child_view(child: Child) -> ChildView:
    return ChildView(
        client_order_id=child.spec.client_order_id,
        order_id=child.order_id,
        status=child.status,
        quantity=to_text(child.quantity),
        cum_qty=to_text(child.cum_qty),
        avg_px=to_text(average_price(child.cum_cost, child.cum_qty)),
        reason=child.reason,
    )
