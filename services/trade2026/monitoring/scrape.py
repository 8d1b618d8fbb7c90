"""What a service says of itself, asked over loopback: `/health` often, `/metrics` now and then."""

import re
from collections.abc import Iterator

import msgspec

from trade2026.kit import calls
from trade2026.monitoring.machine import Counts, Look

PROBES = ("/", "/livez", "/readyz", "/startupz", "/health", "/metrics", "/stats", "/docs", "/openapi.json")
"""Routes of every service that are not counted: nobody trades there."""
DURATIONS, ANSWERED = "trade2026_http_request_seconds", "trade2026_http_requests_total"
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_SECONDS_MAX = 2.0


class _Check(msgspec.Struct):
    status: str
    detail: str = ""


class _Health(msgspec.Struct):
    status: str
    checks: dict[str, _Check] = {}


async def look_at(base: str, under_seconds: float, *, with_metrics: bool) -> Look:
    """Look at one service.

    Args:
        base: Its address.
        under_seconds: A request that takes longer is slow; one of the limits that `/metrics` shows.
    """
    answer = await calls.get(f"{base}/health", seconds_max=_SECONDS_MAX)
    if not answer.status:
        return Look(False, detail=f"it does not answer: {answer.detail}")
    look = read_health(answer.body)
    if not with_metrics:
        return look
    metrics = await calls.get(f"{base}/metrics", seconds_max=_SECONDS_MAX)
    counts = read_counts(metrics.body.decode("utf-8", "replace"), under_seconds) if metrics.ok else None
    return msgspec.structs.replace(look, counts=counts)


def read_health(body: bytes) -> Look:
    """What `/health` says: whether the service is ready, and what is not well."""
    try:
        health = msgspec.json.decode(body, type=_Health)
    except msgspec.DecodeError as error:
        return Look(False, detail=f"its health can't be read: {error}")
    unwell = {name: check.detail for name, check in health.checks.items() if check.status != "ok"}
    reason = unwell.pop("ready", None)
    return Look(reason is None, unwell, reason or "")


def read_counts(text: str, under_seconds: float) -> Counts:
    """Requests of a service's own routes, from its metrics."""
    requests = quick = failed = 0
    limit = repr(under_seconds)
    for name, labels, value in _samples(text):
        if labels.get("route") in PROBES:
            continue
        if name == f"{DURATIONS}_count":
            requests += value
        elif name == f"{DURATIONS}_bucket" and labels["le"] == limit:
            quick += value
        elif name == ANSWERED and labels["status"].startswith("5"):
            failed += value
    return Counts(requests, requests - quick, failed)


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], int]]:
    for line in text.splitlines():
        if not line.startswith((DURATIONS, ANSWERED)):
            continue
        name, _, rest = line.partition("{")
        inside, _, value = rest.partition("} ")
        if name.endswith("_sum"):
            continue
        yield name, dict(_LABEL.findall(inside)), int(float(value.split(" ", 1)[0]))
