"""Lists of what is in many partitions, wherever their cells are: a page of each is asked for, and put together."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from operator import itemgetter
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from trade2026.kit.bus.membership import Member
from trade2026.kit.cells import Cells, is_forwarded
from trade2026.kit.forward import require_done
from trade2026.kit.messages import Request
from trade2026.kit.pages import UNCOUNTED, BadCursor, Begins, Kind, cursor_of, merge, read_cursor
from trade2026.kit.problem import Problem
from trade2026.kit.queries import bad_cursor

Lines = list[dict[str, Any]]
OwnPage = Callable[[int, str | None, int], Awaitable[tuple[Lines, str | None]]]
"""Lines of a partition that is here, newest first, from a place on, and the cursor of the next page."""


class List:
    """One kind of list of a service.

    Args:
        name: Of the lines in an answer, and in words (`orders`).
        page: Asks a cell that is here.
        count: How many there are in a partition that is here.
    """

    def __init__(self, cells: Cells[Any], name: str, kind: Kind, page: OwnPage, count: Callable[[int], int]) -> None:
        self._cells, self._name, self._kind, self._page, self._count = cells, name, kind, page, count

    async def answer(self, request: Request, limit: int, account: str | None) -> tuple[Lines, str | None]:
        """A page of one account's, or of all; and the cursor of the next.

        Raises:
            Elsewhere: the account is another replica's.
            Problem: 422 for a cursor that no page has given; 503 while a partition has no owner; what another replica refused with.
        """
        cells = self._cells
        others: Mapping[Member, list[int]] = {}
        if account is not None:
            own = [cells.of_account(account).partition]
        else:
            own = sorted(cells.here)
            others, missing = ({}, None) if is_forwarded(request) else cells.others()
            if missing is not None:
                raise missing
        counts = {partition: self._count(partition) for partition in own}
        counts |= {partition: UNCOUNTED for found in others.values() for partition in found}
        try:
            begins = read_cursor(request.query.get("cursor"), counts, self._kind)
        except BadCursor as error:
            if is_forwarded(request):  # whoever asked believed that these partitions are here
                raise Problem(503, "not_owner", "this was moved a moment ago: ask again", retry_after=1) from error
            raise bad_cursor(self._name.removesuffix("s")) from error
        asking = [self._own({p: begins[p]}, limit) for p in own if p in begins]
        for member, partitions in others.items():
            if wanted := {partition: begins[partition] for partition in partitions if partition in begins}:
                asking.append(self._theirs(member, request, wanted, limit))
        pages = await asyncio.gather(*asking)
        return merge(pages, limit, itemgetter("created_at"), itemgetter(self._kind.field), self._kind)

    async def _own(self, begins: Begins, limit: int) -> tuple[Begins, Lines, str | None]:
        ((partition, begin),) = begins.items()
        return begins, *await self._page(partition, begin, limit)

    async def _theirs(
        self, member: Member, request: Request, begins: Begins, limit: int
    ) -> tuple[Begins, Lines, str | None]:
        query = {**request.query, "limit": limit, "cursor": cursor_of(begins, self._kind)}
        target = f"{quote(request.path)}?{urlencode(query)}"
        answer = await self._cells.send(member, "GET", target, request.headers)
        require_done(answer)
        said = msgspec.json.decode(answer.body)
        return begins, said[self._name], said["cursor"]
