"""Lists of orders over several partitions, newest first: a page of each is taken, and put together by time.

A cursor says for each partition that has more where its next page begins: the id of the order that was seen last
there, or `o3-` for a partition of which nothing was seen yet.
"""

from collections.abc import Mapping

from trade2026.domain.orders import Order, number_of, partition_of_id

Page = tuple[list[Order], str | None]
"""Orders, newest first, and the cursor of the next page (None after the last)."""


class BadCursor(ValueError):
    """No page of such a list has given it."""


def merge(begins: Mapping[int, str | None], pages: Mapping[int, Page], limit: int) -> Page:
    """Put a page of each partition together.

    A partition in which a filter finds little may give its older orders only with a later page.

    Args:
        begins: As `read_cursor` returns it: where each page begins.
        pages: Of up to `limit` orders each.
    """
    found = sorted(
        (order for orders, _ in pages.values() for order in orders),
        key=lambda order: (order.ts_created, order.order_id),
        reverse=True,
    )
    taken = found[:limit]
    last = {partition_of_id(order.order_id): order.order_id for order in taken}
    left = {partition_of_id(order.order_id) for order in found[limit:]}
    nexts: list[str] = []
    for partition, begin in begins.items():
        _, more = pages[partition]
        if partition in left:
            nexts.append(last.get(partition) or begin or f"o{partition}-")
        elif more is not None:
            nexts.append(more)
    return taken, ",".join(nexts) or None


def read_cursor(cursor: str | None, counts: Mapping[int, int]) -> dict[int, str | None]:
    """Where the page of each partition begins; what is not in it has ended.

    Args:
        cursor: What came with the page before; None begins everywhere.
        counts: How many orders each partition has.

    Raises:
        BadCursor: it names no order of these partitions.
    """
    if cursor is None:
        return dict.fromkeys(counts)
    begins: dict[int, str | None] = {}
    for part in cursor.split(","):
        partition = partition_of_id(part)
        if partition not in counts or partition in begins:
            raise BadCursor(cursor)
        if part == f"o{partition}-":
            begins[partition] = None
        elif 0 <= number_of(part) < counts[partition]:
            begins[partition] = part
        else:
            raise BadCursor(cursor)
    return begins
