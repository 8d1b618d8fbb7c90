"""Names of what is cached: from the general to the particular, so that a prefix is everything of one kind.

`tick:VENUE:SYMBOL`, `book:VENUE:SYMBOL`, `bar:VENUE:SYMBOL:INTERVAL`, `position:ACCOUNT:VENUE:SYMBOL` and
`…:STRATEGY`, `pnl:ACCOUNT` and `pnl:ACCOUNT:VENUE:SYMBOL`, `user:PRINCIPAL:…`. In names that users choose, all but
letters, digits and `_.-~` is percent-encoded.
"""

import re
from urllib.parse import quote, unquote

USER = "user:"
KEY_CHARACTERS_MAX = 256
_USER_KEY = re.compile(r"user:[A-Za-z0-9_.~%-]+(:[A-Za-z0-9_.~%-]+)+")
_NAMELESS = "-"
_OF_ACCOUNTS = ("position", "pnl")


def tick(instrument: str) -> str:
    """Key of the last trade."""
    return f"tick:{_place(instrument)}"


def book(instrument: str) -> str:
    """Key of the newest book."""
    return f"book:{_place(instrument)}"


def bar(instrument: str, interval: str) -> str:
    """Key of the newest closed bar."""
    return f"bar:{_place(instrument)}:{interval}"


def position(account: str, instrument: str, strategy: str | None = None) -> str:
    """Key of an account's position, or of a strategy's part of it; one without a name has the part `-`."""
    whole = f"position:{_part(account)}:{_place(instrument)}"
    return whole if strategy is None else f"{whole}:{_NAMELESS if not strategy else _part(strategy)}"


def pnl(account: str, instrument: str = "") -> str:
    """Key of an account's P&L, in one instrument or in all."""
    whole = f"pnl:{_part(account)}"
    return f"{whole}:{_place(instrument)}" if instrument else whole


def account_of(key: str) -> str | None:
    """The account that a key tells about; None for what tells about none."""
    kind, _, rest = key.partition(":")
    return unquote(rest.partition(":")[0]) if kind in _OF_ACCOUNTS else None


def user_of(key: str) -> str | None:
    """The principal whose namespace a key is in; None for the platform's."""
    return unquote(key.split(":")[1]) if key.startswith(USER) else None


def namespace(principal: str) -> str:
    """The prefix of a principal's own keys."""
    return f"{USER}{_part(principal)}:"


def is_user_key(key: str) -> bool:
    """Whether a key may be set by a user, whoever it is."""
    return len(key) <= KEY_CHARACTERS_MAX and _USER_KEY.fullmatch(key) is not None


def _place(instrument: str) -> str:
    symbol, _, venue = instrument.rpartition(".")
    return f"{venue}:{symbol}"


def _part(name: str) -> str:
    return quote(name, safe="") if name != _NAMELESS else "%2D"
