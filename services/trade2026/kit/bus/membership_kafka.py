"""Groups of replicas on Kafka: its brokers are the coordinators, their group protocol is the one of `membership_group`.

The protocol is spoken with a type of our own, as Kafka Connect does: nothing is consumed, notes and shares are ours, so
that each member learns from its share whose everything is. Each group is `<prefix>.<service>.replicas`: a group with
members takes no offsets from others, and a service's own offsets lie under `<prefix>.<service>`.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Literal, cast

from aiokafka import errors
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.group import JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest
from aiokafka.protocol.types import Int16, Int32, Schema, String

from trade2026.kit.bus.kafka_connect import bootstrap, make
from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.membership import Member
from trade2026.kit.bus.membership_group import (
    Forgotten,
    GroupError,
    Joined,
    Rebalancing,
    Replaced,
    StaleGeneration,
    Unreachable,
)
from trade2026.kit.bus.membership_member import GroupMembership, Timing
from trade2026.kit.bus.port import BusError

_PROTOCOL_TYPE = "trade2026"
_PROTOCOL_VERSION = 1
_ANSWER_SECONDS_MAX = 3.0
"""Of a broker that has nothing to wait for."""
_SLACK_SECONDS = 5.0
_STABLE = "Stable"

_Lane = Literal["rounds", "beats", "questions"]
"""A connection each: a broker answers the requests of one in turn, and joining waits."""

_FENCED_INSTANCE_ID = 82
"""aiokafka has no name for it."""
_ERRORS: dict[int, type[GroupError]] = {
    errors.RebalanceInProgressError.errno: Rebalancing,
    errors.IllegalGenerationError.errno: StaleGeneration,
    errors.UnknownMemberIdError.errno: Forgotten,
    _FENCED_INSTANCE_ID: Replaced,
}
_SAYING = {
    errors.InconsistentGroupProtocolError: "its members share another number of partitions: all replicas must be "
    "started from the same manifest",
    errors.InvalidSessionTimeoutError: "the session's time is not within the broker's group.min.session.timeout.ms "
    "and group.max.session.timeout.ms",
    errors.GroupAuthorizationFailedError: "we may not read it: allow READ and DESCRIBE on it",
}


class KafkaCoordinator:
    """See `Coordinator`: the broker that coordinates the group. It connects when it is first asked."""

    def __init__(self, settings: KafkaSettings, service: str, name: str, partitions: int, timing: Timing) -> None:
        self.group = f"{settings.prefix}.{service}.replicas"
        self._settings, self._name, self._timing = settings, name, timing
        self._protocol = f"partitions-{partitions}-v{_PROTOCOL_VERSION}"
        self._client: AIOKafkaClient | None = None
        self._node: int | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    async def join(self, member_id: str, note: bytes) -> Joined:
        """See `Coordinator.join`."""
        request = JoinGroupRequest(
            self.group,
            int(self._timing.session_seconds * 1000),
            int(self._timing.rebalance_seconds_max * 1000),
            member_id,
            self._name,
            _PROTOCOL_TYPE,
            [(self._protocol, note)],
        )
        answer = await self._ask(request, "rounds", self._timing.rebalance_seconds_max + _SLACK_SECONDS)
        return Joined(answer.member_id, answer.generation_id, {each: note for each, _, note in answer.members})

    async def sync(self, member_id: str, generation: int, shares: Mapping[str, bytes]) -> bytes:
        """See `Coordinator.sync`."""
        request = SyncGroupRequest(self.group, generation, member_id, self._name, list(shares.items()))
        answer = await self._ask(request, "rounds", self._timing.session_seconds)
        return answer.member_assignment

    async def heartbeat(self, member_id: str, generation: int) -> None:
        """See `Coordinator.heartbeat`."""
        await self._ask(_Heartbeat(self.group, generation, member_id, self._name), "beats")

    async def leave(self, member_id: str) -> None:
        """See `Coordinator.leave`. Kafka's own clients don't say goodbye under a name that stays; we do."""
        await self._ask(LeaveGroupRequest(self.group, member_id), "questions")

    async def describe(self) -> list[tuple[bytes, bytes]] | None:
        """See `Coordinator.describe`."""
        answer = await self._ask(DescribeGroupsRequest([self.group]), "questions")
        ((_, _, state, _, _, members, *_),) = answer.groups
        return [(note, share) for *_, note, share in members] if state == _STABLE else None

    async def close(self) -> None:
        """Let every connection go. Idempotent."""
        self._closed = True
        async with self._connecting:
            client, self._client = self._client, None
        if client is not None:
            await client.close()

    # ── asking ──────────────────────────────────────────────────────────────────────────────

    async def _ask(self, request: Any, lane: _Lane, seconds_max: float = _ANSWER_SECONDS_MAX) -> Any:
        try:
            async with asyncio.timeout(seconds_max):
                answer = await self._send(request, lane)
        except (errors.KafkaError, BusError, OSError, TimeoutError) as error:
            self._node = None
            raise Unreachable(str(error) or type(error).__name__) from error
        code = _code_of(answer)
        if not code:
            return answer
        if code in _ERRORS:
            raise _ERRORS[code]
        self._node, kind = None, errors.for_code(code)
        raise Unreachable(f"{self.group}: {_SAYING.get(kind, kind.__name__)}")

    async def _send(self, request: Any, lane: _Lane) -> Any:
        client = await self._connected()
        node = self._node
        if node is None:
            node = self._node = await client.coordinator_lookup(CoordinationType.GROUP, self.group)
        try:
            return await client.send(node, request, group=cast("Any", lane))
        except asyncio.CancelledError:
            await _hang_up(client, node, lane)  # it would answer this question before the next one
            raise

    async def _connected(self) -> AIOKafkaClient:
        async with self._connecting:
            if self._closed:
                raise BusError("the membership is closed")
            if self._client is None:
                client = make(self._settings, self._timing.rebalance_seconds_max + _SLACK_SECONDS)
                try:
                    await bootstrap(client, self._settings)
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            return self._client


def kafka_membership(
    settings: KafkaSettings, service: str, me: Member, partitions: int, timing: Timing | None = None
) -> GroupMembership:
    """A member of the replicas of a service.

    Args:
        partitions: Of all topics that are split by account. A replica that says another number is not let in.
        timing: None: as the settings say. Sessions under 6 s a broker refuses, unless it is told otherwise.
    """
    timing = timing or Timing(session_seconds=settings.session_seconds)
    coordinator = KafkaCoordinator(settings, service, me.name, partitions, timing)
    return GroupMembership(me, partitions, coordinator, timing)


async def _hang_up(client: AIOKafkaClient, node: int, lane: _Lane) -> None:
    connection = client._conns.pop((node, lane), None)  # aiokafka closes all or none
    if connection is not None:
        with contextlib.suppress(asyncio.CancelledError):
            await connection.close()


def _code_of(answer: Any) -> int:
    if hasattr(answer, "groups"):
        ((code, *_),) = answer.groups
        return code
    return answer.error_code


class _HeartbeatAnswer(Response):
    API_KEY = 12  # pyright: ignore[reportAssignmentType]
    API_VERSION = 3  # pyright: ignore[reportAssignmentType]
    SCHEMA = Schema(("throttle_time_ms", Int32), ("error_code", Int16))


class _HeartbeatStruct(RequestStruct):
    API_KEY = 12
    API_VERSION = 3
    RESPONSE_TYPE = _HeartbeatAnswer
    SCHEMA = Schema(
        ("group", String("utf-8")),
        ("generation_id", Int32),
        ("member_id", String("utf-8")),
        ("group_instance_id", String("utf-8")),
    )


class _Heartbeat(Request[_HeartbeatStruct]):
    """The version that names the member: aiokafka's does not, and hears only that it is unknown when it was replaced."""

    API_KEY = 12

    def __init__(self, group: str, generation: int, member_id: str, name: str) -> None:
        self._said = (group, generation, member_id, name)

    def build(self, request_struct_class: type[_HeartbeatStruct]) -> _HeartbeatStruct:
        return request_struct_class(*self._said)
