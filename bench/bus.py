"""`python -m bench.bus`: from an append to its durable acknowledgement, and to a reader, on every bus.

Beside them the plain clients, at equal durability (`acks=all`, one broker that fsyncs each batch): each keeps as many
messages in flight; ours sends what waits as one batch, theirs batches of up to 1 MB as they choose. Kafka's broker runs on the
same machine.
"""

import argparse
import asyncio
import json
import resource
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_client import KafkaClient
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.memory import MemoryBus
from trade2026.kit.bus.port import Bus, TopicConfig
from trade2026.kit.bus.sqlite import SqliteBus
from trade2026.local.infra.kafka import Kafka

TOPIC = TopicConfig(name="orders.events")
BODY = b'{"seq":0,"epoch":1,"event":{"type":"OrderAccepted"},"padding":"%s"}' % (b"x" * 430)
IN_FLIGHT = (1, 64, 1_000)
Send = Callable[[], Awaitable[Any]]


def quantile(values: list[float], share: float) -> float:
    """In milliseconds."""
    return round(sorted(values)[int(share * (len(values) - 1))] * 1000, 2)


async def load(send: Send, in_flight: int, seconds: float) -> dict[str, Any]:
    """Keep so many under way for a while."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    before = resource.getrusage(resource.RUSAGE_SELF)

    async def one() -> None:
        while (begun := time.perf_counter()) < end:
            await send()
            times.append(time.perf_counter() - begun)

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(in_flight)))
    took = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "per_s": round(len(times) / took),
        "p50_ms": quantile(times, 0.5),
        "p99_ms": quantile(times, 0.99),
        "cpu_us": round(cpu / len(times) * 1e6, 1),
    }


async def measure(bus: Bus, seconds: float) -> dict[str, Any]:
    """One of ours: appends, the way to a reader, and reading all of it again."""
    rows: dict[str, Any] = {}
    writer = await bus.claim(TOPIC.name, 0, "bench")
    for in_flight in IN_FLIGHT:
        rows[f"{in_flight} in flight"] = await load(lambda: writer.append([BODY]), in_flight, seconds)
    reader = await bus.open_reader(TOPIC.name, 0, writer.next_seq)
    seen: list[float] = []
    for _ in range(200):
        begun = time.perf_counter()
        writer.append([BODY])
        await reader.read()
        seen.append(time.perf_counter() - begun)
    rows["append to reader"] = {"p50_ms": quantile(seen, 0.5), "p99_ms": quantile(seen, 0.99)}
    position, end = 0, writer.next_seq
    started, cpu = time.perf_counter(), time.process_time()
    while position < end:
        position += len(await bus.read(TOPIC.name, 0, position, 2_000))
    rows["read again"] = {
        "per_s": round(end / (time.perf_counter() - started)),
        "cpu_us": round((time.process_time() - cpu) / end * 1e6, 1),
    }
    await bus.close()
    return rows


async def _topic(address: str) -> str:
    """A new topic, made as ours are."""
    settings = KafkaSettings(bootstrap_servers=address, prefix=f"b{uuid.uuid4().hex[:8]}")
    client = KafkaClient(settings, [TOPIC])
    await client.latest(TOPIC.name, 0)
    await client.close()
    return client.topic(TOPIC.name)


async def measure_aiokafka(address: str, seconds: float) -> dict[str, Any]:
    """Plain aiokafka."""
    from aiokafka import AIOKafkaProducer

    topic = await _topic(address)
    producer = AIOKafkaProducer(
        bootstrap_servers=address, acks="all", enable_idempotence=True, max_batch_size=1_000_000
    )
    await producer.start()
    rows = {
        f"{n} in flight": await load(lambda: producer.send_and_wait(topic, BODY, partition=0), n, seconds)
        for n in IN_FLIGHT
    }
    await producer.stop()
    return rows


async def measure_confluent(address: str, seconds: float, linger_ms: int) -> dict[str, Any]:
    """Plain confluent-kafka: its callbacks are brought to the loop by a thread that polls."""
    from confluent_kafka import Producer

    topic = await _topic(address)
    producer = Producer(
        {"bootstrap.servers": address, "acks": "all", "enable.idempotence": True, "linger.ms": linger_ms}
    )
    loop, done = asyncio.get_running_loop(), False

    def poll() -> None:
        while not done:
            producer.poll(0.1)

    async def send() -> None:
        acknowledged: asyncio.Future[None] = loop.create_future()
        producer.produce(
            topic,
            BODY,
            partition=0,
            on_delivery=lambda *_: loop.call_soon_threadsafe(acknowledged.set_result, None),
        )
        await acknowledged

    polling = loop.run_in_executor(None, poll)
    rows = {f"{n} in flight": await load(send, n, seconds) for n in IN_FLIGHT}
    done = True
    await polling
    return rows


async def run(where: Path, address: str, seconds: float) -> dict[str, Any]:
    """Every bus and both peers."""
    settings = KafkaSettings(bootstrap_servers=address, prefix=f"b{uuid.uuid4().hex[:8]}")
    await measure_aiokafka(address, seconds / 2)  # the broker compiles what it runs often
    return {
        "memory": await measure(MemoryBus([TOPIC]), seconds / 4),
        "sqlite": await measure(SqliteBus(where / "bus", [TOPIC]), seconds),
        "kafka": await measure(KafkaBus(settings, [TOPIC]), seconds),
        "aiokafka": await measure_aiokafka(address, seconds),
        "confluent, linger 0": await measure_confluent(address, seconds, 0),
        "confluent, linger 5": await measure_confluent(address, seconds, 5),
    }


def main() -> None:
    """Measure, print a line a row, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="Length of each measurement.")
    parser.add_argument("--json", type=Path, help="Write all rows there.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trade2026-bench-") as folder:
        broker = Kafka(Path(folder) / "kafka", heap_mb=1024)
        broker.start()
        try:
            rows = asyncio.run(run(Path(folder), broker.address, options.seconds))
        finally:
            broker.stop()
    for bus, found in rows.items():
        for name, row in found.items():
            print(f"{bus:19} {name:18} " + "  ".join(f"{key} {value:>10,}" for key, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
