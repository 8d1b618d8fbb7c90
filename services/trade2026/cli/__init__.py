"""The command line. Every module here is light to import: what a command needs, it imports when it runs."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trade2026.cli.output import CliError

TRACEBACK_VARIABLE = "TRADE2026_TRACEBACK"
"""Environment variable: if it is set, what nobody has foreseen is shown with its traceback."""


def kubectl_plugin() -> None:
    """`kubectl trade2026 …`: the same commands, about a stack in the cluster of kubectl's context."""
    main(prog_name="kubectl trade2026")


def main(arguments: list[str] | None = None, *, prog_name: str = "trade2026") -> None:
    """Run a command; exits the process with its code."""
    from trade2026.cli.app import app
    from trade2026.cli.output import CliError, show_error

    words = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=words, prog_name=prog_name)
    except CliError as error:
        show_error(error)
        raise SystemExit(error.exit_code) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(141) from None
    except Exception as error:
        # A process of a stack has a log, in which the place of a fault is what is looked for.
        if words[:1] == ["serve"] or os.environ.get(TRACEBACK_VARIABLE):
            raise
        show_error(_unforeseen(error))
        raise SystemExit(1) from error


def _unforeseen(error: Exception) -> "CliError":
    from trade2026.cli.output import CliError

    if isinstance(error, OSError) and error.filename is not None:
        return CliError(f"{error.filename}: {error.strerror}: name another place, or make this one usable")
    told = " ".join(str(error).split()) or "no more is known"
    return CliError(
        f"this should not happen: {type(error).__name__}: {told}; please report it, with what "
        f"{TRACEBACK_VARIABLE}=1 before the same command shows"
    )
