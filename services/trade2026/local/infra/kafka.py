"""One Kafka broker that is its own controller (KRaft)."""

import base64
import subprocess
import uuid
from pathlib import Path

from trade2026.local.infra.artefacts import jars, java
from trade2026.local.infra.component import HOST, Component, InfraError, free_port

VERSION = "4.4.0"
HEAP_MB = 256
_FORMAT_SECONDS_MAX = 60


class Kafka(Component):
    """A broker without a second one. Its topics are made by whoever uses it, never by being named.

    Args:
        heap_mb: Memory of the Java heap, MiB.
    """

    name = "kafka"

    def __init__(self, folder: Path, port: int = 0, *, host: str = HOST, heap_mb: int = HEAP_MB) -> None:
        super().__init__(folder, port, host=host)
        self.heap_mb = heap_mb
        self.controller = f"{HOST}:{free_port()}"
        self.cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        """Names the cluster when its folder is made."""

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def command(self) -> list[str]:
        return self._java("kafka.Kafka", str(self._properties))

    def prepare(self) -> None:
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in self.settings().items()))
        if not (self.data / "meta.properties").exists():
            self._format()

    @property
    def data(self) -> Path:
        """Where its log lies."""
        return self.folder / "data"

    def settings(self) -> dict[str, object]:
        """What it is told, as Kafka names it."""
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{self.controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{self.controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.data,
            "auto.create.topics.enable": "false",
            "unclean.leader.election.enable": "false",
            # One broker: there is no second copy of anything.
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "offsets.retention.minutes": 2**31 - 1,  # a group that is stopped for a month goes on where it was
            "group.initial.rebalance.delay.ms": 0,
            "log.initial.task.delay.ms": 1_000,
            "log.retention.check.interval.ms": 1_000,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
        }

    def format_options(self) -> list[str]:
        """Of the tool that makes its folder."""
        return []

    def _format(self) -> None:
        arguments = (
            "format",
            f"--cluster-id={self.cluster}",
            "--config",
            str(self._properties),
            *self.format_options(),
        )
        try:
            done = subprocess.run(
                self._java("kafka.tools.StorageTool", *arguments),
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=_FORMAT_SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise InfraError(f"Kafka's folder {self.folder} was not made within {_FORMAT_SECONDS_MAX} s") from error
        if done.returncode:
            raise InfraError(f"Kafka's folder {self.folder} could not be made: {(done.stdout + done.stderr).strip()}")

    def _java(self, main: str, *arguments: str) -> list[str]:
        memory = (f"-Xms{self.heap_mb // 2}m", f"-Xmx{self.heap_mb}m", "-XX:TieredStopAtLevel=1")
        return [*java(), *memory, "-cp", f"{jars('kafka', VERSION)}/*", main, *arguments]
