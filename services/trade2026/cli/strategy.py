"""Strategies: `strategy new`, `check`, `backtest`, `run`, `list`, `show`, `stop`, `halt`, `release`."""

import re
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trade2026.cli.output import (
    FAILED,
    UNREACHABLE,
    USAGE,
    AsJson,
    CliError,
    StatePath,
    print_json,
    print_table,
    show,
    show_fields,
    show_rows,
)
from trade2026.cli.target import Target, find, find_state

if TYPE_CHECKING:
    from trade2026.local.state import StateDir

app = typer.Typer(help="Write, check, run and stop strategies.", no_args_is_help=True, rich_markup_mode=None)

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?").fullmatch
_APPLY_SECONDS_MAX = 600.0
_BEGIN_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Running:
    """What a stack trades with, as its manifest has it.

    Args:
        base: Against which the files of its strategies are meant.
    """

    text: str
    base: str = "."

    @cached_property
    def specs(self) -> dict[str, dict[str, Any]]:
        """Of each strategy."""
        import yaml

        return {name: yaml.safe_load(part)["spec"] for name, part in _split(self.text) if name}

    @property
    def first_symbol(self) -> str:
        """Of its instruments: what a strategy trades that does not say."""
        from trade2026.stack.manifest import load_all

        return load_all(self.text).stack.spec.instruments[0].symbol

    def place_of(self, spec: dict[str, Any]) -> str:
        """The file or class that a strategy comes from."""
        source = spec["source"]
        return (
            str(Path(self.base, source["file"].partition(":")[0]).absolute()) if "file" in source else source["class"]
        )


StrategyName = Annotated[str, typer.Argument(help="The strategy's name.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Kept in the log.", show_default=False)]


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
    directory.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (directory / file).write_text(text)
    written = [str(directory / file) for file in files]
    module, test, manifest = written
    lines = [f"wrote {', '.join(written)}", f"test it:  python -m pytest --import-mode=prepend {test}"]
    lines += [f"check it: trade2026 strategy check {module}", f"run it:   trade2026 strategy run {manifest}"]
    show({"files": written}, as_json, "\n".join(lines))


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A strategy's source.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Say what in a strategy would break a replay: clocks, randomness, I/O, threads.

    Example: trade2026 strategy check dip.py
    """
    from trade2026.sdk import lint
    from trade2026.strategies.loading import NotLoadable, find_class

    place = Path(str(file).partition(":")[0])
    try:
        findings = lint.check(place.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{place} can't be read: {error}", USAGE) from error
    if findings:
        told = "\n".join(f"{place}: {finding}" for finding in findings)
        show({"ok": False, "findings": [{"line": f.line, "message": f.message} for f in findings]}, as_json, told)
        raise typer.Exit(FAILED)
    try:
        make, _ = find_class(file=str(file))
    except NotLoadable as error:
        raise CliError(str(error), FAILED) from error
    show({"ok": True, "strategy": make.__name__}, as_json, f"{place}: {make.__name__} is right")


@app.command()
def run(
    source: Annotated[str, typer.Argument(help="A manifest, a path.py[:Class], or module:Class.", show_default=False)],
    name: Annotated[str, typer.Option(help="Its name; that of the file if omitted.")] = "",
    symbol: Annotated[list[str] | None, typer.Option(help="What it trades; may be given again.")] = None,
    param: Annotated[list[str] | None, typer.Option("-p", "--param", help="name=value; may be given again.")] = None,
    account: Annotated[str, typer.Option(help="Account of its orders.")] = "",
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Run a strategy on a stack that is up, or run it anew, until the stack is brought up from its manifest again.

    Of one that runs already, what is not said stays as it is: symbols, parameters, account, ceilings.

    Examples:

    trade2026 strategy run dip.py --symbol BTCUSDT --param quantity=0.02

    trade2026 strategy run trade2026.sdk.examples.momentum:Momentum
    """
    state = find_state(state_dir)
    running = Running(_manifest_of(state), state.running().get("base", "."))
    documents = described(source, name, symbol or [], param or [], account, running)
    names = [document["metadata"]["name"] for document in documents]
    _apply(state, _with(running.text, documents, remove=set(names)))
    target = find(state.path)
    rows = [_begun(target, each) for each in names]
    if as_json:
        print_json({"strategies": rows})
    for row in rows:
        if row["status"] == "failed":
            raise CliError(f"{row['name']} has failed: {row['reason']}", FAILED)
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
        alone = "\n---\n".join(part for document_name, part in _split(stack) if not document_name)
        if not alone.strip():
            raise CliError(f"{file} has no TradingStack; leave -f out for a plain one", USAGE)
        documents = described(source, name, symbol or [], param or [], "", Running(alone))
        names = {document["metadata"]["name"] for document in documents}
        manifest = load_all(_with(stack, documents, remove=names))
        setup = setup_of(manifest, day, days=days)
        directory = out or Path(tempfile.mkdtemp(prefix="trade2026-backtest-"))
        summary = run_backtest(setup, directory)
    except (ManifestError, BacktestError, NotReproducible) as error:
        raise CliError(str(error), FAILED if isinstance(error, NotReproducible) else USAGE) from error
    if as_json:
        print_json({**summary, "directory": str(directory)})
        return
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


