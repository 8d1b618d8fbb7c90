"""Ask the time series: `query`."""

from typing import Annotated, Any

import typer

from trade2026.cli.output import USAGE, AsJson, CliError, StatePath, print_json, show_rows
from trade2026.cli.target import find

_SERVICE = "questdb"
"""The port that speaks as QuestDB does."""
_NUMBERS = ("DOUBLE", "FLOAT", "LONG", "INT", "SHORT", "BYTE")


def query(
    sql: Annotated[str, typer.Argument(help="One SELECT in QuestDB's SQL.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Ask the time series: ticks, quotes, bars, orders, fills, positions, pnl, risk_events, metrics.

    SAMPLE BY, LATEST ON and everything that DuckDB has in a SELECT is understood; SHOW TABLES lists the tables.

    Example: trade2026 query "SELECT symbol, count(), last(price) FROM ticks"
    """
    if as_csv and as_json:
        raise CliError("--csv and --json exclude each other", USAGE)
    target = find(state_dir)
    try:
        answer: Any = target.call(_SERVICE, "GET", "/exp" if as_csv else "/exec", query={"query": sql})
    except CliError as error:
        raise _explained(error, sql) from error
    if as_csv:
        typer.echo(str(answer).replace("\r\n", "\n"), nl=False)
    elif as_json:
        print_json(answer)
    else:
        _show(answer)


def _show(answer: dict[str, Any]) -> None:
    headings = {
        str(place): (">" if column["type"] in _NUMBERS else "") + column["name"]
        for place, column in enumerate(answer["columns"])
    }
    rows = [{str(place): value for place, value in enumerate(row)} for row in answer["dataset"]]
    show_rows(rows, headings, "no rows")


def _explained(error: CliError, sql: str) -> CliError:
    """What is wrong with a query, and where in it."""
    body = error.problem or {}
    if "error" not in body:
        return error
    position = int(body.get("position", 0))
    line_start = sql.rfind("\n", 0, position) + 1
    line = sql[line_start:].partition("\n")[0]
    return CliError(
        f"{body['error']}\n  {line}\n  {' ' * (position - line_start)}^", error.exit_code, {"code": "bad_query"}
    )
