"""What the ids of orders at the venue say: those of the OMS, and those of orders that are placed here. Pure."""

import re

from trade2026.domain.orders import DIRECT_ORDER_PREFIX, partition_of_id
from trade2026.domain.shards import partition_of

_PAPER_ACCOUNT = re.compile("(?:~.|[^~-])*")
"""The account in the id of an order that is placed here, as `paper_order_id` writes it."""


def paper_order_id(account: str, client_order_id: str) -> str:
    """Return the id of an order that is placed here; no two orders have the same, whatever dashes their names have."""
    account = account.replace("~", "~~").replace("-", "~-")  # the first dash that is not marked ends the account
    return f"{DIRECT_ORDER_PREFIX}{account}-{client_order_id}"


def partition_of_report(order_id: str, partitions: int) -> int:
    """Return the partition of what is reported of an order: the one that its id names, or that of its account."""
    named = partition_of_id(order_id)
    if named >= 0:
        return named
    account = _PAPER_ACCOUNT.match(order_id.removeprefix(DIRECT_ORDER_PREFIX))
    assert account is not None
    return partition_of(account.group().replace("~-", "-").replace("~~", "~"), partitions)
