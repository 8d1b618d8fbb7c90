"""Orders that stay the bytes of a snapshot until somebody asks for one.

A start with very many open orders need not wait until each is an object again: it takes their ids, and an order
is decoded when something happens to it. Which orders are in a piece together depends on their numbers alone, so
equal states give equal bytes, and a piece that nobody has asked for is written again as it was read.
"""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

from trade2026.domain.orders import number_of

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_values

NUMBERS_PER_PIECE = 250
"""Orders whose numbers, divided by this, are equal lie together: to decode them takes about half a millisecond."""


class Piece(Protocol):
    """Some orders of a snapshot, in order."""

    order_ids: list[str]


P = TypeVar("P", bound=Piece)
T = TypeVar("T")
D = TypeVar("D")

_get: Callable[[Any, str, Any], Any] = dict[str, Any].get


class Frozen(Generic[P, T]):
    """One piece of a snapshot, whose records are decoded together when the first of them is asked for.

    Args:
        piece: Whole: whoever read the snapshot has checked its sum.
        decode: Makes the records of a piece, by id.
    """

    __slots__ = ("_decode", "_tables", "piece")

    def __init__(self, piece: P, decode: Callable[[P], dict[str, T]]) -> None:
        self.piece: P | None = piece
        """None once it is decoded: the records may have changed since."""
        self._decode = decode
        self._tables: list[dict[str, Any]] = []

    def stand_in(self, table: dict[str, Any], ids: list[str]) -> None:
        """Stand in a table in the place of its records until they are decoded."""
        table.update(dict.fromkeys(ids, self))
        self._tables.append(table)

    def thaw(self) -> None:
        """Put the records in their places, the same objects in every table. Idempotent."""
        if self.piece is None:
            return
        records, self.piece = self._decode(self.piece), None
        for table in self._tables:
            for key, record in records.items():
                if _get(table, key, None) is self:
                    table[key] = record
        self._tables.clear()


class Records(dict[str, T], Generic[P, T]):
    """A dict whose values may still be frozen: in the place of a record stands the piece that holds it.

    `in`, `len`, `del` and the ids thaw nothing, a record thaws its piece, `values` and `items` thaw everything.
    """

    def kept(self) -> Iterator[tuple[str, "T | Frozen[P, T]"]]:
        """Ids and records as they are, thawed or not."""
        return iter(super().items())

    def __getitem__(self, key: str) -> T:
        found: Any = super().__getitem__(key)
        if type(found) is Frozen:
            found.thaw()
            return super().__getitem__(key)
        return found

    @overload
    def get(self, key: str, default: None = None, /) -> T | None: ...
    @overload
    def get(self, key: str, default: T, /) -> T: ...
    @overload
    def get(self, key: str, default: D, /) -> T | D: ...
    def get(self, key: str, default: Any = None, /) -> Any:
        """The record, or the default."""
        found = _get(self, key, default)
        if type(found) is Frozen:
            found.thaw()
            return super().__getitem__(key)
        return found

    def pop(self, key: str, *default: Any) -> Any:
        """Take a record out."""
        if key in self:
            default = (self[key],)
        return super().pop(key, *default)

    def values(self) -> "dict_values[str, T]":
        """Every record."""
        self._thaw()
        return super().values()

    def items(self) -> "dict_items[str, T]":
        """Every id with its record."""
        self._thaw()
        return super().items()

    def _thaw(self) -> None:
        for found in super().values():
            if type(found) is Frozen:
                found.thaw()


def cut(records: Records[P, T], make: Callable[[list[T]], P]) -> Iterator[P]:
    """Cut orders into pieces; none may come or go meanwhile."""
    for _, run in groupby(records.kept(), _numbers):
        some = list(run)
        piece = _untouched([kept for _, kept in some])
        yield piece if piece is not None else make([records[order_id] for order_id, _ in some])


def _untouched(kept: list[T | Frozen[P, T]]) -> P | None:
    """The piece that these were read from, if they are all of it and as they were."""
    first = kept[0]
    piece = cast("Frozen[P, T]", first).piece if type(first) is Frozen else None
    whole = piece is not None and len(kept) == len(piece.order_ids) and all(each is first for each in kept)
    return piece if whole else None


def _numbers(item: tuple[str, object]) -> int:
    return number_of(item[0]) // NUMBERS_PER_PIECE
