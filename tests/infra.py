"""Fixtures: real Kafka, QuestDB, SeaweedFS and Valkey, each started at most once a run, and only when a test asks for it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from trade2026.local.infra.artefacts import jars
from trade2026.local.infra.clickhouse import PACKAGES as clickhouse_packages
from trade2026.local.infra.clickhouse import VERSION as clickhouse_version
from trade2026.local.infra.clickhouse import ClickHouse
from trade2026.local.infra.component import Component, InfraError
from trade2026.local.infra.debian import unpacked
from trade2026.local.infra.kafka import VERSION as kafka_version
from trade2026.local.infra.kafka import Kafka
from trade2026.local.infra.questdb import VERSION as questdb_version
from trade2026.local.infra.questdb import QuestDb
from trade2026.local.infra.seaweedfs import SeaweedFs
from trade2026.local.infra.valkey import Valkey

PROMETHEUS_VERSION = "2.42.0"
S3_KEYS = ("trade2026", "open-sesame")


def started(component: Component) -> Component:
    """The component, running; where a part of it is missing the test is skipped, but never in CI."""
    with _skipping(component):
        component.start()
    return component


def require(component: Component) -> None:
    """Skip the test, but never in CI, where a part of the component is missing; it is fetched, and not started."""
    with _skipping(component):
        component.command()


@contextlib.contextmanager
def _skipping(component: Component) -> Iterator[None]:
    try:
        yield
    except InfraError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"without {component.name}: {error}")


def _once(component: Component) -> Iterator[Component]:
    try:
        yield started(component)
    finally:
        component.stop()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Component]:
    """A broker that all tests share; none stops it. One who wants to harm a broker starts its own."""
    yield from _once(Kafka(tmp_path_factory.mktemp("kafka")))


@pytest.fixture(scope="session")
def questdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Component]:
    """A QuestDB that all tests share; none stops it. It lets a test suspend a table."""
    with mock.patch.dict(os.environ, QDB_DEV_MODE_ENABLED="true"):
        yield from _once(QuestDb(tmp_path_factory.mktemp("questdb")))


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Component]:
    """A ClickHouse that all tests share; none stops it, and each has a database of its own."""
    yield from _once(ClickHouse(tmp_path_factory.mktemp("clickhouse")))


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Component]:
    """A Valkey that all tests share; none stops it."""
    yield from _once(Valkey(tmp_path_factory.mktemp("valkey")))


def prometheus_files() -> Path:
    """Debian's Prometheus, unpacked and not installed: its promtool checks rules."""
    return unpacked("prometheus", PROMETHEUS_VERSION, ("prometheus",))


@pytest.fixture(scope="session")
def promtool() -> str:
    """The program that checks rules, and runs their tests."""
    try:
        return str(prometheus_files() / "usr" / "bin" / "promtool")
    except InfraError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"without promtool: {error}")


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Component]:
    """A store of objects that all tests share, with the keys `S3_KEYS`; none stops it."""
    yield from _once(SeaweedFs(tmp_path_factory.mktemp("seaweedfs"), keys=S3_KEYS))


def fetch() -> None:
    """Fetch what the fixtures need, once, so that no test waits for a download."""
    fetches = (
        lambda: jars("kafka", kafka_version),
        lambda: jars("questdb", questdb_version),
        lambda: unpacked("clickhouse", clickhouse_version, clickhouse_packages),
        prometheus_files,
    )
    for fetched in fetches:
        try:
            fetched()
        except InfraError as error:
            print(f"its tests are skipped: {error}")


if __name__ == "__main__":
    fetch()
