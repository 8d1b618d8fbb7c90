"""A service whose work is split by account: its cells, and how they are as one service."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from trade2026.kit.bus.membership import Member
from trade2026.kit.cells import Cell, Cells
from trade2026.kit.http import App
from trade2026.kit.lag import Followed
from trade2026.kit.owner import Owner
from trade2026.kit.service import Health, Service
from trade2026.kit.settings import ProcessSettings

C = TypeVar("C", bound=Cell)


class CellService(Service, Generic[C]):
    """Subclass, and call `split` in `__init__`; what is overridden calls this."""

    cells: Cells[C]

    def split(self, topic: str, make: Callable[[int], C]) -> None:
        """Have a cell for each partition of a topic that is to be ours; `make` makes one."""
        settings = self.settings
        self._topic = topic
        self.partitions = settings.partitions(topic)
        me = self.member_of(settings, self.name)
        self.cells = Cells(self.context.membership(self.name, me, self.partitions), make)
        for partition in range(self.partitions):
            self._show(partition)

    def _show(self, partition: int) -> None:
        """What is asked of a partition here, and waits: by that it is seen which one is hot."""
        metrics, labels = self.context.metrics, {"service": self.name, "partition": str(partition)}

        def owner() -> Owner | None:
            return getattr(self.cells.here.get(partition), "owner", None)

        metrics.counted(
            "trade2026_commands_total",
            "Commands that this replica has taken for a partition",
            lambda: found.taken if (found := owner()) is not None else 0,
            **labels,
        )
        metrics.counted(
            "trade2026_submissions_total",
            "The same, a batch counted as one",
            lambda: found.submissions if (found := owner()) is not None else 0,
            **labels,
        )
        metrics.gauge(
            "trade2026_commands_waiting",
            "Commands that wait for a decision or for durability",
            lambda: found.pending if (found := owner()) is not None else 0,
            **labels,
        )

    @staticmethod
    def member_of(settings: ProcessSettings, service: str) -> Member:
        """This process among the replicas of a service."""
        return Member(settings.release, f"{settings.address or settings.host}:{settings.ports.get(service, 0)}")

    def routes(self, app: App) -> None:
        app.forward = self.cells.forward

    async def start(self) -> None:
        await self.context.bus.end(self._topic, 0)  # whom the log refuses must take no place among its replicas
        await self.cells.start()

    async def stop(self) -> None:
        await self.cells.stop()

    def readiness(self) -> tuple[bool, str]:
        return self.cells.readiness()

    def replaced(self) -> str:
        return self.cells.replaced

    def followed(self) -> Iterable[Followed]:
        return [follower for cell in self.cells.here.values() for follower in cell.followed]

    def health(self) -> dict[str, Health]:
        return self.cells.health()
