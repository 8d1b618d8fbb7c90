"""What `/health` says of other services is true, soon, and costs nobody anything."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.waiting import until

from trade2026.kit import peers
from trade2026.kit.peers import Peer, Peers
from trade2026.kit.probes import Lifecycle
from trade2026.kit.service import Health, Service
from trade2026.kit.settings import PeerSettings


class FakeService:
    """A port that answers every request as it is told."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | bytes | None = {"status": "ok", "service": "oms", "version": "1.0.0"}
        """None: it takes the question and says nothing."""
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                if self.answer is None:
                    continue
                body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        except (EOFError, OSError):
            return


@pytest.fixture
async def service() -> AsyncIterator[FakeService]:
    fake = FakeService()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def peer(service: FakeService) -> AsyncIterator[Peer]:
    found = Peer("oms", "127.0.0.1", service.port, allowed_versions=["1.0.0"])
    yield found
    await found.stop()


async def test_a_peer_that_was_not_asked_yet_is_not_called_well(peer: Peer) -> None:
    assert "not asked yet" in peer.health().detail
    assert not peer.health().ok


async def test_a_ready_peer_of_the_right_version_is_well_and_asked_over_one_connection(
    peer: Peer, service: FakeService
) -> None:
    for _ in range(5):
        assert await peer.poll()
    assert peer.health() == Health(True)
    assert service.connections == 1


async def test_a_peer_that_is_gone_is_named_with_the_reason_at_the_next_question(
    peer: Peer, service: FakeService
) -> None:
    await peer.poll()
    await service.stop()
    await peer.poll()
    assert peer.health() == Health(False, f"port {service.port}: nobody listens")
    await service.start()
    await peer.poll()
    assert peer.health().ok


async def test_a_connection_that_was_closed_while_idle_does_not_make_a_peer_unwell(
    peer: Peer, service: FakeService
) -> None:
    await peer.poll()
    await service.stop()
    await service.start()
    await peer.poll()
    assert peer.health().ok
    assert service.connections == 2


async def test_one_answer_that_is_late_is_forgiven_and_two_are_not(
    peer: Peer, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await peer.poll()
    monkeypatch.setattr(peers, "TIMEOUT_SECONDS", 0.01)
    service.answer = None
    assert not await peer.poll()
    assert peer.health().ok
    await peer.poll()
    assert "does not answer within" in peer.health().detail


def test_a_peer_that_hangs_is_noticed_within_two_seconds_of_its_last_answer() -> None:
    worst = peers.POLL_SECONDS + peers.TIMEOUTS_MAX * peers.TIMEOUT_SECONDS + peers.RETRY_SECONDS
    assert worst < peers.STALE_SECONDS <= 2


async def test_a_peer_that_is_not_ready_says_why(peer: Peer, service: FakeService) -> None:
    service.answer = {"status": "failed", "detail": "folded 3 of 9 events"}
    await peer.poll()
    assert peer.health() == Health(False, f"port {service.port}: not ready: folded 3 of 9 events")


async def test_a_peer_of_another_version_is_not_well(peer: Peer, service: FakeService) -> None:
    service.answer = {"status": "ok", "service": "oms", "version": "0.9.0"}
    await peer.poll()
    assert peer.health() == Health(False, f"port {service.port}: runs version 0.9.0, this release has 1.0.0")


async def test_another_service_on_the_port_is_not_taken_for_the_peer(peer: Peer, service: FakeService) -> None:
    service.answer = {"status": "ok", "service": "pnl", "version": "1.0.0"}
    await peer.poll()
    assert "pnl answers there" in peer.health().detail


@pytest.mark.parametrize("answer", [b"", b"[]", b"no json", b'{"status": 1}', b"x" * 100_000])
async def test_an_answer_that_makes_no_sense_is_no_answer(peer: Peer, service: FakeService, answer: bytes) -> None:
    service.answer = answer
    assert not await peer.poll()
    assert not peer.health().ok


async def test_what_is_told_is_never_old_without_saying_so(service: FakeService) -> None:
    now = 100.0
    peer = Peer("oms", "127.0.0.1", service.port, now=lambda: now)
    await peer.poll()
    assert peer.health().ok
    now += 3
    assert "not asked for 3.0 s" in peer.health().detail
    await peer.stop()


async def test_a_stop_is_noticed_in_the_background(peer: Peer, service: FakeService) -> None:
    peer.start()
    await until(lambda: peer.health().ok, "it is well")
    await service.stop()
    await until(lambda: not peer.health().ok, "it is gone")
    assert "nobody listens" in peer.health().detail
    await service.start()


def test_peers_show_in_health_and_never_in_readiness() -> None:
    class Well(Service):
        name = "pnl"

        def __init__(self) -> None: ...

    life = Lifecycle(Well(), lambda: {"peer_oms": Health(False, "nobody listens")})
    life.started = True
    assert life.checks() == {"ready": Health(True), "peer_oms": Health(False, "nobody listens")}
    assert life.not_ready() == ""


def test_a_process_asks_each_peer_once_and_tells_each_service_of_its_own() -> None:
    class Settings:
        host, allowed_versions = "0.0.0.0", ["1.0.0"]
        peers = {
            "ptrc": [PeerSettings("oms", 1)],
            "pnl": [PeerSettings("oms", 1), PeerSettings("gateway", 2)],
        }

        def host_of(self, service: str) -> str:
            return self.host

    asked = Peers(Settings())  # type: ignore[arg-type]
    assert list(asked.health("pnl")) == ["peer_oms", "peer_gateway"]
    assert list(asked.health("ptrc")) == ["peer_oms"]
    assert asked.health("oms") == {}
    assert len(asked._all) == 2
