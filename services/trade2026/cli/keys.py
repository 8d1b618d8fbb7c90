"""Bearer keys: `keys new`."""

from pathlib import Path
from typing import Annotated

import typer

from trade2026.cli.output import USAGE, AsJson, CliError, print_json

ROLES = ("viewer", "trader", "risk", "admin")
"""Each may do what those before it may."""

app = typer.Typer(help="Bearer keys: new.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def keys() -> None:
    """Bearer keys for a stack whose manifest names a security.keysFile."""


@app.command(no_args_is_help=True)
def new(
    principal: Annotated[
        str, typer.Argument(help="Whose key: a person, a desk, a strategy. It is named in every event.")
    ],
    keys_file: Annotated[
        Path, typer.Option("--keys-file", "-k", help="The file of security.keysFile; made if need be.")
    ],
    role: Annotated[str, typer.Option(help="viewer, trader, risk or admin.")] = "trader",
    accounts: Annotated[
        str | None, typer.Option(help="Only these accounts, separated by commas; all if omitted.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, print it once, and put its hash into the stack's file of keys.

    Example: trade2026 keys new desk-1 --role trader --accounts main --keys-file keys.json
    """
    import json

    import msgspec

    from trade2026.kit.identity import new_key
    from trade2026.local.state import write_atomically
    from trade2026.stack.nearest import nearest

    if role not in ROLES:
        raise CliError(f"{role!r} is no role{nearest(role, ROLES)}", USAGE)
    if not principal.strip() or not principal.isprintable():
        raise CliError("a key needs the name of its principal, in printable characters", USAGE)
    try:
        entries = json.loads(keys_file.read_bytes())["keys"] if keys_file.exists() else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliError(f"{keys_file} is no file of keys: {error!r}", USAGE) from error
    only = [name.strip() for name in accounts.split(",") if name.strip()] if accounts is not None else None
    clear, entry = new_key(principal, role, only)  # type: ignore[arg-type]  # checked above
    content = json.dumps({"keys": [*entries, msgspec.to_builtins(entry)]}, indent=2).encode()
    try:
        write_atomically(keys_file, content + b"\n")
    except OSError as error:
        raise CliError(f"{keys_file} can't be written: {error.strerror}") from error
    if as_json:
        print_json({"principal": principal, "role": role, "accounts": only, "key": clear, "keys_file": str(keys_file)})
        return
    typer.echo(clear)
    typer.echo(
        f"\nThis is shown once; only its hash is in {keys_file}. Use it: export TRADE2026_KEY=…\n"
        "A running stack knows it after `trade2026 apply`.",
        err=True,
    )
