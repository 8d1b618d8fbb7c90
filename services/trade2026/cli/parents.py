"""Parent orders: submit, list, show, pause, resume, amend, cancel."""

from typing import Annotated, Any

import typer

from trade2026.cli import completion
from trade2026.cli.output import AsJson, StatePath, print_json, show, show_fields, show_rows
from trade2026.cli.submit import SubmitCommand
from trade2026.cli.target import find, path_to

_ALGOS = ("TWAP", "VWAP", "MARKET", "LIMIT", "STOP")

app = typer.Typer(
    help="Parent orders: submit, list, show, pause, resume, amend, cancel.", no_args_is_help=True, rich_markup_mode=None
)

OpenParent = Annotated[str, typer.Argument(help="The parent order.", autocompletion=completion.open_parent_ids)]
Reason = Annotated[str, typer.Option(help="Kept in the log.")]


@app.command(no_args_is_help=True, cls=SubmitCommand)
def submit(
    symbol: Annotated[str, typer.Argument(help="SYMBOL or SYMBOL.VENUE.", autocompletion=completion.symbols)],
    side: Annotated[str, typer.Argument(help="buy or sell.", autocompletion=completion.fixed("buy", "sell"))],
    quantity: Annotated[str, typer.Argument(help="In units of the base currency.")],
    algo: Annotated[
        str,
        typer.Option(help=f"{', '.join(_ALGOS[:-1])} or {_ALGOS[-1]}.", autocompletion=completion.fixed(*_ALGOS)),
    ] = "TWAP",
    duration: Annotated[str | None, typer.Option(help="How long it is worked, e.g. 10m.")] = None,
    start_at: Annotated[str | None, typer.Option(help="At once if omitted; e.g. 2030-01-31T16:00:00Z.")] = None,
    end_at: Annotated[str | None, typer.Option(help="Instead of a duration.")] = None,
    slices: Annotated[int | None, typer.Option(help="Into so many parts; 10 if omitted.")] = None,
    price: Annotated[str | None, typer.Option(help="No child is worse.")] = None,
    stop_price: Annotated[str | None, typer.Option(help="Trigger, for STOP.")] = None,
    child_quantity_max: Annotated[str | None, typer.Option(help="No child is larger.")] = None,
    participation_max: Annotated[str | None, typer.Option(help="Share of what the market trades, e.g. 20%.")] = None,
    catch_up: Annotated[str | None, typer.Option(help="How much larger a late slice may be; 100% if omitted.")] = None,
    account: Annotated[
        str | None,
        typer.Option(help="The stack's default account if omitted.", autocompletion=completion.accounts),
    ] = None,
    client_order_id: Annotated[
        str | None, typer.Option("--client-order-id", "--id", help="Makes a retry safe.")
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="On whose behalf.")] = None,
    trader: Annotated[str | None, typer.Option(help="Who decided it.")] = None,
    desk: Annotated[str | None, typer.Option(help="Whose book it is.")] = None,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Work a large order into children; it is durable when this answers.

    Examples:

    trade2026 parent submit BTCUSDT buy 0.5 --duration 10m --slices 60

    trade2026 parent submit BTCUSDT sell 0.5 --algo VWAP --duration 1h --participation-max 20%
    """
    terms: dict[str, Any] = {
        "symbol": symbol,
        "side": side,
        "quantity": quantity,
        "algo": algo,
        "duration": duration,
        "start_at": start_at,
        "end_at": end_at,
        "slices": slices,
        "price": price,
        "stop_price": stop_price,
        "child_quantity_max": child_quantity_max,
        "participation_max": participation_max,
        "catch_up": catch_up,
        "account": account,
        "client_order_id": client_order_id,
        "strategy": strategy,
        "trader": trader,
        "desk": desk,
    }
    answer = find(state_dir).call("exeq", "POST", "/parents", _given(terms))
    show(answer, as_json, _line(answer))


@app.command("list")
def listing(
    account: Annotated[str | None, typer.Option(help="Of this account.", autocompletion=completion.accounts)] = None,
    status: Annotated[
        str | None, typer.Option(help="open or closed.", autocompletion=completion.fixed("open", "closed"))
    ] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """List parent orders, newest first.

    Example: trade2026 parent list --status open
    """
    query = {"account": account, "status": status, "limit": limit, "cursor": cursor}
    answer = find(state_dir).call("exeq", "GET", "/parents", query=query)
    if as_json:
        print_json(answer)
        return
    columns = {
        "parent_id": "PARENT",
        "status": "STATUS",
        "account": "ACCOUNT",
        "symbol": "SYMBOL",
        "side": "SIDE",
        "algo": "ALGO",
        "quantity": ">QUANTITY",
        "cum_qty": ">FILLED",
        "avg_px": ">AT",
        "slices_reached": ">SLICE",
        "slices": ">OF",
        "end_at": "END",
    }
    show_rows(answer["parents"], columns, "no parent orders")
    if answer.get("cursor"):
        typer.echo(f"\nmore: --cursor {answer['cursor']}")


@app.command("show", no_args_is_help=True)
def show_parent(
    parent_id: Annotated[str, typer.Argument(help="The parent order.", autocompletion=completion.parent_ids)],
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Show a parent order, its children, and its slippage against arrival, TWAP and VWAP.

    Example: trade2026 parent show e0-3
    """
    answer = find(state_dir).call("exeq", "GET", path_to("parents", parent_id))
    if as_json:
        print_json(answer)
        return
    children, benchmarks = answer.pop("children", []), answer.pop("benchmarks", {})
    show_fields(answer)
    if benchmarks:
        typer.echo("")
        rows = [{"benchmark": name, **row} for name, row in benchmarks.items()]
        show_rows(rows, {"benchmark": "BENCHMARK", "price": ">PRICE", "slippage_bps": ">SLIPPAGE (BPS)"}, "")
    typer.echo("")
    columns = {
        "order_id": "ORDER",
        "status": "STATUS",
        "quantity": ">QUANTITY",
        "cum_qty": ">FILLED",
        "avg_px": ">AT",
        "reason": "REASON",
    }
    show_rows(children, columns, "no children yet")


