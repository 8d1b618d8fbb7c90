"""What a venue says an account holds and has executed, against what we say: the breaks and their causes. Pure."""

from collections.abc import Mapping
from typing import Literal

import msgspec

CAUSES_MAX = 100


class Fill(msgspec.Struct, frozen=True):
    """What a statement is compared with."""

    seq: int
    instrument: str
    signed_quantity: int
    price: int
    report_seq: int = -1
    """Position of the venue's report that told of it."""


class StatedFill(msgspec.Struct, frozen=True):
    """An execution as the venue states it; quantity and price are 0 where it does not state them."""

    exec_id: str
    instrument: str = ""
    signed_quantity: int = 0
    price: int = 0
    direct: bool = False
    """Of an order that was placed at the venue itself."""


class Cause(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why quantities may differ.

    `missing_fill`: the venue states it and our log does not have it. `not_ours`: nor can it, the order was
    placed at the venue itself, past our limits. `unknown_fill`: we have it and the
    venue does not state it. `fill_differs`: both have it, with another quantity. `price_differs`: only the
    price is another one.
    """

    kind: Literal["missing_fill", "not_ours", "unknown_fill", "fill_differs", "price_differs"]
    exec_id: str
    signed_quantity: int
    """Nanos that our position would move by if the venue is right."""


class Break(msgspec.Struct, frozen=True):
    """A quantity or an execution on which the venue and we do not agree."""

    instrument: str
    ours: int
    theirs: int
    causes: list[Cause]
    explained: bool
    """The causes make up the whole difference."""


def reconcile(
    ours: Mapping[str, int],
    fills: Mapping[str, Fill],
    stated: Mapping[str, int] | None,
    stated_fills: list[StatedFill] | None,
) -> list[Break]:
    """Compare one account at one venue.

    Args:
        ours: Instrument → signed quantity, nanos.
        fills: Our executions by id, the oldest first.
        stated: As the venue states it; an instrument that is left out is stated as flat. None states no
            quantities: only executions are compared.
        stated_fills: The executions that the statement covers, None when it lists none. Ours that are older
            than the oldest one stated are outside of it.
    """
    causes = _causes(fills, stated_fills) if stated_fills is not None else {}
    breaks: list[Break] = []
    for instrument in sorted({*(ours if stated is not None else ()), *(stated or ()), *causes}):
        why = causes.get(instrument, [])
        mine = ours.get(instrument, 0)
        by_causes = mine + sum(cause.signed_quantity for cause in why)
        theirs = stated.get(instrument, 0) if stated is not None else by_causes
        if mine != theirs or why:
            breaks.append(Break(instrument, mine, theirs, why[:CAUSES_MAX], by_causes == theirs))
    return breaks


def _causes(fills: Mapping[str, Fill], stated: list[StatedFill]) -> dict[str, list[Cause]]:
    causes: dict[str, list[Cause]] = {}
    known: dict[str, int] = {}
    for theirs in {fill.exec_id: fill for fill in stated}.values():
        mine = fills.get(theirs.exec_id)
        if mine is None:
            kind = "not_ours" if theirs.direct else "missing_fill"
            cause = Cause(kind, theirs.exec_id, theirs.signed_quantity)
            causes.setdefault(theirs.instrument, []).append(cause)
            continue
        known[theirs.exec_id] = mine.seq
        difference = theirs.signed_quantity - mine.signed_quantity if theirs.signed_quantity else 0
        if difference:
            causes.setdefault(mine.instrument, []).append(Cause("fill_differs", theirs.exec_id, difference))
        elif theirs.price and theirs.price != mine.price:
            causes.setdefault(mine.instrument, []).append(Cause("price_differs", theirs.exec_id, 0))
    oldest = min(known.values(), default=-1)
    for exec_id, mine in fills.items():
        if mine.seq >= oldest and exec_id not in known:
            causes.setdefault(mine.instrument, []).append(Cause("unknown_fill", exec_id, -mine.signed_quantity))
    return causes
