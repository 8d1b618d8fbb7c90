"""`trade2026 migrate` in this process: a state directory with a log, rows and files becomes one on real servers."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from tests.e2e.stack import QUIET
from typer.testing import CliRunner

from trade2026.cli.app import app
from trade2026.cli.output import CliError
from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.port import TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.local.infra.component import Component
from trade2026.local.infra.kafka import Kafka
from trade2026.local.infra.questdb import QuestDb
from trade2026.local.infra.valkey import Valkey
from trade2026.local.migration import journal
from trade2026.local.state import StateDir
from trade2026.stores.timeseries.duckdb_store import DuckDbStore
from trade2026.stores.timeseries.port import Batch
from trade2026.stores.timeseries.questdb_http import QuestDbSettings
from trade2026.stores.timeseries.questdb_store import QuestDbStore, set_aside

ORDERS = TopicConfig(name="orders.events")
TICK = (1_700_000_000 * 10**9, "BTCUSDT.SIM", "t1", "BUY", 45_000 * 10**9, 10**9, 1, None, None, 7)


def manifest_of(path: Path, name: str, **spec: Any) -> Path:
    document = yaml.safe_load(QUIET.read_text())
    document["metadata"]["name"] = name
    document["spec"] |= spec
    path.write_text(yaml.safe_dump(document))
    return path


def append(bus: SqliteBus | KafkaBus, count: int) -> None:
    """As one more owner."""

    async def write() -> None:
        writer = await bus.claim("orders.events", 0, "test")
        body = b'{"epoch":%d,"ts_init":%d,"data":{"type":"T"}}' % (writer.epoch, time.time_ns())
        await writer.append([body] * count)
        await bus.close()

    asyncio.run(write())


def contents(folder: Path) -> dict[Path, bytes]:
    """Of all files but the lock, and those that SQLite makes beside a journal that it reads."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock" and not path.name.endswith(("-wal", "-shm"))
    }


class Desk:
    """A state directory as an embedded stack has left it, and a manifest for servers."""

    def __init__(self, folder: Path, kafka: Component, questdb: Component) -> None:
        self.name = f"t{uuid4().hex[:12]}"
        self.here, self.there, self.kafka = folder / "here", folder / "there", kafka
        state = StateDir(self.here)
        state.open(self.name)
        state.write_running({"bus": "embedded", "stack": self.name})
        manifest_of(self.here / "manifest.yaml", self.name)
        self.trade(20)
        with_rows = DuckDbStore(self.here / "timeseries" / "series.duckdb")
        with_rows.write(Batch({"ticks": [TICK]}, {("market.ticks", 0): 1}))
        with_rows.close()
        (self.here / "snapshots").mkdir()
        (self.here / "snapshots" / "1.snapshot").write_text("folded")
        bus = {"type": "kafka", "kafka": {"bootstrapServers": kafka.address}}
        stores = {
            "timeseries": {"type": "questdb", "url": f"http://{questdb.address}"},
            "cache": {"type": "valkey", "url": "redis://127.0.0.1:1"},
        }
        self.manifest = manifest_of(folder / "servers.yaml", self.name, bus=bus, stores=stores)

    def trade(self, count: int) -> None:
        append(SqliteBus(self.here / "bus", [ORDERS]), count)

    def trade_there(self, count: int) -> None:
        append(KafkaBus(KafkaSettings(bootstrap_servers=self.kafka.address, prefix=self.name), [ORDERS]), count)

    def migrate(self, *more: str, manifest: Path | None = None) -> dict[str, Any]:
        words = ["-f", str(manifest or self.manifest), "--from", str(self.here), "--to", str(self.there)]
        done = CliRunner().invoke(app, ["migrate", *words, "--json", *more])
        if done.exception is not None:
            raise done.exception
        return json.loads(done.stdout)

    def text(self, *more: str) -> str:
        words = ["-f", str(self.manifest), "--from", str(self.here), "--to", str(self.there)]
        return CliRunner().invoke(app, ["migrate", *words, *more]).stdout


@pytest.fixture
def desk(tmp_path: Path, kafka: Component, questdb: Component) -> Desk:
    set_aside(QuestDbSettings(url=f"http://{questdb.address}"))
    return Desk(tmp_path, kafka, questdb)


@pytest.fixture
def refused(desk: Desk) -> Callable[..., str]:
    def ask(*more: str, manifest: Path | None = None) -> str:
        with pytest.raises(CliError) as told:
            desk.migrate(*more, manifest=manifest)
        return str(told.value)

    return ask


def test_a_dry_run_says_what_would_be_moved_and_changes_nothing(desk: Desk) -> None:
    before = contents(desk.here)
    said = desk.migrate("--dry-run")
    assert [(each["topic"], each["records"]) for each in said["log"]] == [("orders.events", 20)]
    assert (said["files"], said["stores"]["timeseries"]) == (1, "moved")
    assert "orders.events          0     0  20       20" in desk.text("--dry-run")
    assert not desk.there.exists() and contents(desk.here) == before


