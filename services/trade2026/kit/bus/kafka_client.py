"""Requests to Kafka brokers: topics, one batch to the end of a partition, fetches, offsets of groups.

It stands on aiokafka's connections and wire types, below its producer and consumer: those retry, batch and
prefetch by themselves, and an owner must know of each append when it was sent, where it landed, or that nobody can
tell.
"""

import asyncio
import contextlib
import time
from collections.abc import Hashable, Iterable
from typing import Any

import msgspec
from aiokafka import errors
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.admin import DeleteRecordsRequest
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition

from trade2026.kit.bus.kafka_connect import bootstrap, make
from trade2026.kit.bus.kafka_log import decode_keys, encode_key
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.kafka_topics import (
    APPEND_BYTES_MAX,
    BEGUN,
    compare,
    namespace_key,
    namespace_of,
    require_begun,
    require_ours,
)
from trade2026.kit.bus.kafka_topics import make as make_topics
from trade2026.kit.bus.port import BusCorrupt, BusError, BusRefused, BusUncertain, TopicConfig

_REQUEST_SECONDS_MAX = 5.0
_POLL_SECONDS = 2.0
"""How long a broker holds the question of a reader that is at the end."""
_RETRY_SECONDS = 0.05
_EARLIEST, _LATEST = -2, -1
_MOVED = (
    errors.NotLeaderForPartitionError,
    errors.LeaderNotAvailableError,
    errors.UnknownTopicOrPartitionError,
    errors.GroupCoordinatorNotAvailableError,
    errors.GroupLoadInProgressError,
    errors.NotCoordinatorForGroupError,
)
"""Nothing was done: another broker is to be asked, or the same a little later."""


class Fetched(msgspec.Struct, frozen=True):
    """What a broker sent of a partition."""

    data: bytes
    end: int
    """One past the last offset that is replicated."""
    start: int
    """The oldest offset kept."""
    out_of_range: bool = False


