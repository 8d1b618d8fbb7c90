"""Who may do what: every route's least role, and accounts that are closed to each other."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from one_process import ORDER, Answer, OneProcess
from test_edges_requests import concrete
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from trade2026.kit.identity import ROLES, new_key
from trade2026.stack.facts import SERVICES

PUBLIC = {
    ("GET", path) for path in ("/", "/health", "/livez", "/readyz", "/startupz", "/stats", "/metrics", "/docs")
}  # what a probe or a scraper asks
PAGES = {"monitoring": {("GET", "/page")}}
"""For everyone, since a browser shows no key: they hold no data, but read it with the key that a person types."""
LEAST_ROLE: dict[str, dict[tuple[str, str], str]] = {
    "oms": {
        ("POST", "/orders"): "trader",
        ("POST", "/orders/batch"): "trader",
        ("POST", "/orders/list"): "trader",
        ("DELETE", "/orders/{order_id}"): "trader",
        ("PATCH", "/orders/{order_id}"): "trader",
        ("POST", "/orders/cancel-all"): "trader",
        ("POST", "/kill"): "risk",
        ("POST", "/resume"): "risk",
        ("GET", "/orders/{order_id}"): "viewer",
        ("GET", "/orders"): "viewer",
        ("GET", "/positions/{account}"): "viewer",
        ("WS", "/ws/orders"): "trader",
        ("WS", "/ws/events"): "viewer",
    },
    "risk": {
        ("POST", "/check"): "viewer",
        ("GET", "/exposure"): "viewer",
        ("GET", "/positions/{account}"): "viewer",
        ("GET", "/limits"): "viewer",
        ("GET", "/limits/history"): "viewer",
        ("GET", "/limits/strategies"): "viewer",
        ("PUT", "/limits/strategies/{name}"): "risk",
        ("POST", "/limits/tighten"): "risk",
        ("POST", "/slices"): "trader",
        ("POST", "/symbols/{symbol}/block"): "risk",
        ("POST", "/symbols/{symbol}/unblock"): "risk",
        ("POST", "/kill"): "risk",
        ("POST", "/resume"): "risk",
        ("GET", "/killed"): "viewer",
        ("GET", "/alerts"): "viewer",
        ("POST", "/alerts/{id}/ack"): "risk",
    },
    "gateway": {
        ("GET", "/ticker/{symbol}"): "viewer",
        ("GET", "/book/{symbol}"): "viewer",
        ("GET", "/trades/{symbol}"): "viewer",
        ("GET", "/instruments"): "viewer",
        ("GET", "/replay"): "viewer",
        ("POST", "/orders"): "admin",
        ("GET", "/orders/{order_id}"): "viewer",
        ("DELETE", "/orders/{order_id}"): "trader",
        ("POST", "/kill"): "risk",
        ("POST", "/resume"): "risk",
        ("WS", "/ws/market"): "viewer",
    },
    "normalizer": {
        ("GET", "/bars/{venue}/{symbol}/{interval}"): "viewer",
        ("GET", "/quality"): "viewer",
        ("GET", "/gaps/{venue}/{symbol}"): "viewer",
    },
    "ptrc": {
        ("GET", "/positions"): "viewer",
        ("GET", "/positions/{account}"): "viewer",
        ("POST", "/reconcile"): "viewer",
        ("GET", "/reports/transactions"): "viewer",
    },
    "pnl": {
        ("GET", "/pnl"): "viewer",
        ("GET", "/pnl/{account}"): "viewer",
        ("GET", "/pnl/{account}/series"): "viewer",
        ("GET", "/positions/{account}"): "viewer",
    },
    "archive": {
        ("GET", "/orders"): "viewer",
        ("GET", "/orders/{order_id}"): "viewer",
        ("GET", "/trace/{order_id}"): "viewer",
    },
    "strategies": {
        ("GET", "/strategies"): "viewer",
        ("GET", "/strategies/{name}"): "viewer",
    },
    "hot_cache": {
        ("GET", "/get/{key}"): "viewer",
        ("POST", "/mget"): "viewer",
        ("GET", "/keys"): "viewer",
        ("PUT", "/set"): "trader",
        ("DELETE", "/keys/{key}"): "trader",
        ("DELETE", "/keys"): "trader",
        ("WS", "/ws/keys"): "viewer",
    },
    "sink-ticks": {
        ("GET", "/catalog"): "viewer",
        ("GET", "/catalog/{table}"): "viewer",
        ("GET", "/query/{table}"): "viewer",
        ("POST", "/optimize"): "admin",
        ("POST", "/vacuum"): "admin",
    },
    "sink-alt": {
        ("GET", "/sources"): "viewer",
        ("GET", "/sources/{name}/records"): "viewer",
        ("GET", "/sources/{name}/quarantine"): "viewer",
        ("POST", "/sources/{name}/join"): "viewer",
        ("POST", "/sql"): "viewer",
        ("POST", "/sources/{name}/records"): "trader",
        ("POST", "/sources/{name}/records/batch"): "trader",
        ("POST", "/sources"): "admin",
        ("POST", "/sources/{name}/quarantine/release"): "admin",
        ("POST", "/sources/{name}/quarantine/discard"): "admin",
    },
    "questdb_writer": {
        ("POST", "/write"): "trader",
        ("POST", "/write/batch"): "trader",
        ("POST", "/flush"): "trader",
        ("GET", "/tables"): "viewer",
        ("GET", "/query/{table}"): "viewer",
    },
    "monitoring": {
        ("GET", "/services"): "viewer",
        ("GET", "/slos"): "viewer",
        ("GET", "/alerts"): "viewer",
        ("GET", "/incidents"): "viewer",
    },
    "logger": {
        ("GET", "/records"): "viewer",
        ("GET", "/records/{n}"): "viewer",
        ("GET", "/checkpoints"): "viewer",
        ("POST", "/checkpoints"): "admin",
        ("GET", "/logs"): "risk",
    },
    "exeq": {
        ("POST", "/parents"): "trader",
        ("GET", "/parents"): "viewer",
        ("GET", "/parents/{parent_id}"): "viewer",
        ("PATCH", "/parents/{parent_id}"): "trader",
        ("POST", "/parents/{parent_id}/pause"): "trader",
        ("POST", "/parents/{parent_id}/resume"): "trader",
        ("POST", "/parents/{parent_id}/cancel"): "trader",
    },
}


class Keyed(OneProcess):
    """A stack behind keys: one for each role, and traders and risk officers of one account each."""

    def __init__(self, state: Path) -> None:
        state.mkdir(exist_ok=True)
        self.keys: dict[str, str] = {}
        entries = []
        people = [(role, role, None) for role in ROLES]
        people += [("ann", "trader", ["A"]), ("bob", "trader", ["B"]), ("rita", "risk", ["A"]), ("eve", "trader", [])]
        for name, role, accounts in people:
            self.keys[name], entry = new_key(name, role, accounts)
            entries.append(entry)
        path = state / "keys.json"
        path.write_bytes(msgspec.json.encode({"keys": entries}))
        super().__init__(state / "state", keys_file=str(path), key=self.keys["admin"])

    def ask(self, who: str, service: str, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        return self.call(service, method, path, body, key=self.keys[who], headers=headers)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    with Keyed(tmp_path_factory.mktemp("keyed")) as running:
        yield running


@pytest.fixture(scope="module")
def bobs(keyed: Keyed) -> dict[str, Any]:
    """Orders of bob's, one that rests and one that is filled, once every service knows them."""
    resting = {**ORDER, "account": "B", "price": "30000", "client_order_id": "bobs"}
    answer = keyed.ask("bob", "oms", "POST", "/orders", resting)
    assert answer.status == 200, answer
    filled = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "order_type": "MARKET", "account": "B"}
    done = keyed.ask("bob", "oms", "POST", "/orders", filled)
    assert done.status == 200, done
    keyed.wait_until(
        lambda: (
            keyed.ask("bob", "pnl", "GET", "/pnl/B").status == 200
            and keyed.ask("bob", "archive", "GET", f"/orders/{done.json['order_id']}").status == 200
            and keyed.ask("bob", "gateway", "GET", f"/orders/{answer.json['order_id']}").status == 200
        ),
        "bob's fill is known everywhere",
    )
    return {"order_id": answer.json["order_id"], "filled": done.json["order_id"], "order": resting}


