"""One ClickHouse server, the only one that package registries have: Debian's, of 2018.

It speaks the native protocol as every ClickHouse does. It knows no time below a second and no ASOF JOIN, so it shows
that we talk to a server rightly; a desk runs a newer one.
"""

from trade2026.local.infra.component import HOST, Component
from trade2026.local.infra.debian import library_path, unpacked

VERSION = "18.16.1"
PACKAGES = ("clickhouse-server", "clickhouse-common")
_MEMORY_BYTES_MAX = 512 * 1024 * 1024


class ClickHouse(Component):
    """An analytics database; `port` is of the native protocol."""

    name = "clickhouse"

    def command(self) -> list[str]:
        files = unpacked(self.name, VERSION, PACKAGES)
        program = str(files / "usr" / "sbin" / "clickhouse-server")
        environment = f"LD_LIBRARY_PATH={library_path(files)}"
        return ["/usr/bin/env", environment, program, f"--config-file={self.folder / 'config.xml'}"]

    def prepare(self) -> None:
        (self.folder / "config.xml").write_text(
            _document(
                "<logger><level>warning</level><console>1</console></logger>",
                f"<listen_host>{HOST}</listen_host><tcp_port>{self.port}</tcp_port>",
                f"<path>{self.folder / 'data'}/</path><tmp_path>{self.folder / 'tmp'}/</tmp_path>",
                "<users_config>users.xml</users_config>",
                "<default_profile>default</default_profile><default_database>default</default_database>",
                "<mark_cache_size>16777216</mark_cache_size>",
            )
        )
        (self.folder / "users.xml").write_text(
            _document(
                f"<profiles><default><max_memory_usage>{_MEMORY_BYTES_MAX}</max_memory_usage></default></profiles>",
                f"<users><default><password></password><networks><ip>{HOST}</ip></networks>",
                "<profile>default</profile><quota>default</quota></default></users>",
                "<quotas><default></default></quotas>",
            )
        )


def _document(*parts: str) -> str:
    return f"<yandex>{''.join(parts)}</yandex>\n"
