"""What the order service says of an order while its memory is not the log's yet."""

from types import SimpleNamespace

import pytest

from trade2026.kit.clock import ManualClock
from trade2026.kit.owner import Unavailable
from trade2026.oms.lookup import OrderLookup


def test_an_order_that_is_not_folded_yet_is_not_called_unknown() -> None:
    """A log that is away for seconds leaves memory empty as long: an acknowledged order must not be denied then."""
    owner = SimpleNamespace(ready=False, detail="claiming the log", machine=None)
    lookup = OrderLookup(owner, SimpleNamespace(), ManualClock())  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="claiming the log"):
        lookup.to_change("o0-1")