# ── roles ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("service", SERVICES)
def test_every_route_has_its_least_role(keyed: Keyed, service: str) -> None:
    app = keyed.apps[service]
    declared = {(route.method, route.path): route.role for route in app.routes if route.role is not None}
    declared |= {("WS", socket.path): socket.role for socket in app.sockets}
    changing = {route: role for route, role in declared.items() if route[0] != "GET"}
    expected = {route: role for route, role in LEAST_ROLE[service].items() if route[0] != "GET"}
    assert changing == expected, "say here who may use what changes something"
    assert {route: declared.get(route) for route in LEAST_ROLE[service]} == LEAST_ROLE[service]
    assert {(route.method, route.path) for route in app.routes if route.role is None} == PUBLIC | PAGES.get(
        service, set()
    )


@pytest.mark.parametrize("service", ["oms", "risk", "gateway"])
def test_a_kill_is_taken_before_a_service_is_ready(keyed: Keyed, service: str) -> None:
    (kill,) = (route for route in keyed.apps[service].routes if route.path == "/kill")
    assert not kill.needs_ready


@pytest.mark.parametrize("service", SERVICES)
def test_a_lower_role_no_key_and_a_wrong_key_are_refused(keyed: Keyed, service: str) -> None:
    for (method, pattern), least in LEAST_ROLE[service].items():
        if method == "WS":
            continue
        path = concrete(pattern)
        body = {} if method in ("POST", "PATCH") else None
        what = f"{service} {method} {path}"
        nobody = keyed.call(service, method, path, body, key="")
        assert (nobody.status, nobody.code, nobody.headers["www-authenticate"]) == (401, "missing_key", "Bearer"), what
        for wrong in ("t26_wrong", keyed.keys["viewer"][:-1], keyed.keys["viewer"] + "x", "é", "a b"):
            answer = keyed.call(service, method, path, body, key=wrong)
            assert (answer.status, answer.code) == (401, "wrong_key"), f"{what} {wrong!r}: {answer}"
        for role in ROLES[: ROLES.index(least)]:
            answer = keyed.ask(role, service, method, path, body)
            assert (answer.status, answer.code) == (403, "role_needed"), f"{what} as {role}: {answer}"
        if method == "GET":
            answer = keyed.ask(least, service, method, path)
            assert answer.status in (200, 404), f"{what} as {least}: {answer}"


