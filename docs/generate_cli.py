"""The reference page of the command line, from the commands themselves."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from trade2026.cli.app import EPILOG, app


def commands(group: Any, path: tuple[str, ...] = ("trade2026",)) -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name, in the order of the help."""
    for name, command in group.commands.items():
        if getattr(command, "commands", None):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def described(text: str) -> tuple[str, list[str]]:
    """Split a command's help into what it does and its examples."""
    what, _, examples = re.split(r"^(Examples?):", inspect.cleandoc(text), maxsplit=1, flags=re.MULTILINE)
    return what.strip(), [line.strip() for line in examples.splitlines() if line.strip()]


def parameter_row(parameter: Any) -> str:
    """A line of the table: names, what it means, its default."""
    if parameter.param_type_name == "argument":
        names = parameter.name.upper()
    else:
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    shown = f"`{default}`" if isinstance(default, str | int) and not isinstance(default, bool) and default else ""
    needed = "**required**" if parameter.required else shown
    return f"| {names} | {(getattr(parameter, 'help', '') or '').replace('|', chr(92) + '|')} | {needed} |"


def cli_page() -> str:
    """Return the page of commands."""
    lines = [
        "# The command line",
        "",
        "`trade2026 COMMAND --help` says the same. `python -m trade2026` is the same program.",
        "",
        "- `--json` prints JSON instead of text; errors then go to standard error as JSON, too.",
        "- `--state-dir`, or the variable `TRADE2026_STATE_DIR`, says which stack is meant. Without it, it is the one",
        "  under `.trade2026/` in the working directory.",
        "- `TRADE2026_KEY` holds your key, for a stack that asks for one. `NO_COLOR` turns colours off.",
        "- `trade2026 --install-completion` teaches your shell the commands, order ids, accounts and scopes.",
        "",
        EPILOG,
    ]
    for name, command in commands(typer.main.get_command(app)):
        what, examples = described(command.help or "")
        lines += ["", f"## {name}", "", what, "", "```text", *examples, "```"]
        rows = [parameter_row(each) for each in command.params if each.name not in ("help", "as_json", "state_dir")]
        if rows:
            lines += ["", "| | | default |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"
