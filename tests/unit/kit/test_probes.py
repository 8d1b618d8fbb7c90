"""What every service reports of itself."""

from typing import Any

from trade2026.kit.http import App
from trade2026.kit.metrics import Metrics
from trade2026.kit.probes import Heartbeat, Lifecycle, add_standard_routes


class Behind:
    """A service that follows something, or nothing."""

    name, title = "behind", "Behind"

    def __init__(self, stats: dict[str, Any]) -> None:
        self._stats = stats

    def stats(self) -> dict[str, Any]:
        return self._stats


def scraped(stats: dict[str, Any], *, started: bool = True) -> str:
    registry = Metrics()
    life = Lifecycle(Behind(stats))  # type: ignore[arg-type]
    life.started = started
    add_standard_routes(App("behind", metrics=registry), life, Heartbeat(), registry)
    return registry.text()


def test_the_lag_of_a_service_is_a_metric() -> None:
    assert 'trade2026_lag_events{service="behind"} 7\n' in scraped({"lag": 7})


def test_what_follows_nothing_or_has_not_started_is_not_behind() -> None:
    assert 'trade2026_lag_events{service="behind"} 0\n' in scraped({})
    assert 'trade2026_lag_events{service="behind"} 0\n' in scraped({"lag": 7}, started=False)
