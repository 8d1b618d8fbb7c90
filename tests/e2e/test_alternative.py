"""Alternative data as a desk has it: named in the manifest, with a ClickHouse that is started beside the stack."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.stack import wait_for
from tests.e2e.stack import QUIET, WAIT_SECONDS, Stack
from tests.infra import require

from trade2026.local.infra.clickhouse import ClickHouse

NAME = "sink-alt"
STORES = '  stores: {analytics: {type: clickhouse, url: "clickhouse://127.0.0.1:9011"}}\n'
SCHEMA = {"type": "object", "additionalProperties": False, "properties": {"score": {"type": "number"}}}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    require(ClickHouse(tmp_path / "none"))
    manifest = tmp_path / "desk.yaml"
    manifest.write_text(QUIET.read_text().replace("spec:\n", f"spec:\n  services: {{{NAME}: {{}}}}\n{STORES}", 1))
    stack = Stack(manifest, tmp_path / "state", services=["hot_cache", NAME], with_infra=True)
    try:
        stack.up()
        yield stack
    finally:
        stack.close()


def test_records_reach_clickhouse_once_though_the_process_and_the_server_are_killed(stack: Stack) -> None:
    client = stack.http(NAME)
    assert client.post("/sources", json={"name": "mood", "schema": SCHEMA}).status_code == 200

    def send(*numbers: int) -> None:
        for number in numbers:
            record = {"record_id": f"r{number}", "ts_event": "2026-01-31T09:00:00Z", "data": {"score": number}}

            def kept(record: dict[str, object] = record) -> bool:
                answer = client.post("/sources/mood/records", json=record)
                return answer.status_code == 200 and answer.json()["status"] == "accepted"

            wait_for(f"record {number} is acknowledged", kept, WAIT_SECONDS)

    def count() -> list[list[int]]:
        answer = client.post("/sql", json={"query": "SELECT count(), uniqExact(record_id) FROM records FINAL"})
        return answer.json()["rows"] if answer.status_code == 200 else []

    send(*range(5))
    wait_for("they are in ClickHouse", lambda: count() == [[5, 5]], WAIT_SECONDS)
    old = stack.kill_process("data")
    stack.wait_restarted("data", old)
    send(*range(3, 8))
    clickhouse = stack.status()["infra"][0]["pid"]
    os.kill(clickhouse, signal.SIGKILL)
    send(*range(8, 12))
    wait_for("all are in ClickHouse", lambda: count() == [[12, 12]], WAIT_SECONDS)
    wait_for("nothing is unwell", lambda: client.get("/health").json()["status"] == "ok", WAIT_SECONDS)
