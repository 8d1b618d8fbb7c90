"""Scopes: the part of a stack that a limit, kill or halt applies to, e.g. `stack` or `account:main`."""

from collections.abc import Collection

from trade2026.domain.instruments import Instruments, UnknownInstrument
from trade2026.domain.orders import OrderSpec

NAME_MAX = 128
SCOPE_KINDS = ("account", "strategy", "instrument", "venue", "desk", "trader", "client")


class BadScope(ValueError):
    """A text that names no scope; the message says what would."""


def resolve_scope(scope: str, instruments: Instruments, stopped: Collection[str] = ()) -> str:
    """Return a scope that somebody asks to stop or to release, its instrument by its full id.

    Args:
        stopped: What is stopped now; it can be released whatever has become of its instrument since.

    Raises:
        BadScope: it is none, or of an instrument or venue that is not there: to stop that must not look as if
            it had stopped something.
    """
    if scope in stopped:
        return scope
    kind, _, name = scope.partition(":")
    if not is_scope(scope) or len(name) > NAME_MAX or not name.isprintable():
        raise BadScope(f"scope is stack, or one of {', '.join(SCOPE_KINDS)} with :NAME")
    if kind == "instrument":
        try:
            return f"instrument:{instruments.resolve(name).instrument_id}"
        except UnknownInstrument as error:
            raise BadScope(str(error)) from error
    venues = sorted({instrument.venue for instrument in instruments.by_id.values()})
    if kind == "venue" and name not in venues:
        raise BadScope(f"{name!r} is no venue of this stack; it has {', '.join(venues)}")
    return scope


def is_scope(scope: str) -> bool:
    """Whether a text names a scope."""
    kind, _, name = scope.partition(":")
    return scope == "stack" or (kind in SCOPE_KINDS and bool(name))


def in_scope(scope: str, spec: OrderSpec) -> bool:
    """Whether an order belongs to a scope; an unknown kind of scope holds nothing."""
    kind, _, name = scope.partition(":")
    if scope == "stack":
        return True
    if not name or kind not in SCOPE_KINDS:
        return False
    return name == (venue_of(spec.instrument) if kind == "venue" else getattr(spec, kind))


def scopes_of(spec: OrderSpec) -> tuple[str, ...]:
    """Every scope that an order belongs to, the widest first."""
    named = [f"{kind}:{name}" for kind in SCOPE_KINDS if kind != "venue" and (name := getattr(spec, kind))]
    return ("stack", *named, f"venue:{venue_of(spec.instrument)}")


def venue_of(instrument: str) -> str:
    """The venue in `SYMBOL.VENUE`."""
    return instrument.rpartition(".")[2]
