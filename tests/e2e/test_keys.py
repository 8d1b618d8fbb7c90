"""Keys on a running stack: made by the command line, asked for everywhere, told nowhere."""

import json
from pathlib import Path

import httpx
import pytest
from tests.e2e.conftest import MakeStack
from tests.e2e.stack import QUIET, Stack

KEYED = QUIET.read_text() + "\n  security: {keysFile: keys.json}\n"


def new_key(stack: Stack, keys: Path, principal: str, *words: str) -> str:
    done = stack.command("keys", "new", principal, "--keys-file", str(keys), "--json", *words)
    return json.loads(done.stdout)["key"]


def test_a_keyed_stack_from_the_first_key_to_the_last_log_line(make_stack: MakeStack, tmp_path: Path) -> None:
    keys, manifest = tmp_path / "keys.json", tmp_path / "keyed.yaml"
    manifest.write_text(KEYED)
    unstarted = Stack(manifest, tmp_path / "unused", port_offset=0)
    missing = unstarted.command("validate", "-f", str(manifest), check=False)
    assert missing.returncode != 0
    assert "keysFile" in missing.stderr
    assert "trade2026 keys new" in missing.stderr.replace("\n", " ")

    admin = new_key(unstarted, keys, "root", "--role", "admin")
    ann = new_key(unstarted, keys, "ann", "--accounts", "A")
    bob = new_key(unstarted, keys, "bob", "--accounts", "B")
    assert keys.stat().st_mode & 0o077 == 0
    for key in (admin, ann, bob):
        assert key not in keys.read_text()
    assert unstarted.command("validate", "-f", str(manifest)).returncode == 0

    stack = make_stack(manifest)
    order = {"symbol": "BTCUSDT", "side": "buy", "quantity": 0.001, "price": 30000}

    def ask(who: str, method: str, path: str, service: str = "oms", **options: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {who}"} if who else {}
        return stack.http(service).request(method, path, headers=headers, **options)  # type: ignore[arg-type]

    assert ask("", "GET", "/orders").status_code == 401
    assert ask("t26_wrong", "GET", "/orders").json()["code"] == "wrong_key"
    placed = ask(ann, "POST", "/orders", json={**order, "account": "A"})
    assert placed.status_code == 200
    number = placed.json()["order_id"]
    assert ask(bob, "GET", f"/orders/{number}").status_code == 404
    assert ask(bob, "DELETE", f"/orders/{number}").status_code == 404
    assert ask(bob, "GET", "/orders?account=A").status_code == 403
    assert ask(ann, "POST", "/kill", json={"scope": "account:A"}).json()["code"] == "role_needed"
    killed = ask(admin, "POST", "/kill", service="risk", json={"scope": "account:B", "reason": "test"})
    assert killed.status_code == 200, killed.text
    assert killed.json()["reached"]["oms"]["ok"]
    refused = ask(bob, "POST", "/orders", json={**order, "account": "B"})
    assert refused.json()["reject_code"] == "KILLED"
    for service in ("oms", "risk", "gateway", "ptrc", "pnl", "archive"):
        assert stack.http(service).get("/livez").status_code == 200

    # Nothing that the stack wrote holds a key.
    for path in stack.state_dir.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for key in (admin, ann, bob):
                assert key.encode() not in content, path


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_process_does_not_listen_for_others(running_stack: Stack, tmp_path: Path, host: str) -> None:
    settings = json.loads((running_stack.state_dir / "run" / "orders.json").read_text())
    settings |= {"host": host, "state_dir": str(tmp_path / "state")}
    path = tmp_path / "orders.json"
    path.write_text(json.dumps(settings))
    done = running_stack.command("serve", "--settings", str(path), check=False)
    assert done.returncode == 1
    assert "without keys a service listens on loopback only" in done.stdout + done.stderr
