"""The audit log: who did what, whether it was changed since, and a copy to keep elsewhere."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trade2026.cli import completion
from trade2026.cli.output import FAILED, USAGE, AsJson, CliError, StatePath, print_json, show, show_rows
from trade2026.cli.target import find, find_state

if TYPE_CHECKING:
    from trade2026.local.state import StateDir
    from trade2026.logger.checking import Report
    from trade2026.logger.machine import Checkpoint

app = typer.Typer(help="The audit log: search, verify, export.", no_args_is_help=True, rich_markup_mode=None)

_SERVICE = "logger"


@app.command()
def search(
    text: Annotated[str | None, typer.Argument(help="Only with this text.", show_default=False)] = None,
    order: Annotated[
        str | None, typer.Option(help="About this order or parent order.", autocompletion=completion.order_ids)
    ] = None,
    account: Annotated[str | None, typer.Option(help="Of this account.", autocompletion=completion.accounts)] = None,
    principal: Annotated[str | None, typer.Option(help="What this one did.")] = None,
    trace: Annotated[str | None, typer.Option(help="Of this trace.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="This type of event, such as LimitsChanged.")] = None,
    begin: Annotated[str | None, typer.Option("--from", help="A time, such as 2026-01-31T09:30:00Z.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="A time that is not in it.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 20,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Show records of the audit log, newest first.

    Example: trade2026 audit search --type ManifestApplied
    """
    query: dict[str, Any] = {
        "text": text,
        "order_id": order,
        "account": account,
        "principal": principal,
        "trace_id": trace,
        "type": kind,
        "from": begin,
        "to": end,
        "limit": limit,
    }
    target, found = find(state_dir), []
    while len(found) < limit:
        answer = target.call(_SERVICE, "GET", "/records", query=query)
        found += answer["records"]
        if answer["cursor"] is None:
            break
        query["cursor"] = answer["cursor"]
    if as_json:
        print_json(found[:limit])
        return
    columns = {"n": ">N", "time": "TIME", "principal": "WHO", "type": "WHAT", "subject": "ABOUT", "what": "IN WORDS"}
    show_rows(found[:limit], columns, "no records")


@app.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="An exported file; the stack's own audit log if omitted.", show_default=False)
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="Trust only this public key (PEM), not those that the audit log names.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="An earlier export, or checkpoints that were kept elsewhere: they must fit.")
    ] = None,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Say whether any record was changed, removed, inserted or put elsewhere, and which.

    Works while the stack runs, after it was stopped, and on an exported file. Exit code 1 if anything is wrong.

    Examples:

    trade2026 audit verify

    trade2026 audit verify audit.jsonl --public-key logger.pem
    """
    keys, others = _trusted(public_key), _kept(against)
    if file is not None:
        report = _verify_file(file, keys, others)
    else:
        report = _verify_state(find_state(state_dir), keys, others)
    from trade2026.logger import checking

    show(checking.as_json(report), as_json, _in_words(report))
    if report.faults:
        raise CliError("the audit log is not as it was written", FAILED)


def _in_words(report: "Report") -> str:
    lines = [f"{fault.what}" for fault in report.faults]
    source = "" if report.events is None else f", compared with {report.events:,} events of the log"
    since = f"from {report.base:,} to {report.end - 1:,}" if report.end > report.base else "none"
    lines.append(f"{report.end - report.base:,} records ({since}){source}")
    by = f" by key {', '.join(report.keys)}" if report.keys else ""
    lines.append(f"signed up to record {report.signed_to - 1:,}{by}" if report.signed_to else "nothing is signed yet")
    if not report.faults:
        lines.append("nothing was changed")
    return "\n".join(lines)


@app.command()
def export(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to; standard output if omitted.", show_default=False)
    ] = None,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Write the whole audit log as lines of JSON that `trade2026 audit verify` checks anywhere.

    Example: trade2026 audit export --out audit.jsonl
    """
    state = find_state(state_dir)
    if state.is_locked:
        find(state.path).call(_SERVICE, "POST", "/checkpoints")  # so that all of it is signed
    from trade2026.logger import checking

    reader, written = _reader(state), 0
    try:
        with nullcontext(sys.stdout.buffer) if out is None else out.open("wb") as file:
            for line in checking.export(reader):
                written += file.write(line + b"\n")
            file.flush()
    except OSError as error:
        raise CliError(f"{out} can't be written: {error.strerror}", FAILED) from error
    finally:
        reader.close()
    if out is not None:
        show({"file": str(out), "bytes": written}, as_json, f"{out} has everything up to now")


def _reader(state: "StateDir") -> Any:
    try:
        from trade2026.logger.service import DATABASE
        from trade2026.logger.store import AuditReader

        return AuditReader(state.path / "audit" / DATABASE)
    except FileNotFoundError as error:
        raise CliError(f"{state.path} has no audit log", FAILED) from error


def _verify_state(state: "StateDir", keys: dict[str, str] | None, others: "list[Checkpoint]") -> "Report":
    import asyncio
    import sqlite3

    from trade2026.cli.log import open_bus
    from trade2026.kit.bus.port import BusError

    checking = _checking()
    reader = _reader(state)

    async def check() -> "Report":
        bus = open_bus(state)
        try:
            stack = state.running().get("stack", "")
            return await checking.verify_store(
                reader, bus, running=state.is_locked, stack=stack, keys=keys, others=others
            )
        finally:
            await bus.close()

    try:
        return asyncio.run(check())
    except (BusError, sqlite3.Error) as error:
        raise CliError(f"the audit log can't be read: {error}", FAILED) from error
    finally:
        reader.close()


def _verify_file(file: Path, keys: dict[str, str] | None, others: "list[Checkpoint]") -> "Report":
    checking = _checking()
    try:
        return checking.verify_file(checking.read_lines(file), keys, others)
    except OSError as error:
        raise CliError(f"{file} can't be read: {error.strerror}", USAGE) from error
    except ValueError as error:
        raise CliError(f"{file}: {error}", FAILED) from error


def _checking() -> Any:
    try:
        from trade2026.logger import checking
    except ImportError as error:
        raise CliError(
            f"signatures are checked with a package that is missing ({error.name}): `pip install trade2026[data]`",
            FAILED,
        ) from error
    return checking


def _trusted(public_key: Path | None) -> dict[str, str] | None:
    if public_key is None:
        return None
    _checking()
    from trade2026.logger.signing import KeyUnusable, fingerprint, public_of

    try:
        public = public_of(public_key)
    except KeyUnusable as error:
        raise CliError(str(error), USAGE) from error
    return {fingerprint(bytes.fromhex(public)): public}


def _kept(against: Path | None) -> "list[Checkpoint]":
    if against is None:
        return []
    checking = _checking()
    try:
        found = checking.checkpoints_in(checking.read_lines(against))
    except OSError as error:
        raise CliError(f"{against} can't be read: {error.strerror}", USAGE) from error
    if not found:
        raise CliError(f"{against} has no checkpoints", USAGE)
    return found
