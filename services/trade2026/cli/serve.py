"""`serve`: be one of the stack's processes."""

from pathlib import Path
from typing import Annotated

import typer

from trade2026.cli.output import FAILED, USAGE, AsJson, CliError


def serve(
    settings: Annotated[Path, typer.Option("--settings", help="Settings of the process, written by the planner.")],
    as_json: AsJson = False,
) -> None:
    """Run the services of one settings file in this process; `up` and the operator call it.

    Example: trade2026 serve --settings .trade2026/quickstart/run/orders.json
    """
    import importlib

    import msgspec

    from trade2026.kit import process
    from trade2026.kit.settings import load
    from trade2026.log_archive.opening import open_bus
    from trade2026.stack.facts import SERVICES
    from trade2026.stack.nearest import nearest

    try:
        loaded = load(settings)
    except (OSError, msgspec.MsgspecError) as error:
        raise CliError(f"{settings} can't be used: {error}", USAGE) from error
    factories = []
    for name in loaded.services:
        if name not in SERVICES:
            raise CliError(f"{settings}: {name!r} is no service{nearest(name, SERVICES)}", USAGE)
        module, _, attribute = SERVICES[name].factory.partition(":")
        try:
            factories.append(getattr(importlib.import_module(module), attribute))
        except ImportError as error:
            raise CliError(f"{name} can't be loaded: {error}", FAILED) from error
    process.run(loaded, factories, open_bus)