def described(
    source: str, name: str, symbols: list[str], params: list[str], account: str, running: Running
) -> list[dict[str, Any]]:
    """The `Strategy` documents that a command line means.

    What a command line does not say of a strategy that runs already stays as it is, its ceilings above all.

    Raises:
        CliError: one of this name runs from another source.
    """
    if source.endswith((".yaml", ".yml", ".json")):
        if name or symbols or params or account:
            raise CliError("what a manifest says is not said again: leave --name, --symbol, --param, --account", USAGE)
        return _from_manifest(Path(source))
    place, _, make = source.partition(":")
    is_file = place.endswith(".py")
    name = name or _name_of(Path(place).stem if is_file else place.rpartition(".")[2])
    before = running.specs.get(name)
    if before is not None and running.place_of(before) != (str(Path(place).absolute()) if is_file else source):
        raise CliError(
            f"{name!r} runs already, from {running.place_of(before)}; choose another --name, "
            f"or end it first: trade2026 strategy stop {name}",
            USAGE,
        )
    code = {"file": f"{Path(place).absolute()}:{make}".rstrip(":")} if is_file else {"class": source}
    spec: dict[str, Any] = {"symbols": [running.first_symbol], **(before or {}), "source": code}
    if symbols:
        spec["symbols"] = symbols
    if params:
        spec["parameters"] = dict(_parameter(text) for text in params)
    if account:
        spec["account"] = account
    return [{"apiVersion": "trade2026.io/v1alpha1", "kind": "Strategy", "metadata": {"name": name}, "spec": spec}]


