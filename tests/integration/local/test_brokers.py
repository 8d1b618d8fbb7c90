"""Brokers that do not answer are waited for, in a few plain words, and nothing is started meanwhile."""

import asyncio
import json
from pathlib import Path

from tests.waiting import until

from trade2026.local.infra.component import free_port
from trade2026.local.runner import Runner
from trade2026.local.state import StateDir, tail


async def test_without_a_broker_it_says_so_once_how_to_have_one_and_starts_nothing(
    state: StateDir, manifest: str, port_offset: int, tmp_path: Path, said: list[str]
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    asked = manifest + f'  bus: {{type: kafka, kafka: {{bootstrapServers: "{nowhere}"}}}}\n'
    state.lock()
    runner = Runner(state, asked, base=tmp_path, port_offset=port_offset, say=said.append)
    task = asyncio.create_task(runner.run())
    await until(lambda: runner.status()["waits"] or task.done(), "it waits")
    assert runner.status()["waits"] == said[0]
    assert not runner.processes
    answer = await runner._answer(json.dumps({"op": "apply", "manifest": asked, "base": str(tmp_path)}).encode())
    assert "nothing is started yet" in answer["error"]
    runner.request_stop()
    await task
    state.unlock()
    assert said == [
        f"Kafka does not answer on {nowhere}: nothing listens there; start it, or correct spec.bus.kafka.bootstrapServers; "
        "`trade2026 up` with --with-infra starts one here, too (it needs Java)",
        "waiting for it; nothing else is started yet",
        "stopped",
    ]


def test_the_end_of_a_log_is_words_and_no_json(tmp_path: Path) -> None:
    log = tmp_path / "orders.log"
    line = json.dumps({"level": "error", "message": "oms can't start: no room"})
    failed = json.dumps({"level": "error", "message": "failed", "error": "Traceback: …"})
    log.write_text(f"{line}\n{line}\nno JSON\n[1]\n{failed}\n")
    assert tail(log) == "error: oms can't start: no room\nno JSON\n[1]\nerror: failed\nTraceback: …"
