"""The cache over HTTP and WebSocket (port 8088)."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from starlette.websockets import WebSocket

from trade2026.hot_cache import keys
from trade2026.hot_cache.views import entry_view
from trade2026.kit.http import App, Problem, Request, Response, json_response
from trade2026.kit.identity import Principal
from trade2026.kit.parameters import PAGE
from trade2026.kit.queries import number
from trade2026.stores.cache import CacheUnavailable, Entry, EntryTooLarge

if TYPE_CHECKING:
    from trade2026.hot_cache.service import HotCacheService

KEYS_PER_REQUEST_MAX = 1_000
VALUE_BYTES_MAX = 64 * 1024
TTL_SECONDS_MAX = 30 * 86_400
_SECOND = 10**9

Answer = TypeVar("Answer")


class KeysInput(msgspec.Struct, forbid_unknown_fields=True):
    """Which values are asked for."""

    keys: Annotated[list[str], msgspec.Meta(max_length=KEYS_PER_REQUEST_MAX)]


class ValueInput(msgspec.Struct, forbid_unknown_fields=True):
    """A user's value. `ttl_seconds`: how long it is kept; without it, until it must go for others."""

    key: str
    value: msgspec.Raw
    ttl_seconds: float | None = None


def add_routes(app: App, service: "HotCacheService") -> None:
    """Every endpoint of the cache."""
    now = service.context.clock.now

    async def find(request: Request, wanted: list[str]) -> list[dict[str, Any] | None]:
        """The values of keys as they are shown."""
        for key in wanted:
            if not may_read(request.principal, key):
                raise Problem(403, "key_not_permitted", f"{request.principal.name} may not see {key[:80]}", field="key")
        entries = await _answered(service.cache.get(wanted))
        found = sum(entry is not None for entry in entries)
        service.hits.inc(found)
        service.misses.inc(len(entries) - found)
        at = now()
        return [
            entry_view(key, entry, at) if entry is not None else None
            for key, entry in zip(wanted, entries, strict=True)
        ]

    @app.route("GET", "/get/{key}", summary="The newest value of a key, its age, and the event that made it")
    async def get(request: Request) -> Response:
        key = request.params["key"]
        (found,) = await find(request, [key])
        if found is None:
            raise Problem(404, "unknown_key", f"nothing is known of {key[:80]!r}; GET /keys?prefix= lists what is")
        return json_response(found)

    @app.route(
        "POST", "/mget", summary="The values of up to 1,000 keys; null where there is none", request_schema=KeysInput
    )
    async def mget(request: Request) -> Response:
        return json_response({"values": await find(request, request.json(KeysInput).keys)})

    @app.route("GET", "/keys", summary="Keys by prefix, sorted", query={"prefix": "how they begin", **PAGE})
    async def list_keys(request: Request) -> Response:
        limit = number(request, "limit", KEYS_PER_REQUEST_MAX, most=KEYS_PER_REQUEST_MAX)
        prefix, cursor = request.query.get("prefix", ""), request.query.get("cursor", "")
        found = await _answered(service.cache.keys(prefix, cursor, limit))
        cursor = found[-1] if len(found) == limit else None
        return json_response({"keys": [key for key in found if may_read(request.principal, key)], "cursor": cursor})

    _add_user_keys(app, service)

    @app.websocket("/ws/keys", summary="Values as they change: subscribe with op and prefixes")
    async def watch(ws: WebSocket, principal: Principal) -> None:
        await service.watch.serve(ws, principal)


def _add_user_keys(app: App, service: "HotCacheService") -> None:
    @app.route(
        "PUT",
        "/set",
        summary="Keep a value of one's own under user:NAME:…, for a time",
        request_schema=ValueInput,
        role="trader",
        body_bytes_max=VALUE_BYTES_MAX,
    )
    async def put(request: Request) -> Response:
        given = request.json(ValueInput)
        key = _own_key(request.principal, given.key)
        now = service.context.clock.now()
        entry = Entry(bytes(given.value), now, expires_at=_expiry(given.ttl_seconds, now))
        try:
            await _answered(service.put(key, entry))
        except EntryTooLarge as error:
            raise Problem(413, "value_too_large", str(error), field="value", bytes_max=error.bytes_max) from error
        return json_response(entry_view(key, entry, now))

    @app.route("DELETE", "/keys/{key}", summary="Forget a value of one's own", role="trader")
    async def delete(request: Request) -> Response:
        key = _own_key(request.principal, request.params["key"])
        return json_response({"deleted": int(await _answered(service.cache.delete(key)))})

    @app.route(
        "DELETE",
        "/keys",
        summary="Forget all values of one's own that begin with a prefix",
        role="trader",
        query={"prefix": "how they begin: user:NAME:…"},
    )
    async def invalidate(request: Request) -> Response:
        prefix = request.query.get("prefix", "")
        _require_own(request.principal, prefix, "prefix")
        return json_response({"deleted": len(await _answered(service.cache.delete_prefix(prefix)))})


async def _answered(answer: Awaitable[Answer]) -> Answer:
    """What the cache answers; 503 while it is a server that does not."""
    try:
        return await answer
    except CacheUnavailable as error:
        raise unavailable(error) from error


def unavailable(error: CacheUnavailable) -> Problem:
    """What a client is told while the cache does not answer; who asks again soon may get an answer."""
    return Problem(503, "cache_unavailable", str(error), retry_after=1)


def may_read(principal: Principal, key: str) -> bool:
    """Whether a principal may see a key: of accounts its own; of users, where it has but some accounts, itself."""
    if principal.accounts is None:
        return True
    account, user = keys.account_of(key), keys.user_of(key)
    return (account is None or account in principal.accounts) and (user is None or user == principal.name)


def _own_key(principal: Principal, key: str) -> str:
    """Return a key that the principal may write.

    Raises:
        Problem: 403 for the platform's and for others'; 422 for what is no key.
    """
    _require_own(principal, key, "key")
    if not keys.is_user_key(key):
        raise Problem(
            422,
            "bad_key",
            f"after user:NAME: a key has parts of letters, digits and _.~%- with colons between, in all "
            f"{keys.KEY_CHARACTERS_MAX} characters at most",
            field="key",
        )
    return key


def _require_own(principal: Principal, key: str, field: str) -> None:
    own = keys.namespace(principal.name)
    may_all = principal.role == "admin" and principal.accounts is None
    if key.startswith(own) or (may_all and key.startswith(keys.USER)):
        return
    raise Problem(
        403, "key_not_yours", f"only what begins with {own} is yours to change; the rest follows the log", field=field
    )


def _expiry(ttl_seconds: float | None, now: int) -> int:
    if ttl_seconds is None:
        return 0
    if not 0 < ttl_seconds <= TTL_SECONDS_MAX:
        raise Problem(
            422, "bad_ttl_seconds", f"ttl_seconds is more than 0 and at most {TTL_SECONDS_MAX}", field="ttl_seconds"
        )
    return now + max(1, round(ttl_seconds * _SECOND))
