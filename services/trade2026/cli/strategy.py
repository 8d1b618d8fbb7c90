"""Strategies: `strategy new`, `check`, `backtest`, `run`, `list`, `show`, `stop`, `halt`, `release`."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trade2026.cli import completion, strategy_states
from trade2026.cli.definitions import (
    Running,
    described,
    manifest_of,
    names_of,
    refuse_what_cannot_run,
    split,
    with_documents,
)
from trade2026.cli.names import stranger
from trade2026.cli.output import (
    FAILED,
    STRATEGY_FAILED,
    UNREACHABLE,
    USAGE,
    AsJson,
    CliError,
    Reason,
    StatePath,
    print_json,
    print_table,
    show,
    show_fields,
    show_rows,
)
from trade2026.cli.risk import is_stopped
from trade2026.cli.target import Target, find, find_state, path_to

if TYPE_CHECKING:
    from trade2026.local.state import StateDir

app = typer.Typer(help="Write, check, run and stop strategies.", no_args_is_help=True, rich_markup_mode=None)

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?").fullmatch
_APPLY_SECONDS_MAX = 600.0


StrategyName = Annotated[
    str, typer.Argument(help="The strategy's name.", show_default=False, autocompletion=completion.strategies)
]


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and dashes.", show_default=False)],
    directory: Annotated[Path, typer.Option("--dir", help="Where the files are written.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Write a strategy that works, its test and its manifest, to begin with.

    Example: trade2026 strategy new dip
    """
    from trade2026.sdk import template

    if not _NAME(name):
        raise CliError(f"{name!r} is no name: use up to 40 lower-case letters, digits and dashes", USAGE)
    files = template.files(name)
    for file in files:
        if (directory / file).exists():
            raise CliError(f"{directory / file} is there already; choose another name", USAGE)
    _make_directory("--dir", directory)
    for file, text in files.items():
        (directory / file).write_text(text)
    written = [str(directory / file) for file in files]
    module, test, manifest = written
    lines = [f"wrote {', '.join(written)}", f"test it:  python -m pytest --import-mode=prepend {test}"]
    lines += [f"check it: trade2026 strategy check {module}", f"run it:   trade2026 strategy run {manifest}"]
    show({"files": written}, as_json, "\n".join(lines))


