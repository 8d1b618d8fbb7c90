"""Bearer keys: `keys new`."""

import typer

app = typer.Typer(help="Bearer keys: new.", no_args_is_help=True, rich_markup_mode=None)
