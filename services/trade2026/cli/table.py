"""The table of a running stack: a line a service, a line a strategy, and below it in words what is unwell."""

from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_COLOURS = {
    "ready": "green",
    "not ready": "yellow",
    "stopping": "yellow",
    "running": "green",
    "starting": "yellow",
    "stopped": "yellow",
}
_REASON_SHOWN_MAX = 60
_STOPS_SHOWN_MAX = 10


def status_table(status: dict[str, Any]) -> RenderableType:
    """Draw what a runner says of itself."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    shares = _shares(status)
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
        *([("PARTITIONS", False)] if shares else []),
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
                *([shares.get(service["name"], "–")] if shares else []),
            )
    state = "stopping" if status["stopping"] else "ready" if status["ready"] else "not ready"
    head = Text.assemble((status["stack"], "bold"), f" {status['version']}  ", (state, _COLOURS[state]), style="")
    words = (
        []
        if status["stopping"]
        else [Text.assemble((name, "bold"), f": {what}", style="yellow") for name, what in unwell(status)]
    )
    rows = status.get("strategies")  # a runner of an older version does not say
    strategies = [Text(""), strategies_table(rows)] if rows else []
    return Group(head, *stops_in_words(status), table, *strategies, *([Text(""), *words] if words else []))


def stops_in_words(status: dict[str, Any]) -> list[Text]:
    """Say what may not trade, who stopped it, and how it is released; nothing where all may."""
    stops = status.get("stops") or []  # a runner of an older version does not say
    if not stops:
        return []
    lines = [Text(f"trading: {status['trading']}", "bold red")]
    for stop in stops[:_STOPS_SHOWN_MAX]:
        since = f" since {stop['since']}" if stop.get("since") else ""
        lines.append(
            Text(f"  {stop['scope']} {'halted' if stop['halt'] else 'killed'}{since} by {stop['by']}: {stop['reason']}")
        )
        if stop["unconfirmed_by"]:
            lines.append(Text(f"    not confirmed yet by {', '.join(stop['unconfirmed_by'])}", "yellow"))
        lines.append(Text(f"    release it with: {stop['release']}"))
    if more := len(stops) - _STOPS_SHOWN_MAX:
        lines += [Text(f"  and {more} more: trade2026 status --json")] if more > 0 else []
    return [*lines, Text("")]


def _shares(status: dict[str, Any]) -> dict[str, str]:
    """The partitions that each replica has; empty where nothing is split."""
    found = {
        service["name"]: service["stats"]["partitions"]
        for release in status["releases"]
        for service in release["services"]
        if "partitions" in service["stats"]
    }
    if len({partition for share in found.values() for partition in share}) <= 1:
        return {}
    return {name: ",".join(_ranges(share)) or "none" for name, share in found.items()}


def _ranges(numbers: list[int]) -> Iterator[str]:
    """Numbers in order, those that follow each other as one: 0-3, 7."""
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}"


def strategies_table(rows: list[dict[str, Any]]) -> Table:
    """Draw strategies as their service lists them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, right in (
        ("STRATEGY", False),
        ("STATUS", False),
        ("ACCOUNT", False),
        ("POSITION", False),
        ("OPEN", True),
        ("DECISIONS", True),
        ("P&L", True),
        ("REASON", False),
    ):
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        held = ", ".join(f"{quantity} {symbol}" for symbol, quantity in row["position"].items())
        reason = row["reason"].partition("\n")[0]
        table.add_row(
            row["name"],
            Text(row["status"], _COLOURS.get(row["status"], "red")),
            row["account"],
            held or "–",
            _number(row["open_orders"]),
            _number(row["decisions"]),
            f"{Decimal(row['pnl']):,.2f}",
            Text(reason if len(reason) <= _REASON_SHOWN_MAX else f"{reason[: _REASON_SHOWN_MAX - 1]}…") or "–",
        )
    return table


def unwell(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Who is not well, and why in words; the cause is the same for a whole process that does not start."""
    if waits := status.get("waits"):
        yield "nothing is started yet", waits
        return
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
