"""The OpenAPI document of an app's routes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from trade2026.domain.numbers import Amount
from trade2026.kit import problem
from trade2026.kit.parameters import Parameters

if TYPE_CHECKING:
    from trade2026.kit.http import Route, SocketRoute

_REFERENCE = "#/components/schemas/{name}"


_DESCRIPTIONS = {200: "Done", 503: "It is not well; the answer says why"}
_BEARER = "bearer"


def describe(
    document: dict[str, Any], routes: "Iterable[Route]", sockets: "Iterable[SocketRoute]", *, keyed: bool
) -> dict[str, Any]:
    """Add routes to an OpenAPI document and return it; `keyed` where a client needs a key."""
    routes = list(routes)
    types = {route.request_schema for route in routes} | {route.response_schema for route in routes} - {None}
    types = [type for type in types if type is not None]
    references, components = msgspec.json.schema_components(
        [*types, problem.ProblemDocument], ref_template=_REFERENCE, schema_hook=_schema
    )
    schemas = dict(zip([*types, problem.ProblemDocument], references, strict=True))
    paths = document.setdefault("paths", {})
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, keyed)
    for socket in sockets:
        paths.setdefault(socket.path, {})["get"] = {
            "summary": socket.summary,
            "tags": ["websocket"],
            "parameters": _parameters(socket.path, socket.query),
            "responses": {"101": {"description": "The connection becomes a WebSocket"}, "default": _problem(schemas)},
            "x-role": socket.role,
            **_security(keyed),
        }
    known = document.setdefault("components", {})
    known.setdefault("schemas", {}).update(components)
    known.setdefault("securitySchemes", {})[_BEARER] = {"type": "http", "scheme": "bearer"}
    return document


def _schema(type: Any) -> dict[str, Any]:
    if type is Amount:
        return {
            "anyOf": [{"type": "number"}, {"type": "string", "format": "decimal"}],
            "description": "Up to nine decimals, exact",
        }
    raise NotImplementedError(type)


def _operation(route: "Route", schemas: dict[Any, Any], keyed: bool) -> dict[str, Any]:
    schema = {"schema": schemas[route.response_schema]} if route.response_schema is not None else {}
    content = dict.fromkeys(route.produces, schema)
    answers = {str(status): {"description": _DESCRIPTIONS[status], "content": content} for status in route.statuses}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}_{route.path.strip('/').replace('/', '_') or 'root'}",
        "tags": list(route.tags),
        "parameters": _parameters(route.path, route.query),
        "responses": {**answers, "default": _problem(schemas)},
    }
    if route.request_schema is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[route.request_schema]}},
        }
    if route.role is not None:
        operation |= {"x-role": route.role, **_security(keyed)}
    return operation


def _security(keyed: bool) -> dict[str, Any]:
    return {"security": [{_BEARER: []}]} if keyed else {}


def _parameters(path: str, query: Parameters) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    for name, description in query.items():
        found.append({"name": name, "in": "query", "description": description, "schema": {"type": "string"}})
    return found


def _problem(schemas: dict[Any, Any]) -> dict[str, Any]:
    return {
        "description": "A problem (RFC 9457)",
        "content": {problem.CONTENT_TYPE: {"schema": schemas[problem.ProblemDocument]}},
    }
