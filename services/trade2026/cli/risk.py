"""Limits and the kill switch: `limits`, `kill`, `resume`."""

import json
import re
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from trade2026.cli import completion
from trade2026.cli.names import stranger
from trade2026.cli.output import (
    REFUSED,
    UNREACHABLE,
    AsJson,
    CliError,
    Reason,
    StatePath,
    print_json,
    show,
    show_rows,
    warn,
)
from trade2026.cli.target import Target, find

limits = typer.Typer(help="Limits: show, tighten, slices.", invoke_without_command=True, rich_markup_mode=None)

Scope = Annotated[
    str,
    typer.Option(
        help="stack, account:NAME, strategy:NAME, instrument:SYMBOL.VENUE, venue:NAME, trader:NAME, desk:NAME, client:NAME.",
        autocompletion=completion.scopes,
    ),
]
_KILL_PATH = ("risk", "oms", "gateway")
"""Who can kill, in the order in which they are asked."""
_SEEN_SECONDS_MAX = 2.0


@limits.callback()
def default(context: typer.Context, state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Show the limits in force, or tighten them for a time."""
    if context.invoked_subcommand is None:
        show_limits(state_dir, as_json)


@limits.command("show")
def show_limits(state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Show the limits in force.

    Example: trade2026 limits show --json
    """
    answer = find(state_dir).call("risk", "GET", "/limits")
    if as_json:
        print_json(answer)
        return
    rows = [row for scope, limits in answer["limits"].items() for row in _rows(scope, limits)]
    show_rows(rows, {"scope": "SCOPE", "limit": "LIMIT", "value": ">VALUE"}, "no limits")
    for each in answer.get("tightened", []):
        until = f"until {each['until']}" if each.get("until") else "until the manifest changes"
        typer.echo(
            f"\ntightened by {each['by']}, {until}: {each['scope']} {json.dumps(each['limits'])}, {each['reason']}"
        )
    typer.echo(f"\nversion {answer['version']}")


def _rows(scope: str, limits: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A line a limit; a scope without limits of its own has none."""
    for name, value in limits.items():
        if not isinstance(value, dict):
            yield {"scope": scope, "limit": name, "value": value}
        elif "per_ns" in value:
            yield {"scope": scope, "limit": name, "value": f"{value['count']} per {value['per_ns'] / 1e9:g} s"}
        else:
            yield from _rows(f"{scope}:{name}", value)


@limits.command(no_args_is_help=True)
def tighten(
    values: Annotated[
        list[str],
        typer.Argument(
            help="name=value, e.g. max_order_value=10000 or price_collar=2%.", autocompletion=completion.limit_names
        ),
    ],
    reason: Reason,
    scope: Scope = "stack",
    until: Annotated[
        str | None,
        typer.Option(help="When it ends, e.g. 2030-01-31T16:00:00Z; until the manifest changes that limit if omitted."),
    ] = None,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Make limits tighter for a time; they are never made wider here, only in the manifest.

    Example: trade2026 limits tighten max_order_value=10000 --scope account:main --reason "thin market"
    """
    body: dict[str, Any] = {"scope": scope, "limits": dict(map(_limit, values)), "reason": reason}
    if until is not None:
        body["until"] = until
    answer = find(state_dir).call("risk", "POST", "/limits/tighten", body)
    warn(answer.get("warnings", []))
    show(answer, as_json, f"{scope}: tightened {', '.join(body['limits'])}")


@limits.command("slices")
def show_slices(state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Show how limits that span partitions are shared out among them, and what each partition uses.

    Example: trade2026 limits slices
    """
    answer = find(state_dir).call("risk", "GET", "/slices")
    if as_json:
        print_json(answer)
        return
    rows = [
        {**limit, "partition": str(part["partition"]), "slice": part["slice"], "used": part["used"]}
        for limit in answer["limits"]
        for part in limit["slices"]
    ]
    columns = {"scope": "SCOPE", "limit": "LIMIT", "whole": ">WHOLE", "partition": ">PARTITION", "slice": ">SLICE"}
    one = "this stack has one partition: every limit is whole there"
    show_rows(rows, {**columns, "used": ">USED"}, "no limit spans partitions" if answer["partitions"] > 1 else one)


def _limit(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise typer.BadParameter(f"{text!r} is not written name=value, e.g. max_order_value=10000")
    name = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name.strip()).lower()
    if name in ("allowed_instruments", "allowed_venues", "restricted"):
        return name, [item.strip() for item in value.split(",") if item.strip()]
    if name in ("order_rate", "max_executions"):
        count, _, per = value.partition("/")
        if not count.isdigit():
            raise typer.BadParameter(f"{name} is written count/duration, e.g. {name}=10/1s")
        return name, {"count": int(count), "per": per or "1s"}
    return name, int(value) if name == "max_open_orders" and value.isdigit() else value


def kill(
    reason: Reason,
    scope: Scope = "stack",
    halt: Annotated[bool, typer.Option("--halt", help="Refuse new orders, but let the open ones work.")] = False,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Stop trading in a scope and cancel what is open there, until a named person resumes it.

    Asks the risk service, then the OMS, then the venue itself, until one has done it.

    Example: trade2026 kill --scope strategy:mm --reason "runs away"
    """
    target = find(state_dir)
    body: dict[str, Any] = {"scope": scope, "reason": reason, **({"halt": True} if halt else {})}
    failures: list[str] = []
    for service in _KILL_PATH:
        try:
            answer = target.call(service, "POST", "/kill", body)
        except CliError as error:
            status = (error.problem or {}).get("status", 503)
            if error.exit_code != UNREACHABLE and status in (401, 403, 422):
                raise
            failures.append(f"{service}: {error}")
            continue
        answer = answer if isinstance(answer, dict) else {}
        unknown = stranger(target, scope)
        told = _killed(scope, service, halt, [*failures, *([unknown] if unknown else [])])
        show({**answer, "by": service, "failures": failures, "known": not unknown}, as_json, told)
        return
    raise CliError("nobody could be reached to kill:\n  " + "\n  ".join(failures), UNREACHABLE)


def _killed(scope: str, service: str, halt: bool, failures: list[str]) -> str:
    lines = [f"{scope} is {'halted' if halt else 'killed'} (by {service})", *(f"  {failure}" for failure in failures)]
    return "\n".join([*lines, f"release it with: trade2026 resume --scope {scope} --reason …"])


def resume(
    reason: Reason,
    scope: Scope = "stack",
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Release a kill or a halt.

    Example: trade2026 resume --scope strategy:mm --reason "fixed and reviewed"
    """
    target = find(state_dir)
    body = {"scope": scope, "reason": reason}
    by, failures = "risk", list[str]()
    was_stopped = is_stopped(target, scope)
    try:
        answer = target.call("risk", "POST", "/resume", body)
    except CliError as error:
        if error.exit_code == REFUSED:
            raise
        by = "oms"
        failures.append(f"risk: {error}")
        answer = target.call("oms", "POST", "/resume", body)
    holding: list[dict[str, Any]] | None = None
    try:
        holding = _stops_after_release(target, scope)
    except CliError as error:
        failures.append(f"what else is stopped is not known: {error}")
    told = {**answer, "by": by, "was_stopped": was_stopped, "still_stopped": holding, "failures": failures}
    text = _released(scope, by, holding, failures)
    if was_stopped is False:
        text = "\n".join([f"{scope} was not stopped: nothing is released", *filter(None, [stranger(target, scope)])])
    show(told, as_json, text)


def is_stopped(target: Target, scope: str) -> bool | None:
    """Whether a scope is killed or halted; None if nobody can say."""
    try:
        stops = [stop["scope"] for stop in target.call("risk", "GET", "/killed")["killed"]]
    except CliError:
        return None
    # An instrument is stopped under its full id, whose venue need not be given.
    return scope in stops or (scope.startswith("instrument:") and any(stop.startswith(f"{scope}.") for stop in stops))


def _stops_after_release(target: Target, scope: str) -> list[dict[str, Any]]:
    """What is still stopped, once the risk service knows of the release.

    Raises:
        CliError: it can't be asked.
    """
    deadline = time.monotonic() + _SEEN_SECONDS_MAX
    while True:
        stops: list[dict[str, Any]] = target.call("risk", "GET", "/killed")["killed"]
        if all(stop["scope"] != scope for stop in stops) or time.monotonic() > deadline:
            return [stop for stop in stops if stop["scope"] != scope]
        time.sleep(0.02)


def _released(scope: str, by: str, holding: list[dict[str, Any]] | None, failures: list[str]) -> str:
    """What a person is told: a stop of the stack holds everything, the others hold what they name."""
    if holding is None:
        return "\n".join(
            [
                f"{scope} is released (by {by}), and may trade where it is not stopped otherwise",
                *(f"  {failure}" for failure in failures),
            ]
        )
    if any(stop["scope"] == "stack" for stop in holding):
        lines = [f"{scope} is released, but may not trade yet: the stack is stopped"]
    else:
        lines = [f"{scope} may trade again", *(["but not where it is stopped otherwise:"] if holding else [])]
    for stop in holding:
        what = "halted" if stop["halt"] else "killed"
        lines.append(f"  {stop['scope']} is {what} (by {stop['by']}: {stop['reason']})")
    return "\n".join(lines)
