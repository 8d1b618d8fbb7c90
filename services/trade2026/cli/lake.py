"""The lake of market data: its tables, questions to them, and their upkeep."""

from typing import Annotated, Any

import typer

from trade2026.cli import completion
from trade2026.cli.output import AsJson, StatePath, print_json, show_rows
from trade2026.cli.target import find, path_to

app = typer.Typer(help="Market data in the lake: tables, query, optimize.", no_args_is_help=True, rich_markup_mode=None)

_SERVICE = "sink-ticks"
_TABLES = ("ticks", "books", "bars")
_OPTIMIZE_SECONDS_MAX = 3_600.0
_COLUMNS: dict[str, dict[str, str]] = {
    "ticks": {"price": ">PRICE", "quantity": ">QUANTITY", "aggressor": "AGGRESSOR", "trade_id": "TRADE"},
    "books": {"bid": ">BID", "bid_quantity": ">QUANTITY", "ask": ">ASK", "ask_quantity": ">QUANTITY"},
    "bars": {
        "interval": "INTERVAL",
        "open": ">OPEN",
        "high": ">HIGH",
        "low": ">LOW",
        "close": ">CLOSE",
        "volume": ">VOLUME",
        "trades": ">TRADES",
    },
}

Table = Annotated[
    str, typer.Argument(help=f"{', '.join(_TABLES[:-1])} or {_TABLES[-1]}.", autocompletion=completion.fixed(*_TABLES))
]


@app.command()
def tables(state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """Show the tables: rows, files, days, and how far they are.

    Example: trade2026 lake tables
    """
    answer = find(state_dir).call(_SERVICE, "GET", "/catalog")
    if as_json:
        print_json(answer)
        return
    columns = {
        "table": "TABLE",
        "rows": ">ROWS",
        "files": ">FILES",
        "bytes": ">BYTES",
        "first_date": "FROM",
        "last_date": "TO",
        "version": ">VERSION",
        "lag": ">LAG",
        "late": ">LATE",
        "lost": ">LOST",
    }
    show_rows(answer["tables"], columns, "nothing was stored yet: a batch is stored every few seconds")


@app.command(no_args_is_help=True)
def query(
    table: Table,
    symbol: Annotated[str | None, typer.Option(help="SYMBOL or SYMBOL.VENUE.")] = None,
    begin: Annotated[str | None, typer.Option("--from", help="A time, such as 2026-01-31T09:30:00Z.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="A time that is not in it.")] = None,
    limit: Annotated[int, typer.Option(help="How many rows at most, up to 10,000.")] = 20,
    version: Annotated[int | None, typer.Option(help="As the table was at this version.")] = None,
    at: Annotated[str | None, typer.Option(help="As the table was at this time.")] = None,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Show rows of a table by time, as it is or was.

    Example: trade2026 lake query ticks --symbol BTCUSDT --from 2026-01-31T09:30:00Z
    """
    asked: dict[str, Any] = {
        "symbol": symbol,
        "from": begin,
        "to": end,
        "limit": limit,
        "version": version,
        "at": at,
    }
    answer = find(state_dir).call(_SERVICE, "GET", path_to("query", table), query=asked, timeout_seconds=60)
    if as_json:
        print_json(answer)
        return
    columns = {"time": "TIME", "symbol": "SYMBOL", **_COLUMNS.get(table, {})}
    show_rows(answer["rows"], columns, "no rows")
    if answer["more"]:
        typer.echo(f"… there are more: raise --limit, or go on with --from {answer['rows'][-1]['time']}")


@app.command()
def optimize(
    table: Annotated[str | None, typer.Argument(help="Every table if omitted.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only of this instrument.")] = None,
    date: Annotated[str | None, typer.Option(help="Only of this day, such as 2026-01-31.")] = None,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Make large files of small ones now; a day that is over is sorted. The service does it by itself from time to time.

    Example: trade2026 lake optimize ticks
    """
    body = {"table": table or "", "symbol": symbol or "", "date": date or ""}
    answer = find(state_dir).call(_SERVICE, "POST", "/optimize", body, timeout_seconds=_OPTIMIZE_SECONDS_MAX)
    if as_json:
        print_json(answer)
        return
    columns = {
        "table": "TABLE",
        "partitions": ">PARTITIONS",
        "files_removed": ">FILES BEFORE",
        "files_added": ">FILES AFTER",
    }
    show_rows(answer["tables"], columns, "nothing was stored yet")
