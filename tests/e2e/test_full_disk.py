"""A stack of real processes on a disk that fills up: it says so, loses nothing acknowledged, and comes back."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.stack import wait_for
from tests.e2e.conftest import MakeStack
from tests.e2e.stack import QUIET, WAIT_SECONDS

DISK = 64 * 1024 * 1024
FLOOR = "16Mi"
TEXT = QUIET.read_text() + f"\n  bus: {{freeSpaceMin: {FLOOR}}}\n"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system; where none may be mounted, the tests of services in one process simulate it."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("nothing may be mounted here; tests/integration/test_edges_full_disk.py simulates a full disk")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path, leave: int) -> None:
    ballast = disk / "ballast"
    if leave:
        stat = os.statvfs(disk)
        ballast.write_bytes(b"\0" * max(0, stat.f_bavail * stat.f_frsize - leave))
        return
    with ballast.open("ab", buffering=0) as file:
        for size in (1024 * 1024, 4096):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size):
                    pass


def test_floor_zero_bytes_and_back(disk: Path, make_stack: MakeStack) -> None:
    stack = make_stack(text=TEXT, state_dir=disk / "state")
    resting = stack.submit(price=30000).json()["order_id"]
    acknowledged = [stack.submit(price=30000, client_order_id=f"a{n}").json()["client_order_id"] for n in range(50)]

    fill(disk, leave=8 * 1024 * 1024)
    wait_for("new orders stop", lambda: stack.submit(price=30000).status_code == 503, WAIT_SECONDS)
    refused = stack.submit(price=30000)
    assert refused.json()["code"] == "disk_low"
    assert int(refused.headers["retry-after"]) >= 1
    assert stack.http("oms").delete(f"/orders/{resting}").status_code == 200
    stack.wait_status(resting, "Canceled")
    killed = stack.http("risk").post("/kill", json={"scope": "account:main", "reason": "disk"})
    assert killed.status_code == 200, killed.text
    assert stack.http("risk").post("/resume", json={"scope": "account:main", "reason": "disk"}).status_code == 200
    assert stack.health("oms")["checks"]["disk"]["status"] == "failed"

    fill(disk, leave=0)
    for service in ("oms", "risk", "gateway", "ptrc", "pnl"):
        assert stack.http(service).get("/livez").status_code == 200
    orders = stack.kill_process("orders")

    (disk / "ballast").unlink()
    stack.wait_restarted("orders", orders)
    wait_for("orders are taken again", lambda: stack.submit(price=30000).status_code == 200, WAIT_SECONDS)
    for name in acknowledged:
        again = stack.submit(price=30000, client_order_id=name)
        assert again.status_code == 200, again.text
    listed = stack.get("oms", "/orders", limit=1000)["orders"]
    ids = [order["client_order_id"] for order in listed]
    assert {name: ids.count(name) for name in acknowledged if ids.count(name) != 1} == {}
