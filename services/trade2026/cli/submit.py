"""What `order submit` and `parent submit` have in common, and what to do where nobody knows whether an order was taken."""

import re
import shlex
import uuid
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from trade2026.cli.output import UNREACHABLE, CliError

_OPTIONS = {"order_type": "--type", "time_in_force": "--tif"}
_ARGUMENTS = ("symbol", "side", "quantity")


class SubmitCommand(TyperCommand):
    """Explains a quantity that looks like an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        negative = next((word for word in args if re.fullmatch(r"-(\d|\.\d).*", word)), None)
        if negative is not None and (args[args.index(negative) - 1 : args.index(negative)] or [""])[0] in (
            "buy",
            "sell",
        ):
            raise typer.BadParameter(f"a quantity is above 0, not {negative}: the side says which way, buy or sell")
        return super().parse_args(ctx, args)


def new_client_order_id() -> str:
    """A name for an order that nobody has named: with it the order can be sent again, and is one order."""
    return f"cli-{uuid.uuid4().hex[:16]}"


def uncertain(error: CliError, body: dict[str, Any], state_dir: Path | None) -> CliError:
    """The same error with what a person may do, if nobody knows whether the order was taken.

    Args:
        body: What was sent, its client order id, too.
    """
    if error.exit_code != UNREACHABLE and (error.problem or {}).get("status", 0) < 500:
        return error
    name = body["client_order_id"]
    place = ["--state-dir", str(state_dir)] if state_dir is not None else []
    look = ["trade2026", "order", "list", *(["--account", body["account"]] if "account" in body else []), *place]
    told = (
        f"{error}\nwhether the order was taken is not known. Sent again under its client order id {name} it is one order:"
        f"\n  {shlex.join([*_again(body), *place])}\nor look for it:\n  {shlex.join([*look, '--json'])}"
    )
    return CliError(told, error.exit_code, {**(error.problem or {}), "client_order_id": name})


def _again(body: dict[str, Any]) -> list[str]:
    """The command that sends the same once more."""
    words = ["trade2026", "order", "submit", *(str(body[name]) for name in _ARGUMENTS)]
    for name, value in body.items():
        if name not in _ARGUMENTS:
            option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
            words += [option] if value is True else [option, str(value)]
    return words