def test_a_wrong_scheme_is_no_key(keyed: Keyed) -> None:
    for value in (
        f"Basic {keyed.keys['admin']}",
        keyed.keys["admin"],
        "Bearer",
        "Bearer  ",
        f"Token {keyed.keys['admin']}",
    ):
        answer = keyed.call("oms", "GET", "/orders", key="", headers={"Authorization": value})
        assert (answer.status, answer.code) == (401, "wrong_key"), value


def test_what_a_probe_asks_is_open_and_tells_nothing_secret(keyed: Keyed) -> None:
    for service in SERVICES:
        for _, path in sorted(PUBLIC):
            answer = keyed.call(service, "GET", path, key="")
            assert answer.status in (200, 503), (service, path, answer)
            assert b"t26_" not in answer.body
        assert keyed.call(service, "GET", "/docs", key="").status == 200
        assert keyed.call(service, "GET", "/openapi.json", key="").status == 200


def test_sockets_are_refused_before_the_handshake(keyed: Keyed) -> None:
    for service, path, least in (
        ("oms", "/ws/orders", "trader"),
        ("oms", "/ws/events", "viewer"),
        ("gateway", "/ws/market", "viewer"),
    ):
        url = f"ws://127.0.0.1:{keyed.settings.ports[service]}{path}"
        refused = [("", 401), ("t26_wrong", 401)]
        refused += [(keyed.keys[role], 403) for role in ROLES[: ROLES.index(least)]]
        for key, status in refused:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            with pytest.raises(InvalidStatus) as caught, connect(url, additional_headers=headers):
                pass
            assert caught.value.response.status_code == status
            assert json.loads(caught.value.response.body)["status"] == status
        with connect(url, additional_headers={"Authorization": f"Bearer {keyed.keys[least]}"}):
            pass


