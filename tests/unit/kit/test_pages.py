"""Lists over several partitions, put together page by page."""

import pytest

from trade2026.domain.orders import number_of
from trade2026.kit.pages import Begins, merge, read_cursor

Line = tuple[str, int]
"""An id, and when that order was made."""


def all_pages(partitions: dict[int, list[Line]], limit: int) -> list[str]:
    """Ids as somebody sees them who asks for page after page. Lines of a partition are given oldest first."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        begins = read_cursor(cursor, {partition: len(lines) for partition, lines in partitions.items()})
        pages = [page_of(partitions[partition], partition, begin, limit) for partition, begin in begins.items()]
        lines, cursor = merge(pages, limit, lambda line: line[1], lambda line: line[0])
        found += [order_id for order_id, _ in lines]
        if cursor is None:
            return found


def page_of(lines: list[Line], partition: int, begin: str | None, limit: int) -> tuple[Begins, list[Line], str | None]:
    older = lines[: number_of(begin)] if begin is not None else lines
    page = older[::-1][:limit]
    return {partition: begin}, page, page[-1][0] if len(older) > limit else None


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_pages_are_newest_first_over_all_partitions(limit: int) -> None:
    partitions = {0: [("o0-0", 1), ("o0-1", 4)], 1: [("o1-0", 2), ("o1-1", 3), ("o1-2", 5)]}
    assert all_pages(partitions, limit) == ["o1-2", "o0-1", "o1-1", "o1-0", "o0-0"]


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_orders_whose_times_are_not_in_the_order_of_their_numbers_are_listed_once_each(limit: int) -> None:
    """One that waited for a larger slice is decided after others that came later; and clocks are set back."""
    partitions = {0: [("o0-0", 7), ("o0-1", 8), ("o0-2", 2), ("o0-3", 9)], 1: [("o1-0", 3), ("o1-1", 1), ("o1-2", 6)]}
    found = all_pages(partitions, limit)
    assert sorted(found) == [order_id for lines in partitions.values() for order_id, _ in lines]
    for partition in partitions:
        numbers = [number_of(order_id) for order_id in found if order_id.startswith(f"o{partition}-")]
        assert numbers == sorted(numbers, reverse=True)
