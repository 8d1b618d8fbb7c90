"""Orders: submit, cancel, amend, list, show."""

from typing import Annotated, Any

import typer

from trade2026.cli import completion
from trade2026.cli.names import first_order
from trade2026.cli.output import AsJson, CliError, StatePath, print_json, show, show_fields, show_rows
from trade2026.cli.submit import SubmitCommand, new_client_order_id, uncertain
from trade2026.cli.target import find, path_to

_TYPES = ("MARKET", "LIMIT", "STOP", "STOP_LIMIT", "TRAILING_STOP", "ICEBERG")

app = typer.Typer(help="Orders: submit, cancel, amend, list, show.", no_args_is_help=True, rich_markup_mode=None)


@app.command(no_args_is_help=True, cls=SubmitCommand)
def submit(
    symbol: Annotated[str, typer.Argument(help="SYMBOL or SYMBOL.VENUE.", autocompletion=completion.symbols)],
    side: Annotated[str, typer.Argument(help="buy or sell.", autocompletion=completion.fixed("buy", "sell"))],
    quantity: Annotated[str, typer.Argument(help="In units of the base currency.")],
    price: Annotated[str | None, typer.Option(help="Limit price; without one it is a market order.")] = None,
    order_type: Annotated[
        str | None,
        typer.Option(
            "--type", help=f"{', '.join(_TYPES[:-1])} or {_TYPES[-1]}.", autocompletion=completion.fixed(*_TYPES)
        ),
    ] = None,
    stop_price: Annotated[str | None, typer.Option(help="Trigger of a stop order.")] = None,
    trailing_offset: Annotated[str | None, typer.Option(help="How far a trailing stop follows.")] = None,
    display_quantity: Annotated[str | None, typer.Option(help="What an iceberg shows.")] = None,
    time_in_force: Annotated[str | None, typer.Option("--tif", help="GTC (default), DAY, IOC, FOK or GTD.")] = None,
    expire_at: Annotated[str | None, typer.Option(help="For GTD, e.g. 2030-01-31T16:00:00Z.")] = None,
    account: Annotated[
        str | None,
        typer.Option(help="The stack's default account if omitted.", autocompletion=completion.accounts),
    ] = None,
    client_order_id: Annotated[
        str | None, typer.Option("--client-order-id", "--id", help="Makes a retry safe; one is made if omitted.")
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="On whose behalf.")] = None,
    trader: Annotated[str | None, typer.Option(help="Who decided it.")] = None,
    desk: Annotated[str | None, typer.Option(help="Whose book it is.")] = None,
    post_only: Annotated[bool, typer.Option("--post-only", help="Never take liquidity.")] = False,
    reduce_only: Annotated[bool, typer.Option("--reduce-only", help="Never open or turn a position.")] = False,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Submit an order; it is durable when this answers.

    Examples:

    trade2026 order submit BTCUSDT buy 0.001 --price 45000

    trade2026 order submit BTCUSDT sell 0.001 --type STOP --stop-price 40000
    """
    body: dict[str, Any] = {
        "symbol": symbol,
        "side": side,
        "quantity": quantity,
        "price": price,
        "order_type": order_type,
        "stop_price": stop_price,
        "trailing_offset": trailing_offset,
        "display_quantity": display_quantity,
        "time_in_force": time_in_force,
        "expire_at": expire_at,
        "account": account,
        "client_order_id": new_client_order_id() if client_order_id is None else client_order_id,
        "strategy": strategy,
        "trader": trader,
        "desk": desk,
        "post_only": post_only or None,
        "reduce_only": reduce_only or None,
    }
    target = find(state_dir)
    sent = {name: value for name, value in body.items() if value is not None}
    try:
        answer = target.call("oms", "POST", "/orders", sent)
    except CliError as error:
        raise uncertain(error, sent, state_dir) from error
    show(answer, as_json, f"{answer['order_id']} {answer['status']}")
    if account and not as_json and (told := first_order(target, account, answer["order_id"])):
        typer.echo(f"note: {told}", err=True)


@app.command(no_args_is_help=True)
def cancel(
    order_id: Annotated[
        str | None,
        typer.Argument(help="The order.", show_default=False, autocompletion=completion.open_order_ids),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every open order of the scope.")] = False,
    scope: Annotated[
        str,
        typer.Option(
            help="With --all: stack, account:NAME, strategy:NAME, instrument:ID …", autocompletion=completion.scopes
        ),
    ] = "stack",
    reason: Annotated[str, typer.Option(help="With --all: kept in the log.")] = "asked on the command line",
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Cancel an order, or all of a scope.

    Examples:

    trade2026 order cancel o0-17

    trade2026 order cancel --all --scope account:main
    """
    if everything == (order_id is not None):
        raise typer.BadParameter("give an order id, or --all")
    target = find(state_dir)
    if everything:
        answer = target.call("oms", "POST", "/orders/cancel-all", {"scope": scope, "reason": reason})
        show(answer, as_json, f"{scope}: asked to cancel {answer.get('asked')} order(s)")
    else:
        assert order_id is not None
        answer = target.call("oms", "DELETE", path_to("orders", order_id))
        show(answer, as_json, f"{answer['order_id']} {answer['status']}")