# ── accounts ────────────────────────────────────────────────────────────────────────────────────────


def test_another_account_is_closed(keyed: Keyed, bobs: dict[str, Any]) -> None:
    refused = [
        ("oms", "GET", "/orders", None),
        ("oms", "GET", "/orders?account=B", None),
        ("oms", "GET", "/positions/B", None),
        ("oms", "POST", "/orders", {**ORDER, "account": "B"}),
        ("oms", "POST", "/orders", bobs["order"]),
        ("oms", "POST", "/orders", ORDER),
        ("oms", "POST", "/orders/list", {"kind": "OCO", "orders": [{**ORDER, "account": "B"}] * 2}),
        ("oms", "POST", "/orders/cancel-all", {"scope": "account:B"}),
        ("oms", "POST", "/orders/cancel-all", {"scope": "stack"}),
        ("oms", "POST", "/orders/cancel-all", {"scope": "venue:SIM"}),
        ("oms", "POST", "/orders/cancel-all", {}),
        ("archive", "GET", "/orders", None),
        ("archive", "GET", "/orders?account=B", None),
        ("risk", "GET", "/positions/B", None),
        ("risk", "GET", "/exposure?scope=account:B", None),
        ("risk", "GET", "/exposure?scope=firm", None),
        ("risk", "GET", "/exposure?scope=strategy:x", None),
        ("risk", "POST", "/check", {**ORDER, "account": "B"}),
        ("ptrc", "GET", "/positions/B", None),
        ("ptrc", "POST", "/reconcile", {"account": "B", "venue": "SIM", "positions": []}),
        ("ptrc", "GET", "/reports/transactions?account=B", None),
        ("pnl", "GET", "/pnl/B", None),
        ("pnl", "GET", "/pnl/B/series", None),
        ("pnl", "GET", "/positions/B", None),
    ]
    for service, method, path, body in refused:
        for who in ("ann", "eve"):
            answer = keyed.ask(who, service, method, path, body)
            assert answer.status == 403, f"{who} {service} {method} {path}: {answer}"
            assert answer.code in ("account_not_permitted", "scope_not_permitted"), answer


def test_an_order_of_another_account_looks_like_none(keyed: Keyed, bobs: dict[str, Any]) -> None:
    for service, method, pattern, body in (
        ("oms", "GET", "/orders/{}", None),
        ("oms", "DELETE", "/orders/{}", None),
        ("oms", "PATCH", "/orders/{}", {"price": "31000"}),
        ("archive", "GET", "/orders/{}", None),
        ("archive", "GET", "/trace/{}", None),
        ("gateway", "GET", "/orders/{}", None),
        ("gateway", "DELETE", "/orders/{}", None),
    ):
        for number in (bobs["order_id"], bobs["filled"], "o0-99999"):
            answer = keyed.ask("ann", service, method, pattern.format(number), body)
            assert (answer.status, answer.code) == (404, "unknown_order"), f"{service} {method} {number}: {answer}"
            assert "bob" not in answer.body.decode()
        if method == "GET":
            assert keyed.ask("bob", service, method, pattern.format(bobs["order_id"])).status == 200
    assert keyed.ask("bob", "oms", "GET", f"/orders/{bobs['order_id']}").json["status"] == "New"