@app.command(no_args_is_help=True)
def pause(
    parent_id: OpenParent,
    reason: Reason = "asked on the command line",
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Cancel what works of a parent order, and begin nothing until it is resumed.

    Example: trade2026 parent pause e0-3
    """
    _change(parent_id, "pause", reason, state_dir, as_json)


@app.command(no_args_is_help=True)
def resume(
    parent_id: OpenParent,
    reason: Reason = "asked on the command line",
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Let a paused parent order go on; it catches up within its bounds.

    Example: trade2026 parent resume e0-3
    """
    _change(parent_id, "resume", reason, state_dir, as_json)


@app.command(no_args_is_help=True)
def cancel(
    parent_id: OpenParent,
    reason: Reason = "asked on the command line",
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Cancel what works of a parent order, and end it.

    Example: trade2026 parent cancel e0-3
    """
    _change(parent_id, "cancel", reason, state_dir, as_json)


def _change(parent_id: str, what: str, reason: str, state_dir: StatePath, as_json: bool) -> None:
    answer = find(state_dir).call("exeq", "POST", path_to("parents", parent_id, what), {"reason": reason})
    show(answer, as_json, _line(answer))


@app.command(no_args_is_help=True)
def amend(
    parent_id: OpenParent,
    quantity: Annotated[str | None, typer.Option(help="New total quantity.")] = None,
    price: Annotated[str | None, typer.Option(help="New limit price; 0 takes it away.")] = None,
    end_at: Annotated[str | None, typer.Option(help="New end, e.g. 2030-01-31T16:00:00Z.")] = None,
    child_quantity_max: Annotated[str | None, typer.Option(help="No child is larger.")] = None,
    participation_max: Annotated[str | None, typer.Option(help="Share of what the market trades, e.g. 20%.")] = None,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Give a parent order new terms; the rest is planned anew, and what is not named stays.

    Example: trade2026 parent amend e0-3 --quantity 0.4
    """
    body = _given(
        {
            "quantity": quantity,
            "price": price,
            "end_at": end_at,
            "child_quantity_max": child_quantity_max,
            "participation_max": participation_max,
        }
    )
    if not body:
        raise typer.BadParameter(
            "say what should change: --quantity, --price, --end-at, --child-quantity-max or --participation-max"
        )
    answer = find(state_dir).call("exeq", "PATCH", path_to("parents", parent_id), body)
    show(answer, as_json, _line(answer))


def _given(terms: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in terms.items() if value is not None}


def _line(parent: dict[str, Any]) -> str:
    return f"{parent['parent_id']} {parent['status']} {parent['cum_qty']} of {parent['quantity']}"
