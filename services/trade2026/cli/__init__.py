"""The command line. Every module here is light to import: what a command needs, it imports when it runs."""

import sys


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exits the process with its code."""
    from trade2026.cli.app import app
    from trade2026.cli.output import CliError, show_error

    try:
        app(args=sys.argv[1:] if arguments is None else arguments, prog_name="trade2026")
    except CliError as error:
        show_error(error)
        raise SystemExit(error.exit_code) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(141) from None