def test_lists_hold_only_what_is_ones_own(keyed: Keyed, bobs: dict[str, Any]) -> None:
    for service, path, name in (
        ("ptrc", "/positions", "positions"),
        ("pnl", "/pnl", "accounts"),
        ("ptrc", "/reports/transactions", "transactions"),
    ):
        assert keyed.ask("ann", service, "GET", path).json[name] == []
        assert keyed.ask("bob", service, "GET", path).json[name] != []
    for service in ("oms", "archive"):
        assert keyed.ask("ann", service, "GET", "/orders?account=A").json["orders"] == []
        assert len(keyed.ask("bob", service, "GET", "/orders?account=B").json["orders"]) == 2
        # A cursor is a place in the order of all orders: whose order is there is not told.
        answer = keyed.ask("ann", service, "GET", f"/orders?account=A&cursor={bobs['order_id']}")
        assert answer.json["orders"] == []


def test_the_cache_shows_each_its_own_accounts_and_who_has_but_some_no_other_users_values(
    keyed: Keyed, bobs: dict[str, Any]
) -> None:
    key = "position:B:SIM:BTCUSDT"
    for own in (key, "pnl:B"):
        keyed.wait_until(
            lambda own=own: keyed.ask("bob", "hot_cache", "GET", f"/get/{own}").status == 200, f"bob sees {own}"
        )
    assert keyed.ask("bob", "hot_cache", "PUT", "/set", {"key": "user:bob:x", "value": 1}).status == 200
    for hidden in (key, "pnl:B", "user:bob:x"):
        for method, path, body in (("GET", f"/get/{hidden}", None), ("POST", "/mget", {"keys": [hidden]})):
            assert keyed.ask("ann", "hot_cache", method, path, body).code == "key_not_permitted"
            assert keyed.ask("viewer", "hot_cache", method, path, body).status == 200
    listed = keyed.ask("ann", "hot_cache", "GET", "/keys").json["keys"]
    assert any(name.startswith("tick:") for name in listed)
    assert not any(name.startswith(("position:B", "pnl:B", "user:")) for name in listed)
    for who, code in (("ann", "key_not_yours"), ("trader", "key_not_yours"), ("viewer", "role_needed")):
        assert keyed.ask(who, "hot_cache", "PUT", "/set", {"key": "user:bob:x", "value": 2}).code == code
        assert keyed.ask(who, "hot_cache", "DELETE", "/keys?prefix=user:bob:").code == code
    assert keyed.ask("admin", "hot_cache", "DELETE", "/keys?prefix=user:bob:").json == {"deleted": 1}
    assert keyed.ask("admin", "hot_cache", "PUT", "/set", {"key": key, "value": 2}).code == "key_not_yours"


def test_the_same_client_order_id_in_two_accounts_is_two_orders(keyed: Keyed, bobs: dict[str, Any]) -> None:
    order = {**bobs["order"], "account": "A"}
    mine = keyed.ask("ann", "oms", "POST", "/orders", order).json
    assert mine["order_id"] != bobs["order_id"]
    again = keyed.ask("ann", "oms", "POST", "/orders", order).json
    assert again["order_id"] == mine["order_id"]
    keyed.ask("ann", "oms", "DELETE", f"/orders/{mine['order_id']}")


def test_a_batch_does_what_is_permitted_and_refuses_the_rest(keyed: Keyed) -> None:
    orders = [{**ORDER, "account": "A", "price": "30000"}, {**ORDER, "account": "B"}, ORDER]
    results = keyed.ask("ann", "oms", "POST", "/orders/batch", {"orders": orders}).json["results"]
    assert "order_id" in results[0]
    assert [result["code"] for result in results[1:]] == ["account_not_permitted"] * 2
    assert keyed.ask("ann", "oms", "POST", "/orders/cancel-all", {"scope": "account:A"}).json["asked"] >= 1


