"""The AsyncAPI 3 document of every topic, from the types of its events: what other programs read a stack's log by."""

import json
from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args

import msgspec

from trade2026 import __version__
from trade2026.domain import events
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.kafka_topics import planned
from trade2026.kit.bus.port import TopicConfig
from trade2026.stack import facts

Members = UnionType | tuple[type, ...]

_NUMBER = {"type": "string", "pattern": "^[0-9]+$"}
_HEADERS: dict[str, Any] = {
    "type": "object",
    "required": ["seq", "epoch", "at", "schema", "version"],
    "properties": {
        "seq": {**_NUMBER, "description": "Position in the partition, without gaps."},
        "epoch": {**_NUMBER, "description": "Of the owner that wrote it; never falls."},
        "at": {
            **_NUMBER,
            "description": "Offset at which its writer expected it. A record whose offset is another one does not count.",
        },
        "schema": {"type": "string", "description": "Type of the event in `data`."},
        "version": {**_NUMBER, "description": "Of that type."},
        "traceparent": {"type": "string", "description": "W3C trace context, where there is a trace."},
    },
}
_ABOUT = (
    "Every topic of a stack, as it lies on Apache Kafka; an embedded log holds the same records without headers. "
    "Amounts are integers of 10⁻⁹, costs and fees of 10⁻¹⁸ where the event says so; times are nanoseconds since the "
    "epoch. Records with the header `kind: claim` have no value: a new owner begins. Nor have those with `kind: mark`, in "
    "a log that was moved from an embedded bus: the records after one begin at its `seq`, of its `epoch`. Readers ignore fields that they "
    "do not know; an event is only ever given more of them."
)


def members(of: Members) -> tuple[type, ...]:
    """The events of a topic."""
    return of if isinstance(of, tuple) else get_args(of)


def asyncapi_document(topics: Mapping[str, Members]) -> str:
    """Return the document as JSON.

    Args:
        topics: The events of each topic.
    """
    kinds = {kind.__name__: kind for of in topics.values() for kind in members(of)}
    _, schemas = msgspec.json.schema_components(
        [events.Envelope, *kinds.values()], ref_template="#/components/schemas/{name}"
    )
    schemas["Envelope"]["properties"]["data"] = {"type": "object", "description": "The event; each message says which."}
    document = {
        "asyncapi": "3.0.0",
        "info": {"title": "Trade2026", "version": __version__, "description": _ABOUT},
        "defaultContentType": "application/json",
        "servers": {"brokers": {"host": "127.0.0.1:9092", "protocol": "kafka", "description": "spec.bus.kafka"}},
        "channels": {topic.name: _channel(topic, topics[topic.name]) for topic in facts.TOPICS},
        "operations": {
            f"{topic.owner}.{topic.name}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "summary": f"{topic.owner} writes {topic.name}.",
            }
            for topic in facts.TOPICS
        },
        "components": {
            "messages": {name: _message(kind) for name, kind in kinds.items()},
            "schemas": {"Headers": _HEADERS, **schemas},
        },
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _channel(topic: facts.TopicFacts, of: Members) -> dict[str, Any]:
    config = planned(
        KafkaSettings(bootstrap_servers="", prefix=""),
        TopicConfig(
            name=topic.name,
            durable=topic.durable,
            segment_bytes_max=topic.segment_bytes_max,
            retention_bytes_max=topic.retention_bytes_max,
        ),
    )
    kept = "Durable: acknowledged means on the disk." if topic.durable else "Not durable: the newest may be lost."
    return {
        "address": f"{{stack}}.{topic.name}",
        "summary": f"Written by {topic.owner}. {kept}",
        "parameters": {"stack": {"description": "metadata.name of the TradingStack.", "default": "quickstart"}},
        "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in members(of)},
        "bindings": {
            "kafka": {
                "topicConfiguration": {
                    "cleanup.policy": [config["cleanup.policy"]],
                    "retention.ms": int(config["retention.ms"]),
                    "retention.bytes": int(config["retention.bytes"]),
                    "max.message.bytes": int(config["max.message.bytes"]),
                }
            }
        },
    }


def _message(kind: type) -> dict[str, Any]:
    name = kind.__name__
    return {
        "name": name,
        "title": name,
        "summary": " ".join((kind.__doc__ or "").partition("Attributes:")[0].split()),
        "headers": {"$ref": "#/components/schemas/Headers"},
        "payload": {
            "allOf": [
                {"$ref": "#/components/schemas/Envelope"},
                {"type": "object", "properties": {"data": {"$ref": f"#/components/schemas/{name}"}}},
            ]
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "What the event is about: an order, else an instrument."},
            }
        },
    }
