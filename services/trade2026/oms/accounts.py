"""Whose an order is, also where its cell is another replica's: the history says it, as soon as it has come so far."""

import asyncio
import sqlite3
from pathlib import Path

from trade2026.domain.orders import partition_of_id
from trade2026.kit.cells import Cells
from trade2026.kit.history import HistoryReader, history_path
from trade2026.oms.cell import OrderCell

_WAIT_SECONDS = 0.02
_WAITS_MAX = 250


class AccountsOfOrders:
    """Finds the account of an order of any partition."""

    def __init__(self, cells: Cells[OrderCell], state: Path) -> None:
        self._cells, self._state = cells, state
        self._histories: dict[int, HistoryReader] = {}

    async def of(self, order_id: str, seq: int) -> str:
        """The account; empty if there is no such order.

        Args:
            seq: Position of an event of the order: a history beyond it knows the order, or there is none.

        Raises:
            TimeoutError: the history does not come so far: whoever listens must come back.
        """
        partition = partition_of_id(order_id)
        if not 0 <= partition < self._cells.partitions:
            return ""
        cell = self._cells.here.get(partition)
        if cell is not None:
            return cell.orders.account_of(order_id)
        history = self._histories.get(partition)
        if history is None:
            path = history_path(self._state, partition)
            history = self._histories[partition] = HistoryReader(path, partition)
        for _ in range(_WAITS_MAX):
            try:
                if history.next_seq() > seq:
                    order = history.by_id(order_id)
                    return order.spec.account if order is not None else ""
            except sqlite3.Error:
                pass  # it is being made anew
            await asyncio.sleep(_WAIT_SECONDS)
        raise TimeoutError(f"the history of partition {partition} is behind")
