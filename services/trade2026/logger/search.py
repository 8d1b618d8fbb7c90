"""Questions to the audit log: which records, newest first, a page at a time.

A page reads a bounded number of records, however few of them fit: a question that no index answers gets short pages
with a cursor, and stalls nobody.
"""

from dataclasses import dataclass

from trade2026.logger.machine import AuditRecord
from trade2026.logger.store import AuditReader

READ_MAX = 100_000
"""Records that one page looks at, where no index leads to those that fit."""
_EQUAL = {"trace_id": "trace_id", "order_id": "subject", "account": "of_account", "principal": "principal"}


@dataclass(frozen=True)
class Filters:
    """What a record must be; empty asks nothing. Times in nanoseconds, `until` is not in the range."""

    trace_id: str = ""
    order_id: str = ""
    account: str = ""
    principal: str = ""
    type: str = ""
    topic: str = ""
    text: str = ""
    since: int | None = None
    until: int | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether an index leads to the few that fit."""
        return bool(self.trace_id or self.order_id)


def search(reader: AuditReader, filters: Filters, cursor: int | None, limit: int) -> tuple[list[AuditRecord], int]:
    """A page, and the cursor of the next one; 0 at the end of the list."""
    below = cursor if cursor is not None else reader.end
    above = 0 if filters.is_narrow else max(0, below - READ_MAX)
    conditions, values = _conditions(filters)
    records = reader.select(" AND ".join(["n < ?", "n >= ?", *conditions]), [below, above, *values], limit)
    if len(records) == limit:
        return records, records[-1].n
    return records, above


def _conditions(filters: Filters) -> tuple[list[str], list[object]]:
    conditions: list[str] = []
    values: list[object] = []
    for name, column in _EQUAL.items():
        if value := getattr(filters, name):
            conditions.append(f"{column} = ? AND {column} != ''")  # the second part lets a partial index be used
            values.append(value)
    for name in ("type", "topic"):
        if value := getattr(filters, name):
            conditions.append(f"{name} = ?")
            values.append(value)
    for bound, comparison in ((filters.since, ">="), (filters.until, "<")):
        if bound is not None:
            conditions.append(f"ts {comparison} ?")
            values.append(bound)
    if filters.text:
        escaped = filters.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        conditions.append("(what LIKE ? ESCAPE '\\' OR type LIKE ? ESCAPE '\\')")
        values += [f"%{escaped}%"] * 2
    return conditions, values
