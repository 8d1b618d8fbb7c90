"""What the shell may complete: names from the code, and, where a stack answers at once, its orders and accounts.

A completion never fails and never waits: without a stack it offers nothing.
"""

import shlex
from collections.abc import Callable, Iterable
from typing import Any

import typer

_TIMEOUT_SECONDS = 1.0
_PLUGIN = "kubectl trade2026"
_ORDERS_MAX = 100
_KEYS_MAX = 100
_SCOPES = ("account:", "strategy:", "instrument:", "venue:", "trader:", "desk:", "client:")

Complete = Callable[[typer.Context, str], list[str]]


def _matching(words: Iterable[str], incomplete: str) -> list[str]:
    """Those that begin so. What a shell would take for several words, or for a comment, is not offered."""
    return [word for word in dict.fromkeys(words) if word.startswith(incomplete) and shlex.quote(word) == word]


def _ask(ctx: typer.Context, service: str, path: str, query: dict[str, Any] | None = None) -> Any:
    from trade2026.cli.output import CliError
    from trade2026.cli.target import find

    try:
        _mean(ctx)
        return find(ctx.params.get("state_dir")).call(
            service, "GET", path, query=query, timeout_seconds=_TIMEOUT_SECONDS
        )
    except CliError:
        return {}


def _mean(ctx: typer.Context) -> None:
    """The options before the command are read, and not acted on, while a shell completes."""
    from trade2026.cli.target import InCluster, mean

    root = ctx.find_root()
    wanted = InCluster(*(str(root.params.get(name) or "") for name in ("context", "namespace", "stack")))
    mean(wanted if wanted != InCluster() or root.info_name == _PLUGIN else None)


def contexts(ctx: typer.Context, incomplete: str) -> list[str]:
    """Those of the kubeconfig."""
    try:
        from kubernetes import config
    except ImportError:
        return []
    try:
        listed: Any = config.list_kube_config_contexts()
    except config.ConfigException:
        return []
    return _matching((str(each["name"]) for each in listed[0]), incomplete)


def order_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """The newest orders."""
    return _orders(ctx, incomplete, None)


def open_order_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """The newest open orders."""
    return _orders(ctx, incomplete, "open")


def _orders(ctx: typer.Context, incomplete: str, status: str | None) -> list[str]:
    answer = _ask(ctx, "oms", "/orders", {"limit": _ORDERS_MAX, "status": status})
    return _matching((order["order_id"] for order in answer.get("orders", [])), incomplete)


def parent_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """The newest parent orders."""
    return _parents(ctx, incomplete, None)


def open_parent_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """The newest open parent orders."""
    return _parents(ctx, incomplete, "open")


def _parents(ctx: typer.Context, incomplete: str, status: str | None) -> list[str]:
    answer = _ask(ctx, "exeq", "/parents", {"limit": _ORDERS_MAX, "status": status})
    return _matching((parent["parent_id"] for parent in answer.get("parents", [])), incomplete)


def strategies(ctx: typer.Context, incomplete: str) -> list[str]:
    """Every strategy, those that are stopped, too."""
    answer = _ask(ctx, "strategies", "/strategies")
    return _matching((row["name"] for row in answer.get("strategies", [])), incomplete)


def symbols(ctx: typer.Context, incomplete: str) -> list[str]:
    """Every instrument."""
    answer = _ask(ctx, "gateway", "/instruments")
    return _matching((row["symbol"] for row in answer.get("instruments", [])), incomplete)


def accounts(ctx: typer.Context, incomplete: str) -> list[str]:
    """Every account that has traded, and those of the newest orders."""
    traded = _ask(ctx, "pnl", "/pnl").get("accounts", [])
    ordered = _ask(ctx, "oms", "/orders", {"limit": _ORDERS_MAX}).get("orders", [])
    return _matching(sorted({row["account"] for row in (*traded, *ordered) if "account" in row}), incomplete)


def scopes(ctx: typer.Context, incomplete: str) -> list[str]:
    """`stack`, the kinds of scope, and the names of that kind."""
    kind, _, name = incomplete.partition(":")
    known: list[str] = []
    if f"{kind}:" in incomplete and (complete := _NAMES.get(kind)) is not None:
        known = [f"{kind}:{each}" for each in complete(ctx, name)]
    return _matching(("stack", *known, *(() if known else _SCOPES)), incomplete)


_NAMES: dict[str, Complete] = {"account": accounts, "strategy": strategies, "instrument": symbols}


def cache_keys(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of the cache."""
    answer = _ask(ctx, "hot_cache", "/keys", {"prefix": incomplete, "limit": _KEYS_MAX})
    return _matching(answer.get("keys", []), incomplete)


def topics(ctx: typer.Context, incomplete: str) -> list[str]:
    """Topics of the log."""
    from trade2026.stack.facts import TOPICS

    return _matching((topic.name for topic in TOPICS), incomplete)


def limit_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Limits that can be tightened, ready for a value."""
    from trade2026.controls.limits import LimitSet

    return _matching(
        (f"{name.removesuffix('_bps').removesuffix('_ns')}=" for name in LimitSet.__struct_fields__), incomplete
    )


def statuses(ctx: typer.Context, incomplete: str) -> list[str]:
    """Of orders."""
    from trade2026.domain.orders import OrdStatus

    return _matching(("open", "closed", *(status.value for status in OrdStatus)), incomplete)


def fixed(*words: str) -> Complete:
    """Completes from these words."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return _matching(words, incomplete)

    return complete
