"""`serve`: be one of the stack's processes."""

from pathlib import Path
from typing import Annotated

import typer

from trade2026.cli.output import FAILED, USAGE, AsJson, CliError


def serve(
    settings: Annotated[Path, typer.Option("--settings", help="Settings of the process, written by the planner.")],
    host: Annotated[str, typer.Option(help="Listen here instead; not on loopback only with keys.")] = "",
    address: Annotated[str, typer.Option(help="Where other replicas reach this process.")] = "",
    service_host: Annotated[
        str, typer.Option(help="Where the services of other processes are: a name with {service} in it.")
    ] = "",
    namespace: Annotated[
        str, typer.Option(envvar="POD_NAMESPACE", help="Where the stack lives in a cluster.", show_default=False)
    ] = "",
    state_dir: Annotated[
        Path | None, typer.Option(help="Directory for everything that is kept; made if need be.", show_default=False)
    ] = None,
    keys_file: Annotated[str, typer.Option(help="Hashed bearer keys.")] = "",
    replica: Annotated[int, typer.Option(help="Its number among the replicas with these settings.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Run the services of one settings file in this process; `up` and pods call it.

    A pod knows by the options what its settings can't say, because they are the same on a laptop.

    Example: trade2026 serve --settings .trade2026/quickstart/run/orders.json
    """
    import importlib

    import msgspec

    from trade2026.kit import process
    from trade2026.kit.settings import load, placed
    from trade2026.local.state import StateDir, StateError
    from trade2026.log_archive.opening import open_bus
    from trade2026.stack.facts import SERVICES
    from trade2026.stack.nearest import nearest

    if service_host and "{service}" not in service_host:
        raise CliError(f"--service-host needs {{service}} in it, such as desk-{{service}}, not {service_host!r}", USAGE)
    try:
        loaded = load(settings)
        if state_dir is not None:
            StateDir(state_dir).open(loaded.stack)
    except (OSError, msgspec.MsgspecError) as error:
        raise CliError(f"{settings} can't be used: {error}", USAGE) from error
    except StateError as error:
        raise CliError(str(error), FAILED) from error
    loaded = placed(
        loaded,
        host=host,
        address=address,
        service_host=service_host,
        namespace=namespace,
        state_dir=str(state_dir.absolute()) if state_dir is not None else "",
        keys_file=keys_file,
        replica=replica,
    )
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
