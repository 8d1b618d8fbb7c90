"""The order history that the archive writes, for everyone who only reads it."""

import os
import sqlite3
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from trade2026.domain.orders import Order, number_of, partition_of_id
from trade2026.domain.shards import partition_of
from trade2026.kit.pages import Page, merge, read_cursor

TOPIC = "orders.events"

_decode_order = msgspec.json.Decoder(Order).decode
_BUSY_SECONDS = 2.0
ORDERS_LOOKED_AT_MAX = 10_000

_POSITION = "SELECT next_seq FROM positions WHERE topic = ?"

Rows = list[tuple[Any, ...]]


def history_path(state: Path, partition: int = 0) -> Path:
    """Where the history of one partition of the order log lies in a stack's state directory."""
    return state / "archive" / (f"history-{partition}.db" if partition else "history.db")


class HistoryReader:
    """Reads the history of one partition. Until the archive has made the file, it is an empty history.

    Args:
        path: See `history_path`.

    Raises (every question): `sqlite3.Error` when the file is there and cannot be read: an answer "no such
    order" would be a lie then. So it would be of a file that was lost and is being built again, up to
    `relied_on`.
    """

    def __init__(self, path: Path, partition: int = 0) -> None:
        self.path, self.partition = path, partition
        self.relied_on = 0
        """Whoever asks has forgotten orders whose events are before this position: the history must have them."""
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def by_id(self, order_id: str) -> Order | None:
        """The order, or None."""
        return self._one("SELECT body FROM orders WHERE number = ? AND order_id = ?", number_of(order_id), order_id)

    def by_client_order_id(self, account: str, client_order_id: str) -> Order | None:
        """The newest order of the account with this client order id, or None."""
        return self._one(
            "SELECT body FROM orders WHERE account = ? AND client_order_id = ? ORDER BY number DESC LIMIT 1",
            account,
            client_order_id,
        )

    def list(
        self, account: str | None = None, status: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> Page:
        """Orders, newest first, and the cursor of the next page (None after the last).

        A page looks at `ORDERS_LOOKED_AT_MAX` orders at most, so it may be short, or empty, and have a cursor.

        Args:
            status: `open`, `closed`, an OrdStatus, or None for all.
            cursor: What came with the page before: the id of an order.
        """
        newest = self.newest()
        if cursor is not None:
            newest = min(newest, number_of(cursor) - 1)
        oldest = max(0, newest - ORDERS_LOOKED_AT_MAX + 1)
        orders = self.between(newest, oldest, account, status, limit)
        if len(orders) == limit:
            oldest = number_of(orders[-1].order_id)
        return orders, f"o{self.partition}-{oldest}" if self.has_before(oldest) else None

    def between(
        self, newest: int, oldest: int, account: str | None = None, status: str | None = None, limit: int = 100
    ) -> "list[Order]":
        """The newest orders among those with numbers from `oldest` to `newest`, newest first; filters as in `list`."""
        assert limit > 0
        conditions: list[str] = ["number <= ?", "number >= ?"]
        values: list[object] = [newest, oldest]
        if account is not None:
            conditions.append("account = ?")
            values.append(account)
        if status in ("open", "closed"):
            conditions.append("is_open = ?")
            values.append(int(status == "open"))
        elif status is not None:
            conditions.append("status = ?")
            values.append(status)
        query = f"SELECT body FROM orders WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?"
        return [_decode_order(row[0]) for row in self._rows(query, *values, limit)]

    def newest(self) -> int:
        """Number of the newest order; -1 if there is none."""
        rows = self._rows("SELECT max(number) FROM orders")
        return rows[0][0] if rows and rows[0][0] is not None else -1

    def has_before(self, number: int) -> bool:
        """Whether there are orders with lower numbers."""
        return bool(self._rows("SELECT 1 FROM orders WHERE number < ? LIMIT 1", number))

    def next_seq(self, topic: str = TOPIC) -> int:
        """How far the history has come in a topic: all events before this position are in it."""
        rows = self._rows(_POSITION, topic)
        return rows[0][0] if rows else 0

    def index(self, order_id: str, limit: int) -> Rows:
        """Where the events of an order are: topic, partition, position."""
        return self._rows(
            "SELECT topic, partition, seq FROM event_index WHERE order_id = ? ORDER BY topic, partition, seq LIMIT ?",
            order_id,
            limit,
        )

    def close(self) -> None:
        """Let the file go. Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _one(self, query: str, *values: object) -> Order | None:
        rows = self._rows(query, *values)
        return _decode_order(rows[0][0]) if rows else None

    def _rows(self, query: str, *values: object) -> Rows:
        if self._connection is not None and self._inode != _inode(self.path):
            self.close()
        connection = self._connection or self._open()
        if connection is None:
            return []
        try:
            return connection.execute(query, values).fetchall()
        except sqlite3.Error:
            self.close()
            raise

    def _open(self) -> sqlite3.Connection | None:
        inode = _inode(self.path)
        if not inode:
            self._require(0)
            return None
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
        )
        try:
            made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'positions'").fetchall()
            rows = connection.execute(_POSITION, (TOPIC,)).fetchall() if made else []
            self._require(rows[0][0] if rows else 0)
        except sqlite3.Error:
            connection.close()
            raise
        if not made:
            connection.close()
            return None
        self._connection, self._inode = connection, inode
        return connection

    def _require(self, next_seq: int) -> None:
        if next_seq < self.relied_on:
            raise sqlite3.OperationalError(
                f"{self.path} is at {next_seq} and must reach {self.relied_on}: it was lost and is being built again"
            )


class Histories:
    """The history of every partition, by one question.

    Args:
        readers: Of each partition, in order.

    Raises (every question): as a `HistoryReader`.
    """

    def __init__(self, readers: Sequence[HistoryReader]) -> None:
        self.readers = readers

    def by_id(self, order_id: str) -> Order | None:
        """The order, or None."""
        reader = self._home_of(order_id)
        return reader.by_id(order_id) if reader is not None else None

    def index(self, subject: str, limit: int) -> Rows:
        """Where the events of an order, or a parent, are: topic, partition, position."""
        reader = self._home_of(subject)
        return reader.index(subject, limit) if reader is not None else []

    def list(
        self, account: str | None = None, status: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> Page:
        """Orders of one account or of all, newest first; as `HistoryReader.list`.

        Raises:
            BadCursor: no page of such a list has given it.
        """
        asked = self.readers if account is None else [self.readers[partition_of(account, len(self.readers))]]
        begins = read_cursor(cursor, {reader.partition: reader.newest() + 1 for reader in asked})
        pages = [
            ({partition: begin}, *self.readers[partition].list(account, status, begin, limit))
            for partition, begin in begins.items()
        ]
        return merge(pages, limit, attrgetter("ts_created"), attrgetter("order_id"))

    def _home_of(self, subject: str) -> HistoryReader | None:
        partition = partition_of_id(f"o{subject[1:]}") if subject[:1] in ("o", "e") else -1
        return self.readers[partition] if 0 <= partition < len(self.readers) else None


def _inode(path: Path) -> int:
    """Which file this is; 0 for none."""
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0
