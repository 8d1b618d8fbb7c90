"""From files to servers: `migrate`."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from trade2026.cli.manifests import PortOffset, read
from trade2026.cli.output import FAILED, USAGE, AsJson, CliError, ManifestPath, print_json, show_rows
from trade2026.cli.target import STATE_ROOT

_TOLD_SECONDS = 1.0


def migrate(
    file: ManifestPath,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            "--state-dir",
            envvar="TRADE2026_STATE_DIR",
            help="State directory of the embedded stack; .trade2026/STACK if omitted. It stays as it is.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option("--to", help="State directory that goes on; FROM-kafka if omitted.", show_default=False),
    ] = None,
    port_offset: PortOffset = 0,
    with_infra: Annotated[
        bool, typer.Option("--with-infra", help="Start Kafka and QuestDB here meanwhile, as `up` does.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be moved, and change nothing.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare what was moved again, and move nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Move an embedded stack to the servers of a manifest: its log to Kafka, its time series to QuestDB.

    Both stacks must be down. Nothing is taken away where it was; every record and row is compared at the end. Ended at
    any moment, it goes on where it was when it is started again.

    Examples:

    trade2026 migrate -f manifests/kafka.yaml --dry-run

    trade2026 migrate -f manifests/kafka.yaml --with-infra

    trade2026 migrate -f manifests/kafka.yaml --from .trade2026/quickstart --to .trade2026/on-kafka
    """
    if dry_run and verify:
        raise CliError("--dry-run and --verify ask for different things: name one of them", USAGE)
    stack = read(file)
    source = source or STATE_ROOT / stack.metadata.name
    target = target or source.with_name(f"{source.name}-kafka")
    with _Errors(source, is_move=not (dry_run or verify)):
        from trade2026.local.migration.migration import Migration
        from trade2026.local.state import StateDir

        migration = Migration(
            StateDir(source),
            StateDir(target),
            file.read_text("utf-8"),
            base=file.absolute().parent,
            port_offset=port_offset,
            with_infra=with_infra,
            say=_say,
            told=_Progress(),
        )
        result = migration.estimate() if dry_run else migration.verify() if verify else migration.run()
    if as_json:
        print_json(result)
    elif dry_run:
        _show_estimate(result)
    else:
        _show_result(result, file, port_offset, with_infra)


def _say(line: str) -> None:
    typer.echo(line, err=True)


class _Progress:
    """A line on standard error from time to time."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        if time.monotonic() - self._last >= _TOLD_SECONDS:
            self._last = time.monotonic()
            _say(f"  {what}: {done:,} of {total:,}")


class _Errors:
    """What goes wrong on the way, for a person.

    Args:
        is_move: Something may have been moved before it went wrong.
    """

    def __init__(self, source: Path, *, is_move: bool) -> None:
        self._source, self._is_move = source, is_move

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        from trade2026.kit.bus.port import BusError
        from trade2026.kit.identity import ConfigurationError
        from trade2026.local.infra.component import InfraError
        from trade2026.local.migration.moves import MigrationRefused
        from trade2026.local.preparation import RunError
        from trade2026.local.state import Held, StateError
        from trade2026.stack.planner import PlanError
        from trade2026.stores.lake import LakeError
        from trade2026.stores.timeseries.port import StoreError

        if isinstance(error, Held):
            raise CliError(
                f"{error.path} is in use: a stack is up there, and what grows can't be moved. Stop it with "
                f"`trade2026 down --state-dir {error.path}`, then give this command again",
                FAILED,
            ) from error
        if isinstance(error, MigrationRefused | PlanError | RunError | ConfigurationError | StateError):
            raise CliError(str(error), FAILED) from error
        if isinstance(error, BusError | InfraError | LakeError | OSError | StoreError):
            told = f"{error}; {self._source} is as it was, and the same command goes on from here"
            raise CliError(told if self._is_move else str(error), FAILED) from error


_COLUMNS = {"topic": "TOPIC", "partition": ">PARTITION", "start": ">FROM", "end": ">TO", "records": ">RECORDS"}


def _show_estimate(result: dict[str, Any]) -> None:
    show_rows(result["log"], {**_COLUMNS, "bytes": ">BYTES"}, "the log stays where it is")
    typer.echo(f"\n{result['files']:,} files, {result['file_bytes']:,} bytes, are copied from {result['from']}")
    typer.echo(f"to {result['to']}")
    if size := result["timeseries_bytes"]:
        typer.echo(f"time series of {size:,} bytes go to QuestDB")
    for name, fate in result["stores"].items():
        if name not in result["unused"]:
            typer.echo(f"  {name}: {fate}")
    typer.echo("nothing was changed")


def _show_result(result: dict[str, Any], file: Path, port_offset: int, with_infra: bool) -> None:
    show_rows(result["log"], {**_COLUMNS, "compared": ">COMPARED", "dropped": ">DROPPED"}, "the log is as it was")
    moved = result["moved"]
    if moved:
        files = moved["files"] + moved["lake"]
        typer.echo(f"\nmoved now: {moved['records']:,} records, {moved['rows']:,} rows, {files:,} files")
    typer.echo(f"{result['stack']}: all that was moved is the same in {result['from']} and there")
    options = (" --with-infra" if with_infra else "") + (f" --port-offset {port_offset}" if port_offset else "")
    typer.echo(f"bring it up with: trade2026 up -f {file} --state-dir {result['to']}{options}")