def test_a_list_that_touches_another_account_is_refused_whole(keyed: Keyed) -> None:
    before = keyed.decisions()
    orders = [{**ORDER, "account": "A"}, {**ORDER, "account": "B"}]
    answer = keyed.ask("ann", "oms", "POST", "/orders/list", {"kind": "OTO", "orders": orders})
    assert answer.code == "account_not_permitted"
    assert keyed.decisions() == before


def test_an_account_that_is_called_like_a_scope_opens_nothing(tmp_path: Path) -> None:
    clear, entry = new_key("mallory", "risk", ["stack", "venue:SIM", "strategy:x"])
    path = tmp_path / "keys.json"
    path.write_bytes(msgspec.json.encode({"keys": [entry]}))
    with OneProcess(
        tmp_path / "state", keys_file=str(path), key=clear, services=["oms", "gateway", "normalizer"]
    ) as stack:
        for scope in ("stack", "venue:SIM", "strategy:x"):
            for path_ in ("/orders/cancel-all", "/kill", "/resume"):
                answer = stack.call("oms", "POST", path_, {"scope": scope, "reason": "x"})
                assert answer.code == "scope_not_permitted", (scope, path_, answer)


def test_an_officer_of_one_account_stops_and_limits_only_that_one(keyed: Keyed) -> None:
    limits = {"limits": {"max_open_orders": 5}, "reason": "test"}
    for service, path, body in (
        ("oms", "/kill", {"scope": "stack", "reason": "x"}),
        ("oms", "/resume", {"scope": "account:B", "reason": "x"}),
        ("gateway", "/kill", {"scope": "account:B", "reason": "x"}),
        ("gateway", "/resume", {"scope": "stack", "reason": "x"}),
        ("risk", "/kill", {"scope": "account:B", "reason": "x"}),
        ("risk", "/resume", {"scope": "stack", "reason": "x"}),
        ("risk", "/limits/tighten", {**limits, "scope": "account:B"}),
        ("risk", "/limits/tighten", limits),
        ("risk", "/symbols/BTCUSDT/block", {"reason": "x"}),
        ("risk", "/symbols/BTCUSDT/unblock", {"reason": "x"}),
    ):
        answer = keyed.ask("rita", service, "POST", path, body)
        assert (answer.status, answer.code) == (403, "scope_not_permitted"), f"{service} {path}: {answer}"
    answer = keyed.ask("rita", "risk", "POST", "/limits/tighten", {**limits, "scope": "account:A"})
    assert answer.status == 200, answer
    assert "A" in json.dumps(keyed.ask("ann", "risk", "GET", "/limits").json["limits"])
    assert (
        "accounts" not in keyed.ask("bob", "risk", "GET", "/limits").json["limits"]
        or "A" not in keyed.ask("bob", "risk", "GET", "/limits").json["limits"]["accounts"]
    )
    assert keyed.ask("bob", "risk", "GET", "/limits").json["tightened"] == []


def test_the_event_stream_tells_only_of_ones_own_orders(keyed: Keyed, bobs: dict[str, Any]) -> None:
    url = f"ws://127.0.0.1:{keyed.settings.ports['oms']}/ws/events?from=0"
    mine = keyed.ask("ann", "oms", "POST", "/orders", {**ORDER, "account": "A", "price": "30000"}).json["order_id"]
    keyed.wait_until(lambda: keyed.ask("ann", "oms", "GET", f"/orders/{mine}").json["status"] == "New", "it is open")
    keyed.ask("ann", "oms", "DELETE", f"/orders/{mine}")
    keyed.wait_until(
        lambda: keyed.ask("ann", "oms", "GET", f"/orders/{mine}").json["status"] == "Canceled", "it is gone"
    )
    seen = []
    with connect(url, additional_headers={"Authorization": f"Bearer {keyed.keys['ann']}"}) as ws:
        while not (seen and seen[-1]["type"] == "OrderCanceled" and seen[-1]["data"]["order_id"] == mine):
            seen.append(json.loads(ws.recv(timeout=60)))
    assert {event["type"] for event in seen if event["data"].get("order_id") == mine} >= {
        "OrderAccepted",
        "OrderOpened",
        "CancelRequested",
        "OrderCanceled",
    }
    assert bobs["order_id"] not in json.dumps(seen)
    assert {event["principal"] for event in seen} <= {"ann", "venue"}


