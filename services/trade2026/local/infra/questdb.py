"""One QuestDB server."""

from pathlib import Path

from trade2026.local.infra.artefacts import jars, java
from trade2026.local.infra.component import HOST, Component, free_port

VERSION = "9.3.4"
HEAP_MB = 512


class QuestDb(Component):
    """A time-series database; `port` is its HTTP: queries, lines to write, the console."""

    name = "questdb"

    def __init__(self, folder: Path, port: int = 0, *, host: str = HOST, heap_mb: int = HEAP_MB) -> None:
        super().__init__(folder, port, host=host)
        self.heap_mb = heap_mb
        self.pg_port = free_port()
        """Of the PostgreSQL wire protocol."""
        self._line_port, self._health_port = free_port(), free_port()

    def command(self) -> list[str]:
        (archive,) = jars("questdb", VERSION).glob("questdb-*.jar")
        # It unpacks its native libraries at each start, and one that is killed leaves them behind.
        options = ("-Xms64m", f"-Xmx{self.heap_mb}m", "-Djava.io.tmpdir=tmp")
        return [*java(), *options, "-p", str(archive), "-m", "io.questdb/io.questdb.ServerMain", "-d", ".", "-n"]

    def prepare(self) -> None:
        settings = {
            "http.bind.to": self.address,
            "http.min.net.bind.to": f"{HOST}:{self._health_port}",
            "pg.net.bind.to": f"{HOST}:{self.pg_port}",
            "line.tcp.net.bind.to": f"{HOST}:{self._line_port}",
            "line.udp.enabled": "false",
            "telemetry.enabled": "false",
            "metrics.enabled": "true",
            "shared.worker.count": 2,  # by default it takes every core
            "cairo.commit.mode": "sync",  # acknowledged is fsynced
            # By default each file of a column, in each partition, takes 16 MB of the disk from its first row on.
            "cairo.writer.data.append.page.size": "1M",
            "cairo.writer.data.index.value.append.page.size": "1M",
        }
        (self.folder / "tmp").mkdir(exist_ok=True)
        conf = self.folder / "conf"
        conf.mkdir(exist_ok=True)
        (conf / "server.conf").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
