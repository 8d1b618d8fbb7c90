"""What all tests share: a slow machine fails none of them, real components are started once, and what tests reach is
measured where that is asked for."""

import gc

import pytest
from hypothesis import settings
from tests.coverage_floors import measurement
from tests.infra import clickhouse, kafka, promtool, questdb, seaweedfs, valkey

__all__ = ["clickhouse", "kafka", "promtool", "questdb", "seaweedfs", "valkey"]

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Let the measurement see how the run goes."""
    if measurement is not None:
        config.pluginmanager.register(measurement, "coverage floors")


def pytest_collection_finish() -> None:
    """All that was imported stays: without this the collector would walk through a million objects again and again."""
    gc.collect()
    gc.freeze()