def test_a_socket_of_one_account_touches_no_other(keyed: Keyed, bobs: dict[str, Any]) -> None:
    url = f"ws://127.0.0.1:{keyed.settings.ports['oms']}/ws/orders"
    with connect(url, additional_headers={"Authorization": f"Bearer {keyed.keys['ann']}"}) as ws:

        def ask(**message: Any) -> str:
            ws.send(json.dumps(message))
            return json.loads(ws.recv(timeout=60))["problem"]["code"]

        assert ask(op="submit", order={**ORDER, "account": "B"}) == "account_not_permitted"
        assert ask(op="cancel", order_id=bobs["order_id"]) == "unknown_order"
        assert ask(op="amend", order_id=bobs["order_id"], amend={"price": 1}) == "unknown_order"


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────────


def test_no_key_is_kept_or_told(keyed: Keyed, caplog: pytest.LogCaptureFixture) -> None:
    for who in ("viewer", "ann"):
        answer = keyed.ask(who, "risk", "POST", "/kill", {"scope": "stack", "reason": "x"})
        assert answer.status == 403
        assert keyed.keys[who].encode() not in answer.body
    keyed.ask("risk", "risk", "POST", "/kill", {"scope": "account:nobody", "reason": "x"})
    keyed.ask("risk", "risk", "POST", "/resume", {"scope": "account:nobody", "reason": "x"})
    secrets = [key.encode() for key in keyed.keys.values()]
    for path in [path for path in keyed.state.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret in content], path
    assert "t26_" not in caplog.text


def test_an_open_service_answers_this_machine_s_own_pages_only(stack: OneProcess) -> None:
    port = stack.settings.ports["oms"]
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost.evil",
        "169.254.1.1",
        "0.0.0.0",
        "",
        "127.0.0.1@evil.example",
        "[::2]",
    ):
        answer = stack.call("oms", "POST", "/orders", ORDER, headers={"Host": host})
        assert (answer.status, answer.code) == (403, "foreign_host"), (host, answer)
    for origin in (
        "https://evil.example",
        "null",
        "file://",
        "http://localhost.evil.example",
        "https://127.0.0.1.evil.example",
        "chrome-extension://x",
        "http://user@localhost",
    ):
        answer = stack.call("oms", "POST", "/orders", ORDER, headers={"Origin": origin})
        assert (answer.status, answer.code) == (403, "foreign_origin"), (origin, answer)
        assert stack.call("oms", "GET", "/docs", headers={"Origin": origin}).status == 403
        url = f"ws://127.0.0.1:{port}/ws/orders"
        with pytest.raises(InvalidStatus) as caught, connect(url, additional_headers={"Origin": origin}):
            pass
        assert caught.value.response.status_code == 403
    for origin in (f"http://localhost:{port}", "http://127.0.0.1:3000", "http://[::1]:3000"):
        assert stack.call("oms", "GET", "/orders", headers={"Origin": origin}).status == 200


def test_a_keyed_service_is_not_open_to_pages_without_a_key(keyed: Keyed) -> None:
    with closing(keyed.connect("oms")):
        answer = keyed.call("oms", "GET", "/orders", key="", headers={"Origin": "https://evil.example"})
    assert answer.status == 401
    assert "access-control-allow-origin" not in answer.headers
