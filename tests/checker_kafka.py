"""Reads a partition whole through a plain client and proves what it must be, without a line of the bus's own code."""

from dataclasses import dataclass, field

from confluent_kafka import Consumer, TopicPartition

_READ_SECONDS_MAX = 60.0


@dataclass
class RawLog:
    """What counts in a partition, and how much does not."""

    bodies: list[bytes] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    first: int = 0
    """Position of the first body: not 0 only in a copy of a log whose beginning was dropped."""
    claims: int = 0
    marks: int = 0
    ignored: int = 0
    end: int = 0


def read_raw(address: str, topic: str, partition: int = 0) -> RawLog:
    """Read everything; raises `AssertionError` at the first record that must not be.

    Positions have no gap, epochs never fall, no record counts without a claim of its epoch in front of it, and each
    epoch was claimed by exactly one. In a log that was copied from another bus marks stand in the place of claims.
    """
    consumer = Consumer({"bootstrap.servers": address, "group.id": "checker", "enable.auto.commit": False})
    log, epoch = RawLog(), 0
    try:
        where = TopicPartition(topic, partition, 0)
        _, log.end = consumer.get_watermark_offsets(where, timeout=_READ_SECONDS_MAX)
        consumer.assign([where])
        offset = -1
        while offset + 1 < log.end:
            message = consumer.poll(_READ_SECONDS_MAX)
            assert message is not None and message.error() is None, f"offset {offset + 1} can't be read: {message}"
            assert message.offset() == offset + 1, f"offset {offset + 1} is gone"
            offset = message.offset()
            headers = dict(message.headers() or [])
            if headers.get("kind") == b"claim":
                counts = int(headers["epoch"]) == epoch + 1
                epoch += counts
                log.claims += counts
                log.ignored += not counts
            elif int(headers["at"]) != offset:
                log.ignored += 1
            elif headers.get("kind") == b"mark":
                assert log.claims == 0, f"offset {offset}: {headers} after a claim"
                assert int(headers["epoch"]) >= epoch, f"offset {offset}: {headers}, the epoch was {epoch}"
                log.first = log.first if log.bodies else int(headers["seq"])
                assert int(headers["seq"]) == log.first + len(log.bodies), f"offset {offset}: {headers}"
                epoch = int(headers["epoch"])
                log.marks += 1
            else:
                expected = log.first + len(log.bodies)
                assert int(headers["seq"]) == expected, f"offset {offset}: {headers}, not {expected}"
                assert int(headers["epoch"]) == epoch, f"offset {offset}: {headers}, the owner's epoch is {epoch}"
                log.bodies.append(message.value())
                log.epochs.append(epoch)
    finally:
        consumer.close()
    return log