@app.command(no_args_is_help=True)
def amend(
    order_id: Annotated[str, typer.Argument(help="The order.", autocompletion=completion.open_order_ids)],
    quantity: Annotated[str | None, typer.Option(help="New total quantity.")] = None,
    price: Annotated[str | None, typer.Option(help="New limit price.")] = None,
    stop_price: Annotated[str | None, typer.Option(help="New trigger.")] = None,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Give an order new terms; what is not named stays.

    Example: trade2026 order amend o0-17 --price 44900
    """
    terms = {"quantity": quantity, "price": price, "stop_price": stop_price}
    body = {name: value for name, value in terms.items() if value is not None}
    if not body:
        raise typer.BadParameter("say what should change: --quantity, --price or --stop-price")
    answer = find(state_dir).call("oms", "PATCH", path_to("orders", order_id), body)
    show(answer, as_json, f"{answer['order_id']} {answer['status']}")


@app.command("list")
def listing(
    account: Annotated[str | None, typer.Option(help="Of this account.", autocompletion=completion.accounts)] = None,
    status: Annotated[
        str | None,
        typer.Option(help="open, closed, or a state such as Filled.", autocompletion=completion.statuses),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """List orders, newest first.

    Example: trade2026 order list --status open --account main
    """
    query = {"account": account, "status": status, "limit": limit, "cursor": cursor}
    answer = find(state_dir).call("oms", "GET", "/orders", query=query)
    if as_json:
        print_json(answer)
        return
    columns = {
        "order_id": "ORDER",
        "status": "STATUS",
        "account": "ACCOUNT",
        "symbol": "SYMBOL",
        "side": "SIDE",
        "order_type": "TYPE",
        "quantity": ">QUANTITY",
        "price": ">PRICE",
        "cum_qty": ">FILLED",
        "avg_px": ">AT",
        "created_at": "CREATED",
    }
    rows = [{**order, "price": _price(order)} for order in answer["orders"]]
    show_rows(rows, columns, "no orders")
    if answer.get("cursor"):
        typer.echo(f"\nmore: --cursor {answer['cursor']}")


def _price(order: dict[str, Any]) -> str:
    """The limit, and the price at which the order is triggered."""
    stop = f"stop {order['stop_price']}" if order.get("stop_price") else ""
    return " ".join(part for part in (order.get("price", ""), stop) if part)


@app.command("show", no_args_is_help=True)
def show_order(
    order_id: Annotated[str, typer.Argument(help="The order.", autocompletion=completion.order_ids)],
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Show an order and everything that happened to it.

    Example: trade2026 order show o0-17
    """
    answer = find(state_dir).call("oms", "GET", path_to("orders", order_id))
    if as_json:
        print_json(answer)
        return
    history = answer.pop("history", [])
    show_fields(answer)
    typer.echo("")
    columns = {"event_id": "EVENT", "type": "TYPE", "ts_init": "TIME", "principal": "BY"}
    show_rows(history, columns, "no history")
