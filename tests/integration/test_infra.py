"""The components of others that a stack may ask for: started, killed, started again on what they kept, never orphaned."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from tests.infra import started
from tests.waiting import until

from trade2026.local.infra.clickhouse import ClickHouse
from trade2026.local.infra.component import HOST, Component
from trade2026.local.infra.kafka import Kafka
from trade2026.local.infra.questdb import QuestDb
from trade2026.local.infra.valkey import Valkey

ROOT = Path(__file__).parents[2]
EVERY = [ClickHouse, Kafka, Valkey]
"""QuestDB has a test of its own: each start takes seconds."""
STARTER = """
import sys, time
from pathlib import Path
from trade2026.local.infra.valkey import Valkey
component = Valkey(Path(sys.argv[1]))
component.start()
print(component.pid, flush=True)
time.sleep(600)
"""


def query(questdb: Component, sql: str) -> list[list[object]]:
    url = f"http://{questdb.address}/exec?{urllib.parse.urlencode({'query': sql})}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer).get("dataset", [])


def ask(valkey: Component, command: str, seconds: float = 60) -> bytes:
    with socket.create_connection((HOST, valkey.port), timeout=seconds) as connection:
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(4096)


@pytest.mark.parametrize("make", EVERY, ids=lambda make: make.name)
def test_it_answers_when_it_has_started_and_starts_again_where_it_was_after_kill_9(
    make: type[Component], tmp_path: Path
) -> None:
    component = started(make(tmp_path / make.name))
    try:
        pid, address = component.pid, component.address
        component.start()
        assert component.pid == pid, "a second start is no second process"
        assert component.answers()
        component.kill()
        assert component.pid is None and not component.answers()
        component.start()
        assert component.address == address and component.answers()
    finally:
        component.stop()
    assert component.pid is None and not component.answers()


async def test_questdb_keeps_its_rows_over_kill_9(tmp_path: Path) -> None:
    questdb = started(QuestDb(tmp_path / "questdb"))
    try:
        assert questdb.answers()
        query(questdb, "CREATE TABLE seen (at TIMESTAMP, price DOUBLE) TIMESTAMP(at) PARTITION BY DAY WAL")
        query(questdb, "INSERT INTO seen VALUES ('2013-11-25T00:00:00Z', 800.25)")
        await until(lambda: query(questdb, "SELECT price FROM seen") == [[800.25]], "the row")
        questdb.kill()
        questdb.start()
        await until(lambda: query(questdb, "SELECT price FROM seen") == [[800.25]], "the row")
    finally:
        questdb.stop()


def test_a_component_that_hangs_answers_when_it_may_go_on(valkey: Component, tmp_path: Path) -> None:
    own = started(Valkey(tmp_path / "valkey"))
    try:
        own.pause()
        with pytest.raises(TimeoutError):
            ask(own, "PING", seconds=0.2)
        assert ask(valkey, "PING") == b"+PONG\r\n", "the others are not touched"
        own.go_on()
        assert ask(own, "PING") == b"+PONG\r\n"
    finally:
        own.go_on()
        own.stop()


async def test_a_component_ends_with_the_process_that_started_it(valkey: Component, tmp_path: Path) -> None:
    del valkey  # skips where there is none
    pid = _started_by_another_that_is_killed(tmp_path / "valkey")
    await until(lambda: not _runs(pid), "the end of the component")


def _started_by_another_that_is_killed(folder: Path) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "services")}
    command = [sys.executable, "-c", STARTER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.send_signal(signal.SIGKILL)
    return pid


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
