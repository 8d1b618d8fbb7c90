"""A move from its beginning to its end: look, move what is missing, compare, say that it is finished."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from trade2026.kit.bus import choice
from trade2026.kit.bus.port import BusError, TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.kit.settings import ProcessSettings
from trade2026.local import brokers, stores
from trade2026.local.infra.component import Component
from trade2026.local.infra.wanted import wanted, with_addresses
from trade2026.local.log_place import log_of
from trade2026.local.migration import files, journal
from trade2026.local.migration.log import Told, filled_partitions
from trade2026.local.migration.moves import (
    FILES,
    MOVED,
    Extent,
    MigrationRefused,
    Step,
    fate_of_stores,
    require_partitions,
)
from trade2026.local.preparation import prepare
from trade2026.local.state import StateDir
from trade2026.stack.manifest import ManifestError, load, loads
from trade2026.stack.stores import Stores

_NEEDED = ("kafka", "questdb", "seaweedfs")
"""Of what `--with-infra` starts."""


class Migration:
    """Moves one stack.

    Args:
        source: The state directory of the embedded stack.
        target: That of the stack which will go on.
        text: The manifest that will be used there.
        base: Directory against which paths in the manifest are meant.
        with_infra: Start what the manifest asks of others meanwhile.
        say: Told every step worth a line.
        told: Told how far long work is.

    Raises:
        MigrationRefused: what is here can't become what the manifest asks for.
        ManifestError, PlanError, RunError: the manifest is wrong.
    """

    def __init__(
        self,
        source: StateDir,
        target: StateDir,
        text: str,
        *,
        base: Path,
        port_offset: int = 0,
        with_infra: bool = False,
        say: Callable[[str], None] = lambda line: None,
        told: Told = lambda what, done, total: None,
    ) -> None:
        self.source, self.target = source, target
        self._base, self._port_offset, self._say, self._told = base, port_offset, say, told
        self._plan = prepare(text, base=base, port_offset=port_offset)
        self.stack = self._plan.stack
        here, there = self._stores_here(), loads(text).spec.stores
        self.fates = fate_of_stores(here, there)
        self.unused = [name for name in self.fates if getattr(here, name).type == getattr(there, name).type == "none"]
        """Stores that neither manifest has."""
        self.to_kafka = self._plan.releases[0].settings["bus"]["type"] == "kafka"
        if not self.to_kafka and MOVED not in self.fates.values():
            raise MigrationRefused("the manifest keeps everything embedded: copy it with `trade2026 backup` instead")
        self._components: list[Component] = self._wanted() if with_infra else []
        topics = msgspec.convert(self._plan.releases[0].settings["topics"], list[TopicConfig])
        self._topics = {topic.name: topic for topic in topics}

    # ── what is asked ───────────────────────────────────────────────────────────────────────

    def estimate(self) -> dict[str, Any]:
        """What would be moved. Nothing is changed, and no server is asked."""
        self._require_target()
        with self._source_held():
            extents = asyncio.run(self._extents())
            return {
                **self._names(),
                "log": [_shown(each) for each in extents if each.epoch or each.records] if self.to_kafka else [],
                "stores": self.fates,
                "unused": self.unused,
                "timeseries_bytes": self._series_bytes(),
                "files": len(kept := files.files_of(self.source.path, self._left_out)),
                "file_bytes": files.bytes_of(self.source.path, kept),
            }

    def run(self) -> dict[str, Any]:
        """Move what is missing, then compare all of it.

        Raises:
            MigrationRefused: as things are it can't be; the message says what to do.
            StateError: a stack runs here or there.
            BusError, StoreError, LakeError, InfraError, OSError: a server, or a disk, does not do its part now.
        """
        with self._held() as said, self._servers():
            self._require_ours(said["id"])
            steps = asyncio.run(self._look())
            if self._in_use(steps):
                self._say(
                    "a stack has been up on what was moved: it is compared as far as it was moved, and not changed"
                )
                return self._result({}, asyncio.run(self._compare_log(steps)))
            moved = {"records": asyncio.run(self._move_log(steps)), "rows": self._move_series(said["id"])}
            moved["lake"] = self._move_lake(said["id"])
            moved["files"] = files.copy(self.source.path, self.target.path, self._left_out, self._told)
            result = self._result(moved, self._compare(steps))
            self.target.write_running({**log_of(self._plan), "stack": self.stack})
            journal.write(self.target.path, {**said, "finished": True, "at": time.time()})
            self._series.remove()
            return result

    def verify(self) -> dict[str, Any]:
        """Compare what was moved, and move nothing. Raises as `run`."""
        if not journal.read(self.target.path):
            raise MigrationRefused(f"nothing was moved to {self.target.path}: leave out --verify")
        with self._held(), self._servers():
            steps = asyncio.run(self._look())
            if self._in_use(steps):
                return self._result({}, asyncio.run(self._compare_log(steps)))
            return self._result({}, self._compare(steps))

    # ── the log ─────────────────────────────────────────────────────────────────────────────

    async def _extents(self) -> list[Extent]:
        from trade2026.local.migration import log

        source = SqliteBus(self.source.path / "bus", self._topics.values())
        try:
            return await log.extents_of(source, list(self._topics.values()))
        finally:
            await source.close()

    def _require_partitions(self) -> None:
        filled = filled_partitions(self.source.path / "bus")
        here = {topic: 1 + max(n for name, n in filled if name == topic) for topic, _ in filled}
        there = {name: topic.partitions for name, topic in self._topics.items()}
        require_partitions(here, there, filled, {name for name, topic in self._topics.items() if topic.grows})

    async def _look(self) -> list[Step]:
        from trade2026.local.migration import log

        extents = await self._extents()
        if not self.to_kafka:
            return []
        async with self._buses() as (source, target):
            return [await log.look(source, target, extent) for extent in extents]

    async def _move_log(self, steps: Sequence[Step]) -> int:
        from trade2026.local.migration import log

        if not steps:
            return 0
        async with self._buses() as (source, target):
            moved = 0
            for step in steps:
                if step.missing:
                    self._say(f"{step.extent.label}: {step.missing:,} records to move")
                moved += await log.move(source, target, step, self._told)
            await log.copy_groups(source, target, [step.extent for step in steps])
        return moved

    async def _compare_log(self, steps: Sequence[Step]) -> list[dict[str, Any]]:
        from trade2026.local.migration import log

        if not steps:
            return []
        self._say("comparing the log")
        async with self._buses() as (source, target):
            compared = [await log.compare(source, target, step.extent, self._told) for step in steps]
        if await self._extents() != [step.extent for step in steps]:
            raise MigrationRefused(f"the log in {self.source.path} has grown meanwhile: is a process of it alive?")
        return [
            {**_shown(each.extent), "compared": each.records, "dropped": each.dropped, "sha256": each.sha256}
            for each in compared
            if each.extent.epoch or each.extent.records
        ]

    @contextlib.asynccontextmanager
    async def _buses(self) -> AsyncIterator[tuple[SqliteBus, Any]]:
        source = SqliteBus(self.source.path / "bus", self._topics.values())
        target = choice.open_bus(self._settings_of("oms"))
        try:
            yield source, target
        finally:
            await source.close()
            await target.close()

    # ── the stores ──────────────────────────────────────────────────────────────────────────

    @cached_property
    def _series(self) -> Any:
        from trade2026.local.migration import series

        return series.SeriesCopy(self.source.path / series.FILE, self.target.path / "migration")

    def _require_ours(self, move_id: str) -> None:
        """Before anything is moved: what is refused later would leave a log that is in the way."""
        if self.fates["timeseries"] == MOVED:
            from trade2026.local.migration import series

            series.require_ours(self._questdb(), self.stack, move_id)

    def _move_series(self, move_id: str) -> int:
        if self.fates["timeseries"] != MOVED:
            return 0
        from trade2026.local.migration import series

        settings = self._questdb()
        self._series.open()
        self._say(f"time series: {sum(self._series.rows.values()):,} rows")
        return series.move(self._series, settings, self.stack, move_id, self._told)

    def _move_lake(self, move_id: str) -> int:
        if self.fates["lake"] != MOVED:
            return 0
        from trade2026.local.migration import lake

        self._say("lake")
        return lake.move(self.source.path / "lake", self._bucket(), move_id, self._told)

    def _compare(self, steps: Sequence[Step]) -> list[dict[str, Any]]:
        """Everything."""
        compared = asyncio.run(self._compare_log(steps))
        if self.fates["timeseries"] == MOVED:
            from trade2026.local.migration import series

            self._say("comparing time series")
            self._series.open()
            series.compare(self._series, self._questdb(), self.stack, self._told)
        if self.fates["lake"] == MOVED:
            from trade2026.local.migration import lake

            self._say("comparing the lake")
            lake.compare(self.source.path / "lake", self._bucket(), self._told)
        files.compare(self.source.path, self.target.path, self._left_out, self._told)
        return compared

    def _questdb(self) -> Any:
        from trade2026.stores.timeseries.questdb_http import QuestDbSettings

        return msgspec.convert(self._settings_of("questdb_writer").stores["timeseries"], QuestDbSettings)

    def _bucket(self) -> Any:
        from trade2026.stores.objects import Objects
        from trade2026.stores.s3 import S3Settings

        bucket = msgspec.convert(self._settings_of("sink-ticks").stores["lake"], S3Settings)
        return Objects(bucket.url, bucket.options())

    def _series_bytes(self) -> int:
        path = self.source.path / "timeseries" / "series.duckdb"
        return path.stat().st_size if self.fates["timeseries"] == MOVED and path.exists() else 0

    @property
    def _left_out(self) -> list[str]:
        """Of the files: what is moved otherwise, or made anew."""
        found = ["bus"] if self.to_kafka else []
        if self.fates["timeseries"] != FILES:
            found += [f"timeseries/series.duckdb{suffix}" for suffix in ("", ".wal", ".spill")]
        return found + [name for name in ("lake", "analytics") if self.fates[name] != FILES]

    # ── where it is done ────────────────────────────────────────────────────────────────────

    def _require_source(self) -> None:
        if not (self.source.path / "VERSION").exists():
            raise MigrationRefused(
                f"{self.source.path} is no state directory: no stack was ever up there; name it with --from"
            )

    def _require_target(self) -> None:
        if self.target.path == self.source.path:
            raise MigrationRefused("--to is --from: what is moved is copied, and the old state stays for the way back")
        there = self.target.path.exists() and any(self.target.path.iterdir())
        if there and not journal.read(self.target.path):
            raise MigrationRefused(f"{self.target.path} holds something else: name another --to, or remove it")

    @contextlib.contextmanager
    def _source_held(self) -> Iterator[None]:
        """No stack runs there, and none can be brought up meanwhile."""
        self.source.open(self.stack)
        if (bus := self.source.running().get("bus", "embedded")) != "embedded":
            raise MigrationRefused(f"the log of {self.source.path} is on {bus}, and only an embedded one can be moved")
        self.source.lock()
        try:
            self._require_partitions()
            yield
        finally:
            self.source.unlock()

    @contextlib.contextmanager
    def _held(self) -> Iterator[dict[str, Any]]:
        target, source = self.target, self.source
        self._require_target()
        with self._source_held():
            target.open(self.stack)
            target.lock()
            try:
                yield journal.begin(target.path, source.path)
            finally:
                target.unlock()

    @contextlib.contextmanager
    def _servers(self) -> Iterator[None]:
        with ExitStack() as stack:
            for component in self._components:
                self._say(f"{component.name}: starting on {component.address}")
                stack.callback(component.stop)
                component.start()
            if self.to_kafka and (waits := asyncio.run(brokers.check(self._raw_settings("oms")))):
                raise BusError(waits)
            yield

    def _wanted(self) -> list[Component]:
        found = wanted(self._plan, self.target.path / "infra", self._port_offset)
        return [component for component in found if component.name in _NEEDED]

    def _raw_settings(self, service: str) -> dict[str, Any]:
        release = next(release for release in self._plan.releases if service in release.services)
        settings = {**release.settings, "state_dir": str(self.target.path)}
        settings["bus"] = brokers.with_files(settings["bus"], self._base)
        settings["stores"] = stores.with_files(settings["stores"], self._base)
        return with_addresses(settings, self._components)

    def _settings_of(self, service: str) -> ProcessSettings:
        return msgspec.json.decode(msgspec.json.encode(self._raw_settings(service)), type=ProcessSettings)

    def _stores_here(self) -> Stores:
        self._require_source()
        try:
            return load(self.source.path / "manifest.yaml").spec.stores
        except ManifestError as error:
            raise MigrationRefused(f"{self.source.path / 'manifest.yaml'} says what runs there: {error}") from error

    def _in_use(self, steps: Sequence[Step]) -> bool:
        """Whether a stack has been up there: its log tells, also of an `up` that never came so far as to write."""
        return any(step.in_use for step in steps) if self.to_kafka else "ports" in self.target.running()

    def _names(self) -> dict[str, Any]:
        return {"stack": self.stack, "from": str(self.source.path), "to": str(self.target.path)}

    def _result(self, moved: dict[str, Any], compared: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._names(), "moved": moved, "stores": self.fates, "log": compared, "in_use": not moved}


def _shown(extent: Extent) -> dict[str, Any]:
    return {
        "topic": extent.topic,
        "partition": extent.partition,
        "start": extent.start,
        "end": extent.end,
        "records": extent.records,
        "bytes": extent.bytes,
    }
