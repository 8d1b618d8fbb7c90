"""How commands speak: tables for people, JSON for scripts, and errors that say what to do."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

OK, FAILED, USAGE, UNREACHABLE, REFUSED, STRATEGY_FAILED = 0, 1, 2, 3, 4, 5
"""Exit codes; `trade2026 --help` explains them."""

_WIDTH = 4096
_as_json = False


class CliError(Exception):
    """A command can't do what was asked.

    Attributes:
        exit_code: One of the codes above.
        problem: The platform's own answer (RFC 9457), where there is one.
    """

    def __init__(self, message: str, exit_code: int = FAILED, problem: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.problem = problem


def _said(reason: str) -> str:
    if not reason.strip():
        raise typer.BadParameter("it is empty: say why in some words, which are kept in the log")
    return reason


def _set_json(value: bool) -> bool:
    global _as_json
    _as_json = value
    return value


AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of a table.", callback=_set_json, is_eager=True)
]
Reason = Annotated[str, typer.Option(help="Kept in the log.", show_default=False, callback=_said)]
StatePath = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="TRADE2026_STATE_DIR",
        show_default=False,
        help="State directory of the stack; found under .trade2026/ if omitted.",
    ),
]
ManifestPath = Annotated[Path, typer.Option("-f", "--file", help="The manifest (YAML or JSON).", show_default=False)]
SomeManifestPath = Annotated[
    Path | None, typer.Option("-f", "--file", help="The stack of this manifest.", show_default=False)
]


def console() -> "Console":
    """Where tables go; nothing is cut off where no terminal sets a width."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


def print_table(table: "Table") -> None:
    """Print a table whole: a narrow terminal wraps its lines rather than losing an id. No trailing blanks."""
    screen = console()
    screen.width = max(screen.width, screen.measure(table, options=screen.options.update(width=_WIDTH)).maximum)
    with screen.capture() as drawn:
        screen.print(table)
    for line in drawn.get().splitlines():
        typer.echo(line.rstrip())


def print_json(value: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def show(value: Any, as_json: bool, text: str) -> None:
    """Print the value as JSON, or what it means as text."""
    if as_json:
        print_json(value)
    else:
        typer.echo(text)


def show_rows(rows: list[dict[str, Any]], columns: dict[str, str], empty: str) -> None:
    """Print a table: `columns` maps keys of the rows to headings; a heading that begins with `>` is a number."""
    if not rows:
        typer.echo(empty)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(heading.lstrip(">"), justify="right" if heading.startswith(">") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns))
    print_table(table)


def show_fields(fields: dict[str, Any]) -> None:
    """Print names and values, a line each; what is empty is left out."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        if value not in (None, "", [], {}):
            typer.echo(f"{name.ljust(width)}  {_cell(value)}")


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def warn(warnings: list[str]) -> None:
    """Print what is right, and may not do what is meant, to standard error; JSON has it in its answer."""
    for warning in () if _as_json else warnings:
        typer.secho(f"warning: {warning}", fg="yellow" if _coloured() else None, err=True)


def _coloured() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def show_error(error: CliError) -> None:
    """Print what went wrong to standard error, as JSON where JSON was asked for."""
    if _as_json:
        typer.echo(json.dumps({"error": str(error), **({"problem": error.problem} if error.problem else {})}), err=True)
        return
    typer.secho(f"error: {error}", fg="red" if _coloured() else None, err=True)
    extra = {k: v for k, v in (error.problem or {}).items() if k not in ("type", "title", "status", "detail", "code")}
    for name, value in extra.items():
        typer.echo(f"  {name}: {_cell(value)}", err=True)
