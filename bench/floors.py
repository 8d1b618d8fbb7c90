"""What this machine can do at best: the disk's fdatasync, an echo on the same web server, and who used the CPU."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.client import Latencies
from bench.stack import ROOT, environment, wait_for

_TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


class CpuMeter:
    """CPU time of processes, user and system, from here on.

    Args:
        pids: By name. This process is there too, as `client`.
    """

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = {"client": os.getpid(), **pids}
        self._before = {name: _cpu_us(pid) for name, pid in self._pids.items()}

    def us_per(self, count: float) -> dict[str, float]:
        """Microseconds of each process per piece of work."""
        used = {name: _cpu_us(pid) - self._before[name] for name, pid in self._pids.items()}
        return {name: round(us / count, 1) if count else 0.0 for name, us in used.items()}


def _cpu_us(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_US


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fdatasync_times(directory: Path, seconds: float) -> Latencies:
    """Append a page to a file and make it durable, again and again: no durable answer can be faster."""
    found = Latencies()
    page = os.urandom(4096)
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            begin = time.perf_counter_ns()
            os.write(file.fileno(), page)
            os.fdatasync(file.fileno())
            found.ns.append(time.perf_counter_ns() - begin)
        found.seconds = time.perf_counter() - started
    return found


def start_echo(closing: ExitStack) -> tuple[int, int]:
    """Start the bare server on the same stack of libraries, and return its port and process id."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "bench.echo:app", "--port", str(port)),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
        ],
        cwd=ROOT,
        env=environment(),
    )
    closing.callback(process.wait)
    closing.callback(process.terminate)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for("the echo server listens", listens, 60)
    return port, process.pid


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
