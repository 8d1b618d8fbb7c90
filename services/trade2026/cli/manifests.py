"""Manifests without running them: `validate`, `plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trade2026.cli.output import USAGE, AsJson, CliError, ManifestPath, StatePath, print_json, show, show_rows, warn

if TYPE_CHECKING:
    from trade2026.stack.manifest import Manifest, ManifestError
    from trade2026.stack.model import TradingStack
    from trade2026.stack.planner import Plan

PortOffset = Annotated[int, typer.Option("--port-offset", help="Added to every port.")]
ServiceNames = Annotated[
    str | None, typer.Option("--services", help="Only these, separated by commas, e.g. oms,risk.", show_default=False)
]


def wrong(file: Path, error: "ManifestError") -> CliError:
    """What is wrong with a manifest, a line each; the file is named once."""
    faults = [str(fault) for fault in error.faults]
    if len(faults) == 1 and faults[0].startswith(f"{file} "):
        return CliError(faults[0], USAGE)
    return CliError("\n  ".join([f"{file}:", *faults]), USAGE)


def read(file: Path) -> "TradingStack":
    """Read a manifest; what is wrong with it becomes a `CliError`."""
    from trade2026.stack.manifest import ManifestError, load

    try:
        return load(file)
    except ManifestError as error:
        raise wrong(file, error) from error


def read_all(file: Path) -> "Manifest":
    """Read a manifest with its strategies; what is wrong with it becomes a `CliError`."""
    from trade2026.stack.manifest import ManifestError, load_all
    from trade2026.stack.manifest import read as read_text

    try:
        return load_all(read_text(file))
    except ManifestError as error:
        raise wrong(file, error) from error


def chosen(services: str | None) -> list[str] | None:
    """The services of a comma-separated list; None means all."""
    return None if services is None else [name.strip() for name in services.split(",") if name.strip()]


def planned(file: Path, port_offset: int, services: str | None) -> "Plan":
    """Read and plan a manifest."""
    from trade2026.stack.planner import PlanError
    from trade2026.stack.planner import plan as make_plan

    try:
        manifest = read_all(file)
        return make_plan(manifest.stack, manifest.strategies, port_offset=port_offset, services=chosen(services))
    except PlanError as error:
        raise CliError(str(error), USAGE) from error


def check_keys(file: Path, keys_file: str) -> None:
    """Raise a `CliError` if the manifest names a file of keys that is not there or no good."""
    from trade2026.kit.identity import ConfigurationError, Keyring

    path = file.parent / keys_file
    if keys_file and not path.exists():
        raise CliError(
            f"{file}: spec.security.keysFile: {path} does not exist; make the first key: "
            f"trade2026 keys new NAME --role admin --keys-file {path}",
            USAGE,
        )
    try:
        Keyring(str(path) if keys_file else "", "127.0.0.1")
    except ConfigurationError as error:
        raise CliError(f"{file}: spec.security.keysFile: {error}", USAGE) from error


def validate(file: ManifestPath, state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Say whether a manifest is right, and if not, what to change; with --state-dir also whether it fits what is there.

    Example: trade2026 validate -f manifests/quickstart.yaml
    """
    manifest = read_all(file)
    if state_dir is not None:
        check_log(file, state_dir)
    stack, strategies = manifest.stack, len(manifest.strategies)
    spec = stack.spec
    traded = f", {strategies} strateg{'y' if strategies == 1 else 'ies'}" if strategies else ""
    check_keys(file, spec.security.keys_file)
    warnings = [*limits_too_small(manifest), *for_a_cluster(manifest)]
    warn(warnings)
    show(
        {"valid": True, "stack": stack.metadata.name, "warnings": warnings},
        as_json,
        f"{file} is valid: stack {stack.metadata.name}, {len(spec.instruments)} instrument(s), {len(spec.venues)} venue(s){traded}",
    )


def check_log(file: Path, state_dir: Path) -> None:
    """Raise a `CliError` if a state directory has its log elsewhere, or in other parts, than the manifest says."""
    from trade2026.local.log_place import AnotherLog, log_in, refuse_another_log
    from trade2026.local.state import StateDir

    try:
        refuse_another_log(log_in(StateDir(state_dir)), planned(file, 0, None))
    except AnotherLog as error:
        raise CliError(f"{file} does not fit {state_dir}: {error}", USAGE) from error


def for_a_cluster(manifest: "Manifest") -> list[str]:
    """One line with all that has no effect here."""
    from trade2026.stack.cluster_only import not_heeded

    fields = not_heeded(manifest)
    return [f"only a cluster heeds: {', '.join(fields)}"] if fields else []


def limits_too_small(manifest: "Manifest") -> list[str]:
    """What limits over several partitions would refuse more than is meant; of an order's value is known the least."""
    import msgspec

    from trade2026.controls.limits import LimitBook
    from trade2026.controls.slices import too_small
    from trade2026.stack.planner import limit_book
    from trade2026.stack.units import amount_nanos

    spec = manifest.stack.spec
    worth = {f"{each.symbol}.{each.venue}": amount_nanos(each.min_notional) for each in spec.instruments}
    book = msgspec.convert(limit_book(spec, manifest.strategies), LimitBook)
    return too_small(book, spec.bus.partitions, {name: least for name, least in worth.items() if least})


def plan(
    file: ManifestPath, port_offset: PortOffset = 0, services: ServiceNames = None, as_json: AsJson = False
) -> None:
    """Show what a manifest would run, and change nothing.

    Example: trade2026 plan -f manifests/quickstart.yaml --json
    """
    result = planned(file, port_offset, services)
    if as_json:
        print_json(
            {
                "stack": result.stack,
                "version": result.version,
                "config_hash": result.config_hash,
                "releases": [
                    {"name": release.name, "services": list(release.services), "settings": release.settings}
                    for release in result.releases
                ],
            }
        )
        return
    rows = [
        {
            "release": release.name,
            "service": instance,
            "port": result.ports[instance],
            "hash": release.settings["config_hash"][:12],
        }
        for release in result.releases
        for instance in release.instances
    ]
    show_rows(rows, {"release": "RELEASE", "service": "SERVICE", "port": ">PORT", "hash": "CONFIGURATION"}, "nothing")
    typer.echo(f"\nconfiguration of {result.stack}: {result.config_hash}")