def _name_of(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "strategy"


@app.command("list")
def list_(state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Show every strategy: how it is, what it holds, what it has earned.

    Example: trade2026 strategy list
    """
    try:
        answer = find(state_dir).call("strategies", "GET", "/strategies")
    except CliError as error:
        if error.exit_code != UNREACHABLE or not find_state(state_dir).is_locked:
            raise
        answer = {"strategies": []}  # the stack is up, and has no process for strategies
    if as_json:
        print_json(answer)
        return
    if not answer["strategies"]:
        typer.echo("no strategy runs; add one with: trade2026 strategy run FILE")
        return
    from trade2026.cli.table import strategies_table

    print_table(strategies_table(answer["strategies"]))


@app.command("show")
def show_(name: StrategyName, state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Show one strategy with its parameters, positions and open orders.

    Example: trade2026 strategy show momentum
    """
    answer = find(state_dir).call("strategies", "GET", f"/strategies/{name}")
    if as_json:
        print_json(answer)
        return
    show_fields({key: value for key, value in answer.items() if key not in ("orders", "positions", "position")})
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
    text = _manifest_of(state)
    if name not in _names(text):
        raise CliError(f"no strategy {name!r} runs here; running: {', '.join(_names(text)) or 'none'}", USAGE)
    _apply(state, _with(text, [], remove={name}))
    show({"stopped": name}, as_json, f"{name} is stopped; its position stays in its account")


@app.command()
def halt(name: StrategyName, reason: Reason, state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Let a strategy open nothing new until a named person releases it; its open orders go on working.

    Example: trade2026 strategy halt momentum --reason "news"
    """
    body = {"scope": f"strategy:{name}", "reason": reason, "halt": True}
    target = find(state_dir)
    answer = _first_of(target, "/kill", body)
    known = _is_known(target, name)
    told = f"{name} is halted; release it with: trade2026 strategy release {name} --reason …"
    if not known:
        told += f"\nno strategy {name!r} runs here: is the name right? The halt stands for when one does"
    show({"halted": name, "known": known, **answer}, as_json, told)


@app.command()
def release(name: StrategyName, reason: Reason, state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Let a strategy trade again that was halted, killed, or has failed.

    Example: trade2026 strategy release momentum --reason "reviewed"
    """
    target = find(state_dir)
    answer = _first_of(target, "/resume", {"scope": f"strategy:{name}", "reason": reason})
    told = f"{name} may trade again"
    known = _is_known(target, name)
    if not known:
        told = f"no strategy {name!r} runs here: is the name right? Whatever was halted under it may trade again"
    show({"released": name, "known": known, **answer}, as_json, told)


# ── the manifest of a running stack ─────────────────────────────────────────────────────────────────


def _first_of(target: Target, path: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = target.call("risk", "POST", path, body)
    except CliError as error:
        if error.exit_code != UNREACHABLE:
            raise
        answer = target.call("oms", "POST", path, body)
    return answer if isinstance(answer, dict) else {}


def _from_manifest(file: Path) -> list[dict[str, Any]]:
    from trade2026.stack.manifest import ManifestError, load_strategies, read

    try:
        found = load_strategies(read(file))
    except ManifestError as error:
        raise CliError(f"{file}:\n  " + "\n  ".join(map(str, error.faults)), USAGE) from error
    documents = [strategy.model_dump(mode="json", by_alias=True, exclude_defaults=True) for strategy in found]
    for document, strategy in zip(documents, found, strict=True):
        document |= {"apiVersion": strategy.api_version, "kind": strategy.kind}
        if path := strategy.spec.source.file:
            place, colon, name = path.partition(":")
            document["spec"]["source"]["file"] = f"{(file.parent / place).absolute()}{colon}{name}"
    return documents


def _parameter(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CliError(f"{text!r} is not written name=value, e.g. quantity=0.02", USAGE)
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise CliError(f"the value of {name} can't be read: {str(error).splitlines()[0]}", USAGE) from error
    return name, value if isinstance(read, float) else read


def _manifest_of(state: "StateDir") -> str:
    if not state.is_locked:
        raise CliError(f"{state.path.name} is not up; start it with `trade2026 up`", UNREACHABLE)
    return (state.path / "manifest.yaml").read_text("utf-8")


def _split(text: str) -> list[tuple[str, str]]:
    """The documents of a manifest as they are written, each with the strategy's name ("" for the stack)."""
    import yaml

    found: list[tuple[str, str]] = []
    for part in re.split(r"^---[ \t]*$", text, flags=re.MULTILINE):
        try:
            document = yaml.safe_load(part)
        except yaml.YAMLError as error:
            raise CliError(f"the manifest can't be read: {' '.join(str(error).split())}", USAGE) from error
        if isinstance(document, dict):
            is_strategy = document.get("kind") == "Strategy"
            found.append((_named(document) if is_strategy else "", part.strip("\n")))
    return found


def _named(document: dict[str, Any]) -> str:
    """A document's name; "" where it has none, which whoever reads the manifest complains of."""
    metadata = document.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def _names(text: str) -> list[str]:
    return [name for name, _ in _split(text) if name]


def _with(text: str, documents: list[dict[str, Any]], *, remove: set[str]) -> str:
    """A manifest with other strategies; what else is written there stays as it is."""
    import yaml

    parts = [part for name, part in _split(text) if name not in remove]
    parts += [yaml.safe_dump(document, sort_keys=False, allow_unicode=True).strip("\n") for document in documents]
    return "\n---\n".join(parts) + "\n"


def _apply(state: "StateDir", text: str) -> None:
    from trade2026.local.control import NotRunning, Refused, ask
    from trade2026.stack.manifest import ManifestError, load_all

    try:
        load_all(text)
    except ManifestError as error:
        told = [fault.message if not fault.path else f"{fault.path}: {fault.message}" for fault in error.faults]
        raise CliError("the strategy does not fit the stack:\n  " + "\n  ".join(told), USAGE) from error
    base = state.running().get("base", str(Path().absolute()))
    try:
        ask(state, "apply", timeout_seconds=_APPLY_SECONDS_MAX, manifest=text, base=base)
    except NotRunning as error:
        raise CliError(str(error), UNREACHABLE) from error
    except Refused as error:
        raise CliError(str(error), FAILED) from error


def _is_known(target: Target, name: str) -> bool:
    """Whether a strategy of this name runs; True where nobody can say."""
    try:
        target.call("strategies", "GET", f"/strategies/{name}")
    except CliError as error:
        return (error.problem or {}).get("code") != "unknown_strategy"
    return True


def _begun(target: Target, name: str) -> dict[str, Any]:
    """How a strategy is once it has begun, or failed to."""
    deadline = time.monotonic() + _BEGIN_SECONDS_MAX
    while True:
        row: dict[str, Any] = target.call("strategies", "GET", f"/strategies/{name}")
        if row["status"] != "starting" or time.monotonic() > deadline:
            return row
        time.sleep(0.1)