def _make_directory(option: str, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        why = "" if os.access(directory, os.W_OK) else "it can't be written to"
    except OSError as error:
        why = "it is a file" if directory.is_file() else str(error.strerror)
    if why:
        raise CliError(f"{option} {directory} can't be used: {why}; name a directory that you may write to", USAGE)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A strategy's source.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Say what in a strategy would break a replay (clocks, randomness, I/O, threads), and which methods nobody calls.

    Example: trade2026 strategy check dip.py
    """
    from trade2026.sdk import lint
    from trade2026.strategies.loading import NotLoadable, find_class

    place = Path(str(file).partition(":")[0])
    try:
        findings = lint.check(place.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{place} can't be read: {error}", USAGE) from error
    make = None
    try:
        if not findings:
            make, source = find_class(file=str(file))
            findings = lint.doubts(make, source.decode())
    except NotLoadable as error:
        raise CliError(str(error), FAILED) from error
    if findings or make is None:
        told = "\n".join(f"{place}: {finding}" for finding in findings)
        show({"ok": False, "findings": [{"line": f.line, "message": f.message} for f in findings]}, as_json, told)
        raise typer.Exit(FAILED)
    show({"ok": True, "strategy": make.__name__}, as_json, f"{place}: {make.__name__} is right")


@app.command()
def run(
    source: Annotated[str, typer.Argument(help="A manifest, a path.py[:Class], or module:Class.", show_default=False)],
    name: Annotated[str, typer.Option(help="Its name; that of the file if omitted.")] = "",
    symbol: Annotated[
        list[str] | None,
        typer.Option(help="What it trades; may be given again.", autocompletion=completion.symbols),
    ] = None,
    param: Annotated[list[str] | None, typer.Option("-p", "--param", help="name=value; may be given again.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Begin with the class's own parameters again.")] = False,
    account: Annotated[str, typer.Option(help="Account of its orders.", autocompletion=completion.accounts)] = "",
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Run a strategy on a stack that is up, or run it anew, until the stack is brought up from its manifest again.

    Of one that runs already, what is not said stays as it is: symbols, each parameter, account, ceilings. What can't
    run is refused before anything changes.

    Examples:

    trade2026 strategy run dip.py --symbol BTCUSDT --param quantity=0.02

    trade2026 strategy run dip.py --reset --param trades=30

    trade2026 strategy run trade2026.sdk.examples.momentum:Momentum
    """
    state = find_state(state_dir)
    running = Running(manifest_of(state), state.running().get("base", "."))
    documents = described(source, name, symbol or [], param or [], account, running, reset=reset)
    names = [document["metadata"]["name"] for document in documents]
    text = with_documents(running.text, documents, remove=set(names))
    refuse_what_cannot_run(Running(text, running.base), names)
    _apply(state, text)
    target = find(state.path)
    rows = [strategy_states.begun(target, each) for each in names]
    if as_json:
        print_json({"strategies": rows})
    for row in rows:
        if row["status"] == "failed":
            raise CliError(f"{row['name']} has failed: {row['reason']}", STRATEGY_FAILED)
        if not as_json:
            typer.echo(f"{row['name']} is {row['status']}: {', '.join(row['symbols'])} in account {row['account']}")


@app.command()
def backtest(
    source: Annotated[str, typer.Argument(help="A manifest, a path.py[:Class], or module:Class.", show_default=False)],
    day: Annotated[str, typer.Option(help="First day, UTC: 2013-11-25 to 2013-12-01 are recorded.")] = "2013-11-26",
    days: Annotated[int, typer.Option(min=1, help="How many days.")] = 1,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", help="The stack's manifest; a plain one if omitted.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where every event and the summary go.", show_default=False)
    ] = None,
    name: Annotated[str, typer.Option(help="Its name; that of the file if omitted.")] = "",
    symbol: Annotated[list[str] | None, typer.Option(help="What it trades; may be given again.")] = None,
    param: Annotated[list[str] | None, typer.Option("-p", "--param", help="name=value; may be given again.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run strategies over recorded days, on the whole stack in this process; the same bytes in every run.

    Interrupted, the same command goes on with it.

    Example: trade2026 strategy backtest dip.py --day 2013-11-27
    """
    import tempfile

    from trade2026.backtest.run import BacktestError, NotReproducible, setup_of
    from trade2026.backtest.run import run as run_backtest
    from trade2026.stack.manifest import ManifestError, load_all
    from trade2026.stack.manifest import read as read_text

    try:
        stack = read_text(file) if file is not None else _PLAIN_STACK
        alone = "\n---\n".join(part for document_name, part in split(stack) if not document_name)
        if not alone.strip():
            raise CliError(f"{file} has no TradingStack; leave -f out for a plain one", USAGE)
        documents = described(source, name, symbol or [], param or [], "", Running(alone))
        names = {document["metadata"]["name"] for document in documents}
        manifest = load_all(with_documents(stack, documents, remove=names))
        setup = setup_of(manifest, day, days=days)
        directory = out or Path(tempfile.mkdtemp(prefix="trade2026-backtest-"))
        _make_directory("--out", directory)
        summary = run_backtest(setup, directory)
    except (ManifestError, BacktestError, NotReproducible) as error:
        raise CliError(str(error), FAILED if isinstance(error, NotReproducible) else USAGE) from error
    if as_json:
        print_json({**summary, "directory": str(directory)})
    else:
        _show_backtest(summary, directory)
    failed = {each: row["reason"] for each, row in summary["strategies"].items() if row["status"] == "failed"}
    if failed:
        told = "; ".join(f"{each} has failed: {str(why).partition(chr(10))[0]}" for each, why in failed.items())
        raise CliError(f"{told}; what is shown ends there", STRATEGY_FAILED)


def _show_backtest(summary: dict[str, Any], directory: Path) -> None:
    rows = [
        {"name": each, **row, "position": ", ".join(f"{q} {s}" for s, q in row["position"].items())}
        for each, row in summary["strategies"].items()
    ]
    columns = {"name": "STRATEGY", "decisions": ">DECISIONS", "fills": ">FILLS", "position": "POSITION"}
    show_rows(rows, {**columns, "fees": ">FEES", "pnl": ">P&L", "reason": "REASON"}, "nothing")
    typer.echo(f"\n{summary['trades']} trades until {summary['end']}; every event is in {directory}")


_PLAIN_STACK = """\
apiVersion: trade2026.io/v1alpha1
kind: TradingStack
metadata: {name: backtest}
spec:
  venues:
    - {name: SIM, type: replay, config: {scale: 56}}
  instruments:
    - {symbol: BTCUSDT, venue: SIM, tickSize: "0.01", lotSize: "0.00001"}
"""


@app.command("list")
def list_(state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Show every strategy: how it is, what it holds, what it has earned.

    Example: trade2026 strategy list
    """
    found = strategy_states.rows(find(state_dir))
    if as_json:
        print_json({"strategies": found})
        return
    if not found:
        typer.echo("no strategy runs; add one with: trade2026 strategy run FILE")
        return
    from trade2026.cli.table import strategies_table

    print_table(strategies_table(found))


@app.command("show")
def show_(name: StrategyName, state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Show one strategy with its parameters, positions and open orders.

    Example: trade2026 strategy show momentum
    """
    answer = find(state_dir).call("strategies", "GET", path_to("strategies", name))
    if as_json:
        print_json(answer)
        return
    parameters = {**answer["parameters"], **{k: f"{v} (default)" for k, v in answer.get("defaults", {}).items()}}
    answer["parameters"] = ", ".join(f"{name}={value}" for name, value in parameters.items())
    left_out = ("orders", "positions", "position", "defaults")
    show_fields({key: value for key, value in answer.items() if key not in left_out})
    for table in ("positions", "orders"):
        if rows := answer[table]:
            typer.echo(f"\n{table}")
            show_rows(rows, {key: key.replace("_", " ").upper() for key in rows[0]}, "")


@app.command()
def stop(name: StrategyName, state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """End a strategy in order: it cancels its orders. Its position stays.

    Example: trade2026 strategy stop momentum
    """
    state = find_state(state_dir)
    text = manifest_of(state)
    if name not in names_of(text):
        raise CliError(f"no strategy {name!r} runs here; running: {', '.join(names_of(text)) or 'none'}", USAGE)
    _apply(state, with_documents(text, [], remove={name}))
    show({"stopped": name}, as_json, f"{name} is stopped; its position stays in its account")


@app.command()
def halt(name: StrategyName, reason: Reason, state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Let a strategy open nothing new until a named person releases it; its open orders go on working.

    Example: trade2026 strategy halt momentum --reason "news"
    """
    scope = f"strategy:{name}"
    target = find(state_dir)
    answer = _first_of(target, "/kill", {"scope": scope, "reason": reason, "halt": True})
    told = f"{name} is halted; release it with: trade2026 strategy release {name} --reason …"
    if unknown := stranger(target, scope):
        told += f"\n{unknown}\nThe halt stands for when there is one"
    show({"halted": name, "known": not unknown, **answer}, as_json, told)


@app.command()
def release(name: StrategyName, reason: Reason, state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Let a strategy trade again that was halted, killed, or has failed.

    Example: trade2026 strategy release momentum --reason "reviewed"
    """
    scope = f"strategy:{name}"
    target = find(state_dir)
    before, was_stopped = strategy_states.row_of(target, name), is_stopped(target, scope)
    answer = _first_of(target, "/resume", {"scope": scope, "reason": reason})
    told, unknown, after = f"{name} may trade again", "", None
    if before is not None:
        after = strategy_states.released(target, name, had_failed=before["status"] == "failed")
    if before is not None and after is not None:
        told = strategy_states.told_of_release(name, before, after, was_stopped=was_stopped is not False)
    elif unknown := stranger(target, scope):
        told = f"what was halted as {name} may trade again\n{unknown}"
    elif was_stopped is False:
        told = f"{name} was not halted"
    status = None if after is None else after["status"]
    show({"released": name, "known": not unknown, "status": status, **answer}, as_json, told)


# ── the manifest of a running stack ─────────────────────────────────────────────────────────────────


def _first_of(target: Target, path: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = target.call("risk", "POST", path, body)
    except CliError as error:
        if error.exit_code != UNREACHABLE:
            raise
        answer = target.call("oms", "POST", path, body)
    return answer if isinstance(answer, dict) else {}


def _apply(state: "StateDir", text: str) -> None:
    from trade2026.local.control import NotRunning, Refused, ask

    base = state.running().get("base", str(Path().absolute()))
    try:
        ask(state, "apply", timeout_seconds=_APPLY_SECONDS_MAX, manifest=text, base=base)
    except NotRunning as error:
        raise CliError(str(error), UNREACHABLE) from error
    except Refused as error:
        raise CliError(str(error), FAILED) from error
