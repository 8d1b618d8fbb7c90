"""What an account holds and has earned: `positions`, `pnl`."""

from typing import Annotated, Any

import typer

from trade2026.cli import completion
from trade2026.cli.output import AsJson, CliError, StatePath, print_json, show_fields, show_rows
from trade2026.cli.target import find, path_to

Account = Annotated[str, typer.Argument(help="The account.", autocompletion=completion.accounts)]


def positions(account: Account = "main", state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Show an account's positions.

    Example: trade2026 positions main
    """
    answer = find(state_dir).call("oms", "GET", path_to("positions", account))
    if as_json:
        print_json(answer)
        return
    columns = {
        "symbol": "SYMBOL",
        "quantity": ">QUANTITY",
        "average_price": ">AVERAGE",
        "realized": ">REALIZED",
        "fees": ">FEES",
    }
    show_rows(answer["positions"], columns, f"{account} has no positions")


def pnl(account: Account = "main", state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Show an account's profit and loss.

    Example: trade2026 pnl main --json
    """
    target = find(state_dir)
    try:
        answer: dict[str, Any] = target.call("pnl", "GET", path_to("pnl", account))
    except CliError as error:
        if (error.problem or {}).get("code") != "unknown_account":
            raise
        answer = {"account": account, "by_symbol": []}  # as for its positions: it has none yet
    if as_json:
        print_json(answer)
        return
    if not answer.get("by_symbol"):
        typer.echo(f"{account} has no profit or loss: it has not traded")
        return
    tables = {name: value for name, value in answer.items() if isinstance(value, list) and value}
    show_fields({name: value for name, value in answer.items() if not isinstance(value, list)})
    for name, rows in tables.items():
        typer.echo(f"\n{name.replace('_', ' ')}")
        if isinstance(rows[0], dict):
            keys = [key for key, value in rows[0].items() if not isinstance(value, list | dict)]
            show_rows(rows, {key: key.replace("_", " ").upper() for key in keys}, "")
        else:
            typer.echo(", ".join(map(str, rows)))
