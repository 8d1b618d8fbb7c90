"""The table of a running stack: a line a service, and below it in words what is unwell."""

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_COLOURS = {"ready": "green", "not ready": "yellow", "stopping": "yellow"}


def status_table(status: dict[str, Any]) -> RenderableType:
    """Draw what a runner says of itself."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, right in (
        ("SERVICE", False),
        ("PROCESS", False),
        ("PORT", True),
        ("READY", False),
        ("P50 ms", True),
        ("P99 ms", True),
        ("ORDERS", True),
        ("LAG", True),
        ("RESTARTS", True),
    ):
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for release in status["releases"]:
        for service in release["services"]:
            stats = service["stats"]
            table.add_row(
                service["name"],
                release["name"],
                str(service["port"]),
                _ready(release, service),
                *(_number(stats.get(key)) for key in ("p50_ms", "p99_ms", "orders", "lag")),
                str(release["restarts"]),
            )
    state = "stopping" if status["stopping"] else "ready" if status["ready"] else "not ready"
    head = Text.assemble((status["stack"], "bold"), f" {status['version']}  ", (state, _COLOURS[state]), style="")
    words = (
        []
        if status["stopping"]
        else [Text.assemble((name, "bold"), f": {what}", style="yellow") for name, what in unwell(status)]
    )
    return Group(head, table, *([Text(""), *words] if words else []))


def unwell(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Who is not well, and why in words; the cause is the same for a whole process that does not start."""
    for release in status["releases"]:
        if release["failing"]:
            last = release["reason"].strip().splitlines()[-1:] or ["its log is empty"]
            yield release["name"], f"fails to start: {last[0]} (trade2026 doctor; logs/{release['name']}.log)"
            continue
        for service in release["services"]:
            if not service["ready"]:
                yield service["name"], service["detail"] or "not ready"
            for check, detail in service.get("unwell", {}).items():
                yield service["name"], f"{check.replace('_', ' ')}: {detail}"


def _ready(release: dict[str, Any], service: dict[str, Any]) -> Text:
    if service["ready"]:
        return Text("unwell", "yellow") if service.get("unwell") else Text("yes", "green")
    return Text("fails", "red") if release["failing"] else Text("no", "yellow")


def _number(value: Any) -> str:
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
