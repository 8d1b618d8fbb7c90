"""Scopes: the part of a stack that a limit, kill or halt applies to, e.g. `stack` or `account:main`."""

from trade2026.domain.orders import OrderSpec

SCOPE_KINDS = ("account", "strategy", "instrument", "venue", "desk", "trader", "client")


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
