"""What list endpoints and account endpoints ask of a request."""

from trade2026.kit.http import Problem, Request

PAGE_MAX = 1_000


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
