"""Bearer keys: `keys new`."""

from typing import Annotated

import typer

from trade2026.cli.output import AsJson, CliError, print_json

app = typer.Typer(help="Bearer keys: new.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Bearer keys for a stack that is not open to everybody on this machine."""


@app.command()
def new(
    principal: Annotated[str, typer.Argument(help="Who will hold the key.")],
    role: Annotated[str, typer.Option(help="viewer, trader, risk or admin.")] = "trader",
    account: Annotated[
        list[str] | None, typer.Option(help="An account it may use; repeat for more. All, if none.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key: its clear text, shown once, and the entry for the keys file.

    Example: trade2026 keys new ann --role trader --account main
    """
    import msgspec

    from trade2026.kit.identity import ConfigurationError, new_key

    try:
        clear, entry = new_key(principal, role, account or None)
    except ConfigurationError as error:
        raise CliError(str(error)) from error
    line = msgspec.to_builtins(entry)
    if as_json:
        print_json({"key": clear, "entry": line})
        return
    typer.echo(f"key    {clear}   (shown only now)")
    typer.echo(f"entry  {msgspec.json.encode(entry).decode()}")
