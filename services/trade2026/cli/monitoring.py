"""The watch over a stack: how every service is, and the same watch for Prometheus and Grafana."""

from pathlib import Path
from typing import Annotated, Any

import typer

from trade2026.cli.output import FAILED, AsJson, CliError, StatePath, print_json, show_rows
from trade2026.cli.target import find

app = typer.Typer(
    help="Health and service levels: show, rules, dashboards.", no_args_is_help=True, rich_markup_mode=None
)

_SERVICE = "monitoring"
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where to; standard output if omitted.")]


@app.command()
def show(
    incidents: Annotated[int, typer.Option(help="How many incidents, newest first.")] = 5,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Show what is wrong and since when, error budgets, and the newest incidents.

    Example: trade2026 monitoring show
    """
    target = find(state_dir)
    found: dict[str, Any] = {}
    for path in ("/services", "/slos", "/alerts"):
        found |= target.call(_SERVICE, "GET", path)
    found |= target.call(_SERVICE, "GET", "/incidents", query={"limit": max(1, incidents)})
    if as_json:
        print_json(found)
        return
    show_rows(
        found["alerts"], {"severity": "ALERT", "service": "SERVICE", "what": "WHAT", "since": "SINCE"}, "no alerts"
    )
    typer.echo()
    rows = [_row(service, found["slos"]) for service in found["services"]]
    columns = {
        "service": "SERVICE",
        "state": "STATE",
        "latency": ">LATENCY BUDGET",
        "latency_burn": ">BURNS 1 H",
        "answers": ">ANSWERS BUDGET",
        "answers_burn": ">BURNS 1 H",
        "why": "WHY",
    }
    show_rows(rows, columns, "nothing is planned")
    typer.echo()
    newest = found["incidents"][:incidents]
    heads = {
        "id": ">INCIDENT",
        "severity": "SEVERITY",
        "service": "SERVICE",
        "began": "BEGAN",
        "ended": "ENDED",
        "why": "WHY",
    }
    show_rows(newest, heads, "no incidents")


def _row(service: dict[str, Any], slos: list[dict[str, Any]]) -> dict[str, Any]:
    unwell = "; ".join(f"{check}: {detail}" for check, detail in service["unwell"].items())
    state = "not ready" if not service["ready"] else "unwell" if unwell else "well"
    row = {"service": service["service"], "state": state, "why": service["detail"] or unwell}
    for slo in slos:
        if slo["service"] == service["service"]:
            row[slo["slo"]] = f"{slo['budget_left']:.1%}" if slo["requests"] else "–"
            row[f"{slo['slo']}_burn"] = f"{slo['burn']['3600']:.1f}"
    return row


@app.command()
def rules(
    out: Out = None,
    as_json: AsJson = False,
    operator: Annotated[bool, typer.Option("--operator", help="Alerts on the operator of a cluster, instead.")] = False,
) -> None:
    """Write Prometheus rules with the objectives of every service: burn rates, and alerts on them.

    Example: trade2026 monitoring rules --out trade2026.rules.yaml
    """
    from trade2026.monitoring import files

    if operator:
        _write(out, files.operator_rules_json() if as_json else files.operator_rules_yaml())
    else:
        _write(out, files.rules_json() if as_json else files.rules_yaml())


@app.command()
def dashboards(out: Out = None, as_json: AsJson = False) -> None:
    """Write a Grafana dashboard, which is JSON in any case.

    Example: trade2026 monitoring dashboards --out trade2026.json
    """
    from trade2026.monitoring.files import dashboard_json

    _write(out, dashboard_json())


def _write(out: Path | None, text: str) -> None:
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text)
    except OSError as error:
        raise CliError(f"{out} can't be written: {error.strerror}", FAILED) from error
    typer.echo(f"wrote {out}", err=True)
