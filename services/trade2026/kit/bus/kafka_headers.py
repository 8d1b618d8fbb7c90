"""What a record on Kafka says of its body, for consumers that are not ours: key, trace, type, version.

Our own readers need none of it. A body that is no envelope has neither key nor such headers.
"""

import msgspec

Header = tuple[str, bytes | None]


class _Data(msgspec.Struct, gc=False):
    type: str = ""
    instrument: str = ""
    symbol: str = ""


class _Head(msgspec.Struct, gc=False):
    """What is read of an envelope; the rest is passed over."""

    data: _Data
    correlation_id: str = ""
    traceparent: str = ""
    version: int = 1


_decode = msgspec.json.Decoder(_Head).decode


def describe(body: bytes) -> tuple[bytes | None, list[Header]]:
    """Return a record's key (what its event is about: an order, else an instrument) and its headers.

    `schema` is the event's type, `version` the one of that type, `traceparent` W3C's, if there is a trace.
    """
    try:
        head = _decode(body)
    except msgspec.DecodeError:
        return None, []
    data = head.data
    headers: list[Header] = [("schema", data.type.encode()), ("version", b"%d" % head.version)]
    if head.traceparent:
        headers.append(("traceparent", head.traceparent.encode()))
    key = head.correlation_id or data.instrument or data.symbol
    return key.encode() if key else None, headers


def size_of(key: bytes | None, headers: list[Header]) -> int:
    """Upper bound of the bytes that they take in a record."""
    return (len(key) + _LENGTH if key else 0) + sum(
        len(name) + len(value or b"") + 2 * _LENGTH for name, value in headers
    )


_LENGTH = 5
"""Of a length in front of a text, at most."""
