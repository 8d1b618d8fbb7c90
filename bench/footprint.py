"""What the quickstart uses while nobody does anything: memory and CPU of every process, and how fast it starts."""

import time
from pathlib import Path

from bench.entry import Report
from bench.floors import CpuMeter, resident_bytes
from bench.stack import ROOT, LocalStack

MANIFEST = ROOT / "manifests" / "quickstart.yaml"
_SETTLE_SECONDS = 5.0


def measure_footprint(where: Path, port_offset: int, seconds: float) -> Report:
    """`make up` with all that it runs, at the default speed of its market."""
    stack = LocalStack(MANIFEST, where / "footprint", port_offset=port_offset)
    with stack:
        pass  # what is measured is not the first start
    try:
        started = stack.up()
        time.sleep(_SETTLE_SECONDS)
        pids = {"runner": stack.status()["runner_pid"], **stack.pids()}
        meter, begin = CpuMeter(pids), time.monotonic()
        time.sleep(seconds)
        cores = meter.us_per(time.monotonic() - begin)
        mib = {name: resident_bytes(pid) / (1 << 20) for name, pid in pids.items()}
    finally:
        stack.down()
    cores = {name: round(us / 1e6, 3) for name, us in cores.items() if name in pids}
    return {
        "footprint": {
            "mib_all": round(sum(mib.values())),
            "cores_all": round(sum(cores.values()), 3),
            "seconds": round(started, 2),
            "mib": {name: round(size) for name, size in mib.items()},
            "cores": cores,
        }
    }
