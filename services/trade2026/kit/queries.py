"""What list endpoints and account endpoints ask of a request."""

from datetime import UTC, datetime, timedelta

from trade2026.domain.orders import OrdStatus
from trade2026.kit.http import Problem, Request
from trade2026.kit.identity import Principal

PAGE_MAX = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS_MAX = 1 << 63
_NS_LEAST = 10**17
"""Of 1973: a smaller number is of seconds or milliseconds, and would be answered as if it were of 1970."""
OLDEST_FIRST, NEWEST_FIRST = "asc", "desc"
STATUSES = ("open", "closed", *OrdStatus)


def number(request: Request, name: str, default: int, *, least: int = 1, most: int = PAGE_MAX) -> int:
    """Return a whole number from the query string.

    Raises:
        Problem: 422 when it is none, or out of range.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    raise Problem(422, f"bad_{name}", f"{name} is a whole number from {least} to {most}", field=name)


def moment(request: Request, name: str) -> int | None:
    """Return a time from the query string in nanoseconds: a whole number of them, or ISO 8601, UTC if it does not say.

    Raises:
        Problem: 422 when it is none.
    """
    text = request.query.get(name)
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) < _NS_MAX:
        if 0 < int(text) < _NS_LEAST:
            raise Problem(
                422, f"bad_{name}", f"{name} is in nanoseconds since 1970 (19 digits); {text} has too few", field=name
            )
        return int(text)
    try:
        # A plus sign in a query that was not encoded is a space.
        found = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        raise Problem(
            422, f"bad_{name}", f"{name} is a time such as 2026-01-31T09:30:00Z, or nanoseconds since 1970", field=name
        ) from None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    ns = (found - _EPOCH) // timedelta(microseconds=1) * 1_000
    if not -_NS_MAX < ns < _NS_MAX:
        raise Problem(422, f"bad_{name}", f"{name} is beyond the times that can be told", field=name)
    return ns


def direction(request: Request) -> str:
    """Return in which order of time a list comes: `asc` (the default) or `desc`.

    Raises:
        Problem: 422 for another word.
    """
    order = request.query.get("order", OLDEST_FIRST)
    if order not in (OLDEST_FIRST, NEWEST_FIRST):
        raise Problem(422, "bad_order", "order is asc or desc", field="order")
    return order


def order_status(request: Request) -> str | None:
    """Return which orders a list has: `open`, `closed`, an OrdStatus, or None for all.

    Raises:
        Problem: 422 for another word.
    """
    status = request.query.get("status")
    if status is not None and status not in STATUSES:
        raise Problem(422, "bad_status", f"status is one of {', '.join(STATUSES)}", field="status")
    return status


def bad_cursor(what: str) -> Problem:
    """The answer to a cursor that no page of a list has given: an empty page would look like its end."""
    return Problem(422, "bad_cursor", f"no {what} of this list has that cursor; begin without one", field="cursor")


def listed_account(request: Request) -> str | None:
    """Return the account whose orders a list has; None for all.

    Raises:
        Problem: 403 for an account that the principal may not use, and, for one who may use only some
            accounts, 403 without any: name one of them.
    """
    account = request.query.get("account")
    if account is not None:
        return require_account(request, account)
    if request.principal.accounts is None:
        return None
    raise Problem(403, "account_not_permitted", "name one of your accounts: ?account=…", field="account")


def require_scope(principal: Principal, scope: str) -> str:
    """Return a scope that may be stopped, released or limited: one who may use only some accounts acts on those.

    Raises:
        Problem: 403 for a scope that reaches beyond them.
    """
    kind, _, name = scope.partition(":")
    if principal.accounts is None or (kind == "account" and name in principal.accounts):
        return scope
    raise Problem(
        403, "scope_not_permitted", f"{principal.name} may only act on account:NAME of its own accounts", field="scope"
    )


def may_see(request: Request, account: str) -> bool:
    """Whether the principal may use the account."""
    allowed = request.principal.accounts
    return allowed is None or account in allowed


def require_account(request: Request, account: str) -> str:
    """Return the account.

    Raises:
        Problem: 403 when the principal may not use it.
    """
    if not may_see(request, account):
        raise Problem(
            403, "account_not_permitted", f"{request.principal.name} may not use account {account!r}", field="account"
        )
    return account
