"""The newest values by key: `cache get`, `keys`, `set`, `delete`, `watch`."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trade2026.cli import completion
from trade2026.cli.output import FAILED, REFUSED, UNREACHABLE, AsJson, CliError, StatePath, print_json, show
from trade2026.cli.target import Target, find, path_to

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

app = typer.Typer(
    help="The newest tick, book, bar, position and P&L by key, and values of your own.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_PAGE = 1_000

Key = Annotated[str, typer.Argument(help="The key.", show_default=False, autocompletion=completion.cache_keys)]
Prefix = Annotated[str, typer.Argument(help="How the keys begin.", autocompletion=completion.cache_keys)]


@app.command(no_args_is_help=True)
def get(
    keys: Annotated[list[str], typer.Argument(help="Keys.", show_default=False, autocompletion=completion.cache_keys)],
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Print the newest values of keys.

    Example: trade2026 cache get tick:SIM:BTCUSDT pnl:main
    """
    found = find(state_dir).call("hot_cache", "POST", "/mget", {"keys": keys})["values"]
    if as_json:
        print_json(found[0] if len(keys) == 1 else found)
    for key, value in zip(keys, found, strict=True):
        if not as_json:
            typer.echo(_line(value) if value is not None else f"{key}: nothing is known of it")
    if None in found:
        raise typer.Exit(FAILED)


@app.command("keys")
def list_keys(prefix: Prefix = "", state_dir: StatePath = None, as_json: AsJson = False) -> None:
    """List keys by prefix, sorted.

    Example: trade2026 cache keys position:main:
    """
    target, cursor, found = find(state_dir), "", []
    while cursor is not None:
        page = target.call("hot_cache", "GET", "/keys", query={"prefix": prefix, "cursor": cursor, "limit": _PAGE})
        found += page["keys"]
        cursor = page["cursor"]
    show(found, as_json, "\n".join(found) if found else f"no key begins with {prefix!r}")


@app.command("set", no_args_is_help=True)
def set_(
    key: Key,
    value: Annotated[str, typer.Argument(help="JSON; what is none is kept as text.", show_default=False)],
    ttl: Annotated[float | None, typer.Option(help="Seconds after which it is forgotten.")] = None,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Keep a value of your own, under user:NAME:… (without keys, NAME is local).

    Example: trade2026 cache set user:local:fair:BTCUSDT 50000.5 --ttl 60
    """
    body: dict[str, Any] = {"key": key, "value": _value(value)}
    if ttl is not None:
        body["ttl_seconds"] = ttl
    kept = find(state_dir).call("hot_cache", "PUT", "/set", body)
    show(kept, as_json, _line(kept))


@app.command(no_args_is_help=True)
def delete(
    key: Key,
    prefix: Annotated[bool, typer.Option("--prefix", help="All keys that begin so.")] = False,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Forget a value of your own, or all that begin with a prefix.

    Example: trade2026 cache delete user:local:fair: --prefix
    """
    target = find(state_dir)
    if prefix:
        answer = target.call("hot_cache", "DELETE", "/keys", query={"prefix": key})
    else:
        answer = target.call("hot_cache", "DELETE", path_to("keys", key))
    show(answer, as_json, f"{answer['deleted']} deleted")


@app.command(no_args_is_help=True)
def watch(
    prefixes: Annotated[
        list[str], typer.Argument(help="How the keys begin.", show_default=False, autocompletion=completion.cache_keys)
    ],
    count: Annotated[int, typer.Option(help="End after so many values; 0 goes on until Ctrl-C.")] = 0,
    state_dir: StatePath = None,
    as_json: AsJson = False,
) -> None:
    """Print values as they change; with --json, one object a line.

    Example: trade2026 cache watch tick: position:main:
    """
    from websockets.exceptions import ConnectionClosed

    with _connect(find(state_dir)) as socket:
        socket.send(json.dumps({"op": "subscribe", "prefixes": prefixes}))
        try:
            answer = json.loads(socket.recv())
            if "error" in answer:
                raise CliError(answer["error"], REFUSED)
            shown = 0
            while not count or shown < count:
                message = json.loads(socket.recv())
                typer.echo(json.dumps(message, ensure_ascii=False) if as_json else _line(message))
                shown += 1
        except ConnectionClosed as error:
            raise CliError(f"the connection has ended: {error.rcvd.reason if error.rcvd else error}", FAILED) from error


def _connect(target: Target) -> "ClientConnection":
    from websockets.exceptions import InvalidHandshake, InvalidStatus
    from websockets.sync.client import connect

    from trade2026.kit.own_key import own_authorization

    headers = {"Authorization": authorization} if (authorization := own_authorization()) else {}
    place = f"{target.host}:{target.ports['hot_cache']}"
    try:
        return connect(f"ws://{place}/ws/keys", additional_headers=headers, proxy=None)
    except InvalidStatus as error:
        said = error.response.body.decode("utf-8", "replace")[:300]
        raise CliError(f"hot_cache answered {error.response.status_code}: {said}", REFUSED) from error
    except (OSError, InvalidHandshake) as error:
        raise CliError(f"hot_cache of {target.name} at {place} does not answer: {error}", UNREACHABLE) from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _line(found: dict[str, Any]) -> str:
    """A value in one line, how old it is, and where it comes from."""
    if found.get("deleted"):
        return f"{found['key']}  deleted"
    value = found["value"]
    text = " ".join(f"{name}={_cell(inner)}" for name, inner in value.items()) if isinstance(value, dict) else value
    place = found["as_of"] or (f"until {found['expires_at']}" if "expires_at" in found else "no event")
    restored = ", restored" if found.get("restored") else ""
    return f"{found['key']}  {text}  ({place}, {found['age_ms'] / 1_000:.3f} s old{restored})"


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
