"""The endpoints of every service, from its routes."""

import importlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from trade2026.kit.http import App
from trade2026.kit.metrics import Metrics
from trade2026.kit.probes import add_standard_routes
from trade2026.stack import facts


def app_of(name: str) -> App:
    """An app with a service's own routes; nothing behind them works."""
    app = App(name)
    importlib.import_module(f"trade2026.{name.replace('-', '_')}.api").add_routes(app, mock.MagicMock())
    return app


def other_app_of(name: str, port: str) -> App:
    """An app with the routes of a service's other port."""
    app = App(name)
    importlib.import_module(f"trade2026.{name}.{port}").add_routes(app, mock.MagicMock())
    return app


def standard() -> App:
    """An app with the routes that every service has."""
    app = App("any")
    life: Any = mock.MagicMock()
    add_standard_routes(app, life, mock.MagicMock(), Metrics())
    return app


def table(app: App) -> Iterator[str]:
    """Yield a table of endpoints: who may, and what they do."""
    yield "| endpoint | what it does | least role |"
    yield "|---|---|---|"
    for route in app.routes:
        yield f"| `{route.method} {route.path}` | {route.summary} | {route.role or 'anyone'} |"
    for socket in app.sockets:
        yield f"| `WebSocket {socket.path}` | {socket.summary} | {socket.role} |"


def endpoint_sections() -> Iterator[str]:
    """Yield the sections of the services page."""
    yield from ("", "## Every service", "")
    yield "`/docs` shows parameters, bodies and answers, and lets you try them. Errors are"
    yield "[problem documents](https://www.rfc-editor.org/rfc/rfc9457): `code` is for scripts, `detail` says what to do."
    yield from ("", *table(standard()))
    yield "| `GET /openapi.json` | The OpenAPI document | anyone |"
    for service in facts.SERVICES.values():
        yield from (
            "",
            f"## {service.name}",
            "",
            f"{service.title}, port {service.port}.",
            "",
            *table(app_of(service.name)),
        )
        for port in service.other_ports:
            yield from ("", f"{port.title}, port {port.port}.", "", *table(other_app_of(service.name, port.name)))
