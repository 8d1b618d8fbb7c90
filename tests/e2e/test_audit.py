"""The audit log of a whole stack: it survives its process, and what somebody does to its file is named."""

import json
import sqlite3
from typing import Any

from bench.stack import wait_for
from tests.e2e.stack import WAIT_SECONDS, Stack


def report(stack: Stack) -> dict[str, Any]:
    """What `trade2026 audit verify` says."""
    return json.loads(stack.cli("audit", "verify", "--json").stdout)


def test_it_is_whole_after_kill_9_and_after_the_end_and_tells_who_applied_what(stack: Stack) -> None:
    first = stack.submit(account="audited").json()["order_id"]
    pid = stack.kill_process("data")
    second = stack.submit(account="audited").json()["order_id"]
    stack.wait_restarted("data", pid)

    def recorded() -> bool:
        found = stack.get("logger", "/records", account="audited", type="OrderAccepted")["records"]
        return [record["subject"] for record in found] == [second, first]

    wait_for("both orders are recorded", recorded, WAIT_SECONDS)
    assert report(stack)["ok"], report(stack)
    (applied,) = stack.get("logger", "/records", type="ManifestApplied")["records"]
    assert "manifest_sha256" in applied["what"]
    stack.down()
    found = report(stack)
    assert (found["ok"], found["signed_to"]) == (True, found["end"]), found
    with sqlite3.connect(stack.state_dir / "audit" / "audit.db") as db:
        (n,) = db.execute("SELECT n FROM records WHERE subject = ? ORDER BY n LIMIT 1", (second,)).fetchone()
        db.execute("UPDATE records SET principal = 'nobody' WHERE n = ?", (n,))
    db.close()
    assert {fault["n"] for fault in report(stack)["faults"]} == {n}
