"""Why a command is refused without a trace in the log."""

from trade2026.controls.slices import Shortage
from trade2026.domain.orders import Order

SOME_IN_USE = "some of these client order ids are in use already; a list is accepted in one piece"


class OrderError(Exception):
    """A command that is refused without a trace in the log; `code` is stable."""

    code = "order_error"


class ClientOrderIdReused(OrderError):
    """The same client order id with other content."""

    code = "client_order_id_reused"

    def __init__(self, order: Order) -> None:
        self.order_id = order.order_id
        super().__init__(
            f"client_order_id {order.spec.client_order_id!r} already names order {order.order_id} with other content; "
            "send a new id for a new order"
        )


class UnknownOrder(OrderError):
    """No such order here."""

    code = "unknown_order"

    def __init__(self, order_id: str) -> None:
        super().__init__(f"there is no order {order_id!r}")


class OrderClosed(OrderError):
    """Nothing can happen to it any more."""

    code = "order_closed"

    def __init__(self, order: Order) -> None:
        self.account = order.spec.account
        super().__init__(f"order {order.order_id} is {order.status} and cannot change")


class BadAmendment(OrderError):
    """New terms that make no order."""

    code = "bad_amendment"


class BadList(OrderError):
    """Orders that make no list of the kind asked for."""

    code = "bad_list"


class SliceShort(OrderError):
    """This partition's part of a limit has no room, and the whole limit may: with a larger part it can be asked again."""

    code = "slice_short"

    def __init__(self, shortage: Shortage) -> None:
        self.shortage = shortage
        super().__init__(f"{shortage.field} of {shortage.scope}: {shortage.needed} would be needed here")


class Refused(OrderError):
    """A control refused an amendment or a leg of a list; a single order is recorded instead."""

    code = "refused_by_risk"

    def __init__(self, reject_code: str, reason: str) -> None:
        self.reject_code = reject_code
        super().__init__(reason)
