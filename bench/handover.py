"""`python -m bench.handover`: how long orders take while order services come, go and die on Kafka; see README.md.

Orders leave on schedule whatever the answers do, for accounts of every partition, each to the first replica. One that is
answered 429 or 503, or not at all, is sent again by the same id after 20 ms; its time counts from when it was due.
"""

import argparse
import asyncio
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.entry import MANIFEST, ORDER
from bench.stack import LocalStack, wait_for

PARTITIONS = 6
ACCOUNTS = [f"a{number}" for number in range(24)]
SERVICES = ["oms", "risk"]
_AGAIN_SECONDS = 0.02
_GIVE_UP_SECONDS = 60.0


@dataclass
class Taken:
    """One order."""

    phase: str
    seconds: float
    tries: int


def manifest(path: Path, replicas: int) -> Path:
    """The stack of the benchmarks on Kafka, with so many order services."""
    bus = f'{{type: kafka, partitions: {PARTITIONS}, kafka: {{bootstrapServers: "127.0.0.1:9092"}}}}'
    services = f"{{oms: {{replicas: {{min: {replicas}}}}}}}"
    path.write_text(f"{MANIFEST.read_text().rstrip()}\n  bus: {bus}\n  services: {services}\n")
    return path


class Sender:
    """Sends orders on schedule, and keeps how long each took in which phase."""

    def __init__(self, url: str, rate: int) -> None:
        self.phase, self.taken = "", list[Taken]()
        self._url, self._rate = url, rate
        self._under_way: set[asyncio.Task[None]] = set()
        self._stop = False

    async def run(self) -> None:
        """Send until `end`."""
        loop, number = asyncio.get_running_loop(), 0
        begin = loop.time()
        while not self._stop:
            due = begin + number / self._rate
            await asyncio.sleep(max(0.0, due - loop.time()))
            task = asyncio.create_task(self._send(number, due))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            number += 1

    async def end(self) -> None:
        """Send no more, and wait for all answers."""
        self._stop = True
        await asyncio.gather(*self._under_way)

    async def _send(self, number: int, due: float) -> None:
        from trade2026.kit.calls import post

        loop, phase, tries = asyncio.get_running_loop(), self.phase, 0
        order = {**ORDER, "account": ACCOUNTS[number % len(ACCOUNTS)], "client_order_id": f"h{number}"}
        body = json.dumps(order).encode()
        while True:
            tries += 1
            answer = await post(f"{self._url}/orders", body, seconds_max=5.0)
            if answer.ok:
                self.taken.append(Taken(phase, loop.time() - due, tries))
                return
            assert answer.status in (0, 429, 503), answer
            assert loop.time() - due < _GIVE_UP_SECONDS, answer
            await asyncio.sleep(_AGAIN_SECONDS)


async def measure(where: Path, offset: int, rate: int, seconds: float) -> list[dict[str, Any]]:
    """Every phase in a row of the table."""
    one, three = manifest(where / "one.yaml", 1), manifest(where / "three.yaml", 3)
    with LocalStack(one, where / "state", port_offset=offset, services=SERVICES, with_infra=True) as stack:
        sender = Sender(f"http://127.0.0.1:{stack.port('oms')}", rate)
        sending = asyncio.create_task(sender.run())

        async def quiet(phase: str) -> None:
            sender.phase = phase
            await asyncio.sleep(seconds)

        async def change(phase: str, path: Path) -> None:
            sender.phase = phase
            await asyncio.to_thread(stack.command, "apply", "-f", str(path), "--state-dir", str(stack.state_dir))

        async def kill(phase: str) -> None:
            sender.phase = phase
            before = await asyncio.to_thread(stack.kill, "orders-1")
            await asyncio.to_thread(wait_for, "it runs again", lambda: _is_back(stack, before), 60.0)

        await quiet("one")
        await change("1 to 3", three)
        await quiet("three")
        await kill("one of three killed")
        await quiet("three again")
        await change("3 to 1", one)
        await quiet("one again")
        await sender.end()
        await sending
    return [_row(phase, sender.taken) for phase in dict.fromkeys(each.phase for each in sender.taken)]


def _is_back(stack: LocalStack, before: int) -> bool:
    status = stack.status()
    pids = {each["name"]: each["pid"] for each in status.get("releases", [])}
    return bool(status.get("ready")) and pids.get("orders-1") not in (None, before)


def _row(phase: str, taken: list[Taken]) -> dict[str, Any]:
    mine = [each for each in taken if each.phase == phase]
    times = sorted(each.seconds for each in mine)

    def at(q: float) -> float:
        return round(times[min(len(times) - 1, int(q * len(times)))] * 1e3, 1)

    again = sum(each.tries > 1 for each in mine)
    return {
        "phase": phase,
        "orders": len(mine),
        "sent_again": again,
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.handover", description=__doc__)
    parser.add_argument("--rate", type=int, default=200, help="orders a second")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase in which nothing changes")
    parser.add_argument("--port-offset", type=int, default=20_000)
    options = parser.parse_args()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="trade2026-bench-") as where:
        rows = asyncio.run(measure(Path(where), options.port_offset, options.rate, options.seconds))
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    print(f"{time.perf_counter() - begin:.0f} s, {options.rate} orders a second, {PARTITIONS} partitions")


if __name__ == "__main__":
    main()