class KafkaClient:
    """Connections to the brokers of one process. Made in a moment; it connects when it is first asked."""

    def __init__(self, settings: KafkaSettings, topics: Iterable[TopicConfig]) -> None:
        self.settings = settings
        self._topics = list(topics)
        self._client: AIOKafkaClient | None = None
        self._starting = asyncio.Lock()
        self.drift: list[str] = []
        """How topics are kept differently than planned, as it was last seen."""
        self._closed = False

    def topic(self, name: str) -> str:
        """A topic's name there."""
        return f"{self.settings.prefix}.{name}"

    async def connect(self) -> None:
        """Connect now, and see that the topics are there. Raises `BusRefused` or `BusError`."""
        await self._started()

    async def produce(self, topic: str, partition: int, batch: bytes, lane: Hashable) -> int:
        """Append one batch; return the offset of its first record once all in-sync replicas have it.

        Args:
            lane: Requests with the same one go over one connection, in order.

        Raises:
            BusUncertain: nobody knows whether it was appended.
        """
        where = f"{topic}/{partition}"
        name = self.topic(topic)
        try:
            response = await self._send(name, partition, _produce_request(name, partition, batch), lane)
        except (errors.KafkaError, OSError, BusError) as error:
            raise BusUncertain(f"{where}: no answer to an append: {error!r}; the log must be read again") from error
        ((_, ((_, code, offset, *_),)),) = response.topics
        if code:
            raise BusUncertain(f"{where}: not appended as asked: {errors.for_code(code).__name__}")
        return offset

    async def fetch(
        self, topic: str, partition: int, offset: int, bytes_max: int, *, lane: Hashable = 0, wait: bool = False
    ) -> Fetched:
        """What there is from an offset on; at least one batch if there is one.

        Args:
            wait: For the next record, up to seconds, if there is none.
        """
        name = self.topic(topic)
        request = _fetch_request(name, partition, offset, bytes_max, _POLL_SECONDS if wait else 0)
        response = await self._ask(name, partition, request, lane)
        ((_, ((_, code, end, _, start, *_, data),)),) = response.topics
        kind = errors.for_code(code)
        if kind is errors.OffsetOutOfRangeError:
            return Fetched(b"", end, await self.earliest(topic, partition), True)
        _raise(kind, name, partition)
        return Fetched(data or b"", end, start)

    async def earliest(self, topic: str, partition: int) -> int:
        """The oldest offset kept."""
        return await self._offset(topic, partition, _EARLIEST)

    async def latest(self, topic: str, partition: int) -> int:
        """One past the last offset that is replicated."""
        return await self._offset(topic, partition, _LATEST)

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Delete what lies before an offset; nothing happens if that is gone already.

        Raises:
            BusRefused: the brokers don't allow it.
            BusError: nobody knows whether it was deleted.
        """
        name = self.topic(topic)
        request = DeleteRecordsRequest([(name, [(partition, offset)])], int(_REQUEST_SECONDS_MAX * 1000))
        kind = errors.for_code(_partition_error(await self._ask(name, partition, request, 0)))
        if kind in (errors.TopicAuthorizationFailedError, errors.PolicyViolationError):
            raise BusRefused(
                f"{name}/{partition}: its beginning was not dropped ({kind.__name__}): allow this user DELETE on the "
                "topic, whose cleanup.policy must be delete"
            )
        if kind is not errors.NoError:
            raise BusError(f"{name}/{partition}: its beginning was not dropped: {kind.__name__}")

    async def commit(self, group: str, topic: str, partition: int, offset: int, note: str) -> None:
        """Remember an offset, and a note beside it, for a group without members. Raises `BusUncertain`."""
        name = self.topic(topic)
        request = OffsetCommitRequest(self.topic(group), -1, "", -1, [(name, [(partition, offset, note)])])
        try:
            response = await self._ask_coordinator(group, request)
        except (BusError, errors.KafkaError) as error:
            raise BusUncertain(f"offsets of {group}: {error}") from error
        ((_, ((_, code),)),) = response.topics
        if code:
            raise BusUncertain(f"offsets of {group}: {errors.for_code(code).__name__}")

    async def committed(self, group: str, topic: str, partition: int) -> str:
        """The note beside the group's offset; "" without one."""
        name = self.topic(topic)
        response = await self._ask_coordinator(group, OffsetFetchRequest(self.topic(group), [(name, [partition])]))
        ((_, ((_, offset, note, code),)),) = response.topics
        _raise(errors.for_code(code), name, partition)
        return note if offset >= 0 else ""

    async def begun(self, topic: str, partition: int) -> bool:
        """Whether a partition was ever claimed, by anybody. Raises `BusError`."""
        try:
            return f"{topic}/{partition}" in await self._begun(await self._started())
        except (errors.KafkaError, OSError) as error:
            raise BusError(f"{topic}/{partition}: whether it was begun can't be asked now: {error!r}") from error

    async def begin(self, topic: str, partition: int) -> None:
        """Remember that a partition was claimed. Raises `BusUncertain`."""
        note = encode_key(f"{topic}/{partition}", time.time_ns() // 10**6)
        await self.produce(BEGUN.name, 0, note, 0)

    async def inspect(self) -> list[str]:
        """Compare topics with the plan once more. Raises `BusRefused`, `BusError`."""
        client = await self._started()
        try:
            self.drift = await compare(client, self.settings, [self._named(each) for each in self._topics])
        except (errors.KafkaError, OSError) as error:
            raise BusError(f"the settings of topics can't be asked for now: {error!r}") from error
        return self.drift

    async def hang_up(self, lane: Hashable) -> None:
        """Close the connections of a lane."""
        if self._client is None:
            return
        connections = self._client._conns  # aiokafka closes all or none
        for node, group in [key for key in connections if key[1] == lane]:
            with contextlib.suppress(asyncio.CancelledError):
                await connections.pop((node, group)).close()

    async def close(self) -> None:
        """Let every connection go. Idempotent."""
        async with self._starting:
            client, self._client, self._closed = self._client, None, True
        if client is not None:
            await client.close()

    # ── the beginning ───────────────────────────────────────────────────────────────────────

    async def _started(self) -> AIOKafkaClient:
        if self._client is not None:
            return self._client
        async with self._starting:
            if self._closed:
                raise BusError("the bus is closed")
            if self._client is None:
                client = make(self.settings, _REQUEST_SECONDS_MAX)
                try:
                    await bootstrap(client, self.settings)
                    await self._see_to_topics(client)
                except BaseException as error:
                    await client.close()
                    if isinstance(error, errors.KafkaError | OSError | TimeoutError):
                        raise BusError(f"topics of {self.settings.prefix} can't be asked for: {error!r}") from error
                    raise
                self._client = client
            return self._client

    async def _see_to_topics(self, client: AIOKafkaClient) -> None:
        """Make those that are missing, unless one was begun and is gone, and compare the others with the plan."""
        known = (await client.fetch_all_metadata()).topics()  # asking for them by name might make them
        await make_topics(client, self.settings, [self._named(BEGUN)], known)
        names = {each.name: self.topic(each.name) for each in (BEGUN, *self._topics)}
        begun = await self._begun(client)
        if self.settings.namespace:
            await self._require_ours(client, begun)
        require_begun(self._topics, known, begun, names)
        there = [self._named(each) for each in self._topics]
        await make_topics(client, self.settings, there, known)
        self.drift = await compare(client, self.settings, there)

    async def _require_ours(self, client: AIOKafkaClient, begun: list[str]) -> None:
        """Say whose the log is, if nobody has; of several who do so at once the first has it. Raises `BusRefused`."""
        name = self.topic(BEGUN.name)
        if not namespace_of(begun):
            note = encode_key(namespace_key(self.settings.namespace), time.time_ns() // 10**6)
            response = await self._send(name, 0, _produce_request(name, 0, note), 0, client)
            ((_, ((_, code, *_),)),) = response.topics
            if code:
                raise BusError(f"{name}: whose the topics are can't be written now: {errors.for_code(code).__name__}")
            begun = await self._begun(client)
        require_ours(self.settings, begun, name)

    def _named(self, topic: TopicConfig) -> TopicConfig:
        return msgspec.structs.replace(topic, name=self.topic(topic.name))

    async def _begun(self, client: AIOKafkaClient) -> list[str]:
        """What was remembered, oldest first: partitions that were ever claimed, and by which namespace."""
        name = self.topic(BEGUN.name)
        response = await self._send(name, 0, OffsetRequest(-1, 0, [(name, [(0, _LATEST)])]), 0, client)
        ((_, ((_, code, _, end, *_),)),) = response.topics
        _raise(errors.for_code(code), name, 0)
        found: list[str] = []
        offset = 0
        while offset < end:
            response = await self._send(name, 0, _fetch_request(name, 0, offset, APPEND_BYTES_MAX, 0), 0, client)
            ((_, ((_, code, *_, data),)),) = response.topics
            _raise(errors.for_code(code), name, 0)
            keys = decode_keys(data or b"", offset, name)
            found.extend(keys.values())
            offset = max(keys, default=offset) + 1
        return found

    # ── asking ──────────────────────────────────────────────────────────────────────────────

    async def _offset(self, topic: str, partition: int, which: int) -> int:
        name = self.topic(topic)
        response = await self._ask(name, partition, OffsetRequest(-1, 0, [(name, [(partition, which)])]), 0)
        ((_, ((_, code, _, offset, *_),)),) = response.topics
        _raise(errors.for_code(code), name, partition)
        return offset

    async def _ask(self, name: str, partition: int, request: Any, lane: Hashable) -> Any:
        """Ask a partition's leader. Raises `BusError`: it does not answer now."""
        try:
            return await self._send(name, partition, request, lane)
        except (errors.KafkaError, OSError) as error:
            raise BusError(f"{name}/{partition}: can't be asked now: {error!r}") from error

    async def _send(
        self, name: str, partition: int, request: Any, lane: Any, client: AIOKafkaClient | None = None
    ) -> Any:
        """Send to a partition's leader, and again to the next one if it is none any more: nothing was done then."""
        deadline = asyncio.get_running_loop().time() + _REQUEST_SECONDS_MAX
        client = client or await self._started()
        while True:
            response = await client.send(await self._leader(client, name, partition), request, group=lane)
            code = _partition_error(response)
            if not code or not issubclass(errors.for_code(code), _MOVED):
                return response
            if asyncio.get_running_loop().time() > deadline:
                return response
            await client.force_metadata_update()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _ask_coordinator(self, group: str, request: Any) -> Any:
        deadline = asyncio.get_running_loop().time() + _REQUEST_SECONDS_MAX
        while True:
            try:
                client = await self._started()
                node = await client.coordinator_lookup(CoordinationType.GROUP, self.topic(group))
                response = await client.send(node, request)
                code = _group_error(response)
                if code and issubclass(errors.for_code(code), _MOVED):
                    raise errors.for_code(code)()
                return response
            except (errors.KafkaError, OSError) as error:
                moved = isinstance(error, _MOVED)
                if not moved or asyncio.get_running_loop().time() > deadline:
                    raise BusError(f"offsets of {group}: can't be asked now: {error!r}") from error
                await asyncio.sleep(_RETRY_SECONDS)

    async def _leader(self, client: AIOKafkaClient, name: str, partition: int) -> int:
        node = client.cluster.leader_for_partition(TopicPartition(name, partition))
        if node is None or node < 0:
            await client.force_metadata_update()
            node = client.cluster.leader_for_partition(TopicPartition(name, partition))
        if node is None or node < 0:
            if name not in client.cluster.topics():
                raise errors.UnknownTopicOrPartitionError(f"topic {name} is gone")
            raise errors.LeaderNotAvailableError(f"{name}/{partition} has no leader")
        return node


def _produce_request(name: str, partition: int, batch: bytes) -> ProduceRequest:
    return ProduceRequest(
        transactional_id=None,
        required_acks=-1,
        timeout=int(_REQUEST_SECONDS_MAX * 1000),
        topics=[(name, [(partition, batch)])],
    )


def _fetch_request(name: str, partition: int, offset: int, bytes_max: int, wait_seconds: float) -> FetchRequest:
    return FetchRequest(
        max_wait_time=int(wait_seconds * 1000),
        min_bytes=1,
        max_bytes=bytes_max,
        isolation_level=0,
        topics=[(name, [(partition, offset, bytes_max)])],
    )


def _raise(kind: type[errors.KafkaError], name: str, partition: int) -> None:
    if kind is errors.NoError:
        return
    if kind is errors.CorruptRecordException:
        raise BusCorrupt(f"{name}/{partition}: the broker finds its log damaged; restore it from a replica")
    raise BusError(f"{name}/{partition}: can't be read now: {kind.__name__}")


def _partition_error(response: Any) -> int:
    """The error in an answer about one partition; that to DeleteRecords has the new start in front of it."""
    ((_, (answer,), *_),) = response.topics
    return answer[2 if response.API_KEY == DeleteRecordsRequest.API_KEY else 1]


def _group_error(response: Any) -> int:
    """The first error in an answer about a group's offsets."""
    codes = [partition[-1] for _, partitions in response.topics for partition in partitions]
    return next((code for code in (getattr(response, "error_code", 0), *codes) if code), 0)
