"""Three brokers that copy from each other; the first is the controller, too."""

from pathlib import Path

from trade2026.local.infra.kafka import Kafka

HEAP_MB = 192


class Node(Kafka):
    """One of them."""

    def __init__(self, folder: Path, number: int, first: "Node | None" = None) -> None:
        super().__init__(folder, heap_mb=HEAP_MB)
        self.number, self._first = number, first or self
        self.cluster = self._first.cluster

    def settings(self) -> dict[str, object]:
        alone = super().settings()
        changed: dict[str, object] = {
            "node.id": self.number,
            "broker.session.timeout.ms": 3_000,
            "broker.heartbeat.interval.ms": 500,
            "replica.lag.time.max.ms": 3_000,
            # A broker that makes topics for whoever names one would make ours without their settings.
            "auto.create.topics.enable": "true",
        }
        if self._first is not self:
            changed["process.roles"] = "broker"
            changed["controller.quorum.voters"] = f"1@{self._first.controller}"
            changed["listeners"] = f"PLAINTEXT://{self.address}"
        return alone | changed


def nodes(folder: Path) -> list[Node]:
    """Not started yet."""
    first = Node(folder / "1", 1)
    return [first, *(Node(folder / str(number), number, first) for number in (2, 3))]