def test_everything_is_moved_once_and_compared(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    infra: list[str] = []
    for kind in (Kafka, QuestDb, Valkey):  # those that are to be started run already, on the same ports
        monkeypatch.setattr(kind, "start", lambda self: infra.append(f"start {self.name}"))
        monkeypatch.setattr(kind, "stop", lambda self: infra.append(f"stop {self.name}"))
    assert desk.migrate("--with-infra")["moved"] == {"records": 20, "rows": 1, "lake": 0, "files": 1}
    assert journal.read(desk.there)["finished"] and (desk.there / "snapshots" / "1.snapshot").read_text() == "folded"
    assert desk.migrate()["moved"] == {"records": 0, "rows": 0, "lake": 0, "files": 0}
    assert infra == ["start kafka", "start questdb", "stop questdb", "stop kafka"]
    said = desk.text("--verify")
    assert "orders.events          0     0  20       20        20        0" in said
    assert f"trade2026 up -f {desk.manifest} --state-dir {desk.there}" in said
    assert f"--state-dir {desk.there} --with-infra\n" in desk.text("--with-infra")


def test_what_came_since_is_brought_over_until_a_stack_was_up_there(desk: Desk, refused: Callable[..., str]) -> None:
    desk.migrate()
    desk.trade(5)
    rows = DuckDbStore(desk.here / "timeseries" / "series.duckdb")
    rows.write(Batch({"ticks": [(*TICK[:2], "t2", *TICK[3:])]}, {("market.ticks", 0): 2}))
    rows.close()
    assert desk.migrate()["moved"] == {"records": 5, "rows": 2, "lake": 0, "files": 0}
    StateDir(desk.there).write_running({"bus": "kafka", "stack": desk.name, "ports": {"oms": 1}})
    desk.trade(2)
    assert desk.migrate()["moved"]["records"] == 2, "an `up` there that never wrote anything is no stack that was up"
    desk.trade_there(1)
    assert desk.migrate()["in_use"]
    assert desk.migrate("--verify")["in_use"]
    desk.trade(9)
    assert "is another record" in refused()


def test_what_can_not_be_is_refused_with_what_to_do(desk: Desk, refused: Callable[..., str], tmp_path: Path) -> None:
    assert "name one of them" in refused("--dry-run", "--verify")
    assert "leave out --verify" in refused("--verify")
    assert "copy it with `trade2026 backup`" in refused(manifest=desk.here / "manifest.yaml")
    other = manifest_of(tmp_path / "other.yaml", "other", **yaml.safe_load(desk.manifest.read_text())["spec"])
    assert f"holds the stack '{desk.name}', not 'other'" in refused(manifest=other)

    split = yaml.safe_load(desk.manifest.read_text())["spec"]
    split["bus"]["partitions"] = 4
    four = manifest_of(tmp_path / "four.yaml", desk.name, **split)
    assert "has 1 partition(s) and would have 4: a log can't be split anew" in refused(manifest=four)
    assert not desk.there.exists(), "nor is a topic made: what is refused must not be in the way of what is right"

    desk.there.mkdir()
    (desk.there / "something").touch()
    assert "holds something else: name another --to" in refused()
    assert "holds something else: name another --to" in refused("--dry-run"), "it says what the move itself would"
    (desk.there / "something").unlink()

    holder = StateDir(desk.here)
    holder.lock()
    assert "Stop it with `trade2026 down" in refused()
    holder.unlock()

    holder.write_running({"bus": "kafka", "stack": desk.name})
    assert "only an embedded one can be moved" in refused()
    (desk.here / "VERSION").unlink()
    assert "no stack was ever up there; name it with --from" in refused()


def test_a_questdb_that_holds_something_else_is_refused_before_anything_is_moved(
    desk: Desk, refused: Callable[..., str], questdb: Component
) -> None:
    settings = QuestDbSettings(url=f"http://{questdb.address}")
    other = QuestDbStore(settings, desk.name)
    other.write(Batch({"ticks": [TICK]}))
    other.close()
    assert "holds 1 rows that are not of this move" in refused()
    set_aside(settings)
    assert desk.migrate()["moved"]["records"] == 20


def test_brokers_that_are_away_are_named_and_it_goes_on_when_they_are_back(
    desk: Desk, refused: Callable[..., str], tmp_path: Path
) -> None:
    spec = yaml.safe_load(desk.manifest.read_text())["spec"]
    spec["bus"]["kafka"]["bootstrapServers"] = "127.0.0.1:1"
    away = manifest_of(tmp_path / "away.yaml", desk.name, **spec)
    assert "Kafka does not answer on 127.0.0.1:1" in refused(manifest=away)
    assert "is not finished" in journal.unfinished(desk.there)
    assert desk.migrate()["moved"]["records"] == 20
