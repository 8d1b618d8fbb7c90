"""What consumers that are not ours find in a topic on Kafka: keys and headers, read with a plain client."""

from uuid import uuid4

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from trade2026.domain import events as ev
from trade2026.domain.market import Trade
from trade2026.kit.bus.kafka import KafkaBus
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.port import TopicConfig
from trade2026.local.infra.component import Component

ORDERS, TICKS = "orders.events", "market.ticks"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CANCELED = ev.OrderCanceled(order_id="O-1")
TRADE = Trade(instrument="BTCUSDT.SIM", trade_id="1", price=1, quantity=1)


def envelope(event: ev.AnyEvent, *, order_id: str = "", traceparent: str = "") -> bytes:
    return ev.encode(ev.Envelope(0, 1, 1, 1, "desk", "local", order_id, "", traceparent, event))


async def read_all(address: str, topic: str) -> list[ConsumerRecord]:
    """With nothing of ours."""
    consumer = AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)
    await consumer.start()
    try:
        where = TopicPartition(topic, 0)
        consumer.assign([where])
        await consumer.seek_to_beginning(where)
        end = (await consumer.end_offsets([where]))[where]
        found: list[ConsumerRecord] = []
        while await consumer.position(where) < end:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                found += records
        return found
    finally:
        await consumer.stop()


async def test_a_plain_consumer_sees_what_each_record_is_about_its_type_its_version_and_its_trace(
    kafka: Component,
) -> None:
    prefix = uuid4().hex
    settings = KafkaSettings(bootstrap_servers=kafka.address, prefix=prefix)
    bus = KafkaBus(settings, [TopicConfig(name=ORDERS), TopicConfig(name=TICKS, durable=False)])
    orders, ticks = await bus.claim(ORDERS, 0, "oms"), await bus.claim(TICKS, 0, "normalizer")
    await orders.append([envelope(CANCELED, order_id="O-1", traceparent=TRACEPARENT), b"no envelope"])
    await ticks.append([envelope(TRADE)])
    await bus.close()

    claim, canceled, strange = await read_all(kafka.address, f"{prefix}.{ORDERS}")
    assert dict(claim.headers)["kind"] == b"claim"
    assert canceled.key == b"O-1"
    assert dict(canceled.headers) == {
        "seq": b"0",
        "epoch": b"1",
        "at": b"%d" % canceled.offset,
        "schema": b"OrderCanceled",
        "version": b"1",
        "traceparent": TRACEPARENT.encode(),
    }
    assert msgspec.json.decode(canceled.value)["data"] == {"type": "OrderCanceled", "order_id": "O-1"}
    assert (strange.key, [name for name, _ in strange.headers]) == (None, ["seq", "epoch", "at"])
    _, trade = await read_all(kafka.address, f"{prefix}.{TICKS}")
    headers = dict(trade.headers)
    assert (trade.key, headers["schema"], "traceparent" in headers) == (b"BTCUSDT.SIM", b"Trade", False)
