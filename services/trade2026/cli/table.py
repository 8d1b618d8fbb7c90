"""The table of a running stack: a line a service."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def status_table(status: dict[str, Any]) -> RenderableType:
    """Draw what a runner says of itself."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, right in (
        ("RELEASE", False),
        ("SERVICE", False),
        ("URL", False),
        ("READY", False),
        ("P50 ms", True),
        ("P99 ms", True),
        ("ORDERS", True),
        ("LAG", True),
        ("RESTARTS", True),
    ):
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for release in status["releases"]:
        for index, service in enumerate(release["services"]):
            stats = service["stats"]
            table.add_row(
                release["name"] if index == 0 else "",
                service["name"],
                f"http://127.0.0.1:{service['port']}",
                _ready(release, service),
                *(_number(stats.get(key)) for key in ("p50_ms", "p99_ms", "orders", "lag")),
                str(release["restarts"]) if index == 0 else "",
            )
    state = "stopping" if status["stopping"] else "ready" if status["ready"] else "not ready"
    head = Text.assemble((status["stack"], "bold"), f" {status['version']}  ", (state, _COLOURS[state]), style="")
    return Group(head, table)


_COLOURS = {"ready": "green", "not ready": "yellow", "stopping": "yellow"}


def _ready(release: dict[str, Any], service: dict[str, Any]) -> Text:
    if service["ready"]:
        return Text("yes", "green")
    if release["failing"]:
        return Text("fails to start", "red")
    return Text(service["detail"][:60] or "no", "yellow")


def _number(value: Any) -> str:
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
