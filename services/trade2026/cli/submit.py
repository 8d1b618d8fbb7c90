"""What `order submit` and `parent submit` have in common."""

import re
from typing import Any

import typer
from typer.core import TyperCommand


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
