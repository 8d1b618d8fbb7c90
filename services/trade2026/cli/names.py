"""Whether a name is anybody's: a slip in a kill, or in an order's account, must not look as if it were right."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trade2026.cli.output import CliError
from trade2026.cli.target import Target

if TYPE_CHECKING:
    from trade2026.stack.manifest import Manifest

_TIMEOUT_SECONDS = 3.0
_ORDERS_MAX = 1_000
"""The newest orders, which are looked through for the names of accounts and strategies."""


def stranger(target: Target, scope: str) -> str:
    """What to say of the scope of an account or a strategy that nobody has; "" if it has, or that can't be told."""
    from trade2026.stack.nearest import nearest

    kind, _, name = scope.partition(":")
    names_of = _NAMES.get(kind)
    try:
        known = names_of(target, name) if names_of is not None else {name}
    except CliError:
        return ""
    if name in known:
        return ""
    return f"is the name right? No {kind} {name!r} is defined here or has orders{nearest(name, sorted(known))}"


def first_order(target: Target, account: str, order_id: str) -> str:
    """What to say if an order is the first of an account that no manifest names; else ""."""
    from trade2026.stack.nearest import nearest

    try:
        orders = _ask(target, "oms", "/orders", {"account": account, "limit": 2})["orders"]
        if any(order["order_id"] != order_id for order in orders):
            return ""
        known = _accounts(target, "")
    except CliError:
        return ""
    others = sorted(known - {account})
    return "" if account in _defined_accounts(target) else f"{account!r} is a new account{nearest(account, others)}"


def _accounts(target: Target, wanted: str) -> set[str]:
    known = _defined_accounts(target)
    if wanted and _ask(target, "oms", "/orders", {"account": wanted, "limit": 1})["orders"]:
        known.add(wanted)
    with contextlib.suppress(CliError):
        known.update(row["account"] for row in _ask(target, "pnl", "/pnl")["accounts"])
    with contextlib.suppress(CliError):  # those that have orders and no execution yet
        newest = _ask(target, "oms", "/orders", {"limit": _ORDERS_MAX})["orders"]
        known.update(order["account"] for order in newest if "account" in order)
    return known


def _strategies(target: Target, wanted: str) -> set[str]:
    known = {order.get("strategy") for order in _ask(target, "oms", "/orders", {"limit": _ORDERS_MAX})["orders"]}
    if (manifest := _manifest(target)) is not None:
        known.update(strategy.metadata.name for strategy in manifest.strategies)
        known.update(manifest.stack.spec.risk.strategies)
    if wanted not in known:
        with contextlib.suppress(CliError):
            known.update(row["name"] for row in _ask(target, "strategies", "/strategies")["strategies"])
    return {name for name in known if name}


_NAMES: dict[str, Callable[[Target, str], set[str]]] = {"account": _accounts, "strategy": _strategies}


def _defined_accounts(target: Target) -> set[str]:
    manifest = _manifest(target)
    if manifest is None:
        return set()
    spec = manifest.stack.spec
    strategies = {strategy.spec.account for strategy in manifest.strategies if strategy.spec.account}
    return {spec.default_account, *spec.risk.accounts, *strategies}


def _manifest(target: Target) -> "Manifest | None":
    """What the stack runs; None where its directory is not here."""
    from trade2026.stack.manifest import ManifestError, load_all

    if target.state is None:
        return None
    try:
        return load_all((target.state.path / "manifest.yaml").read_text("utf-8"))
    except (OSError, ManifestError):
        return None


def _ask(target: Target, service: str, path: str, query: dict[str, Any] | None = None) -> Any:
    return target.call(service, "GET", path, query=query, timeout_seconds=_TIMEOUT_SECONDS)
