"""Every endpoint of every service meets every kind of bad request: a typed 4xx, never a 5xx, nothing recorded."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_process import ORDER, Answer, OneProcess

from trade2026.stack.facts import SERVICES

EXAMPLES = 60
"""Random documents for each endpoint that takes one."""
ENDPOINT_PARAMETERS = {
    "parent_id": "e0-0",
    "symbol": "BTCUSDT",
    "account": "main",
    "order_id": "o0-0",
    "id": "none",
    "venue": "SIM",
    "interval": "1m",
    "name": "none",
    "key": "tick:SIM:BTCUSDT",
    "table": "ticks",
    "n": "0",
}


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


BODIES: dict[str, tuple[bytes, set[str]]] = {
    "nothing": (b"", {"malformed_json", "missing_field"}),
    "no JSON": (b"quantity=1", {"malformed_json"}),
    "half an object": (b'{"symbol": "BTCUSDT", ', {"malformed_json"}),
    "two documents": (b"{} {}", {"malformed_json"}),
    "a list": (b"[]", {"bad_field"}),
    "text": (b'"order"', {"bad_field"}),
    "a number": (b"1", {"bad_field"}),
    "null": (b"null", {"bad_field"}),
    "NaN as a word": (b'{"quantity": NaN}', {"malformed_json"}),
    "Infinity as a word": (b'{"quantity": -Infinity}', {"malformed_json"}),
    "broken UTF-8": (b'{"symbol": "\xff\xfe"}', {"malformed_json"}),
    "half a surrogate": (b'{"symbol": "\\ud800"}', {"malformed_json", "bad_field", "unknown_field"}),
    "UTF-16": ('{"symbol": "BTCUSDT"}'.encode("utf-16"), {"malformed_json"}),
    "a byte order mark": (b"\xef\xbb\xbf{}", {"malformed_json"}),
    "deep lists": (deep(5_000), {"too_deep"}),
    "deep objects": (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, {"too_deep"}),
    "deep and unfinished": (b"[" * 30_000, {"too_deep"}),
    "a key twice": (b'{"reason": "a", "reason": "b"}', {"duplicate_key"}),
    "a key twice, once escaped": (b'{"reason": "a", "reas\\u006fn": "b"}', {"duplicate_key"}),
    "an unknown field": (b'{"surprise": 1}', {"unknown_field", "missing_field"}),
    "zero bytes": (b"\0" * 100, {"malformed_json"}),
}


def routes(stack: OneProcess, *methods: str) -> Iterator[tuple[str, Any, str]]:
    """Service, route and a path of it that exists."""
    for service in SERVICES:
        for route in stack.apps[service].routes:
            if not methods or route.method in methods:
                yield service, route, concrete(route.path)


def concrete(path: str) -> str:
    for name, value in ENDPOINT_PARAMETERS.items():
        path = path.replace("{" + name + "}", value)
    assert "{" not in path, f"give {path} an example"
    return path


def assert_problem(answer: Answer, what: str, status: range = range(400, 500)) -> dict[str, Any]:
    """A problem document that a program can rely on."""
    assert answer.status in status, f"{what}: {answer}"
    assert answer.headers["content-type"] == "application/problem+json", f"{what}: {answer}"
    document = answer.json
    assert document["type"] == f"https://trade2026.io/problems/{document['code']}", what
    assert document["status"] == answer.status, what
    assert document["title"] and document["detail"], what
    assert ("retry-after" in answer.headers) == ("retry_after" in document), what
    return document


def test_a_body_that_is_no_good_is_named_and_changes_nothing(stack: OneProcess) -> None:
    before = stack.decisions()
    for service, route, path in routes(stack, "POST", "PATCH", "PUT"):
        too_long = b'{"reason": "' + b"x" * route.body_bytes_max + b'"}'
        for name, (body, codes) in {**BODIES, "too long": (too_long, {"body_too_long"})}.items():
            if path in ("/flush", "/checkpoints") and not body:
                continue  # it needs none
            what = f"{service} {route.method} {path} with {name}"
            answer = stack.call(service, route.method, path, body)
            document = assert_problem(answer, what)
            if route.path == "/limits/strategies/{name}":
                codes = {*codes, "not_the_stacks_own"}  # whoever may not is told so before anything is read
            assert document["code"] in codes or answer.status == 404, f"{what}: {document}"
            assert document["detail"].isprintable(), f"{what}: {document}"
    assert stack.decisions() == before


def test_another_content_type_is_named(stack: OneProcess) -> None:
    for service, route, path in routes(stack, "POST", "PATCH"):
        if route.path == "/alerts/{id}/ack":
            continue
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            answer = stack.call(service, route.method, path, b"{}", headers={"Content-Type": content_type})
            document = assert_problem(answer, f"{service} {path} {content_type}", range(415, 416))
            assert "application/json" in document["detail"]


def test_an_unknown_method_is_answered_with_those_that_are_known(stack: OneProcess) -> None:
    for service in SERVICES:
        for path in {concrete(route.path) for route in stack.apps[service].routes}:
            known = _methods(stack, service, path)
            for method in {"PUT", "DELETE", "PATCH", "POST", "TRACE"} - known:
                what = f"{service} {method} {path}"
                answer = stack.call(service, method, path)
                document = assert_problem(answer, what, range(405, 406))
                assert document["code"] == "method_not_allowed", what
                allowed = {word.strip() for word in answer.headers["allow"].split(",")}
                assert known <= allowed <= known | {"HEAD"}, what


def _methods(stack: OneProcess, service: str, path: str) -> set[str]:
    """Also of routes with parameters that the path fits, e.g. /orders/{order_id} for /orders/batch."""
    found = set()
    for route in stack.apps[service].routes:
        parts, theirs = route.path.split("/"), path.split("/")
        if len(parts) == len(theirs) and all(a == b or a.startswith("{") for a, b in zip(parts, theirs, strict=True)):
            found.add(route.method)
    return found


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/orders/a/b/c/d", "/%00", "/%ff", "//orders", "/orders/", "/../etc/passwd", "/" + "a" * 5_000, "/Ω"],
)
def test_a_path_that_is_not_there_is_a_problem_document(stack: OneProcess, path: str) -> None:
    for service in SERVICES:
        answer = stack.call(service, "GET", path)
        assert_problem(answer, f"{service} {path}")


QUERIES = {
    "limit": ["0", "-1", "1001", "1.5", "ten", "", "1e3", "9" * 400, "١", "+1", " 1", "0x10", "NaN", "1_0"],
    "depth": ["0", "-1", "9999999", "x", "١", "9" * 400],
    "cursor": ["nothing", "o0-999999999", "9" * 400, "'; DROP TABLE orders; --", "%00", "-1", "١"],
    "before": ["x", "-1", "9" * 400, "١"],
    "status": ["opened", "NEW ", "%00", "1", "'"],
    "format": ["xml", ""],
    "scope": ["nobody:", "everything", ":", "account:", "%00"],
}
ASKED = [
    ("oms", "/orders", ("limit", "cursor", "status")),
    ("archive", "/orders", ("limit", "cursor", "status")),
    ("ptrc", "/reports/transactions", ("limit", "cursor", "format")),
    ("risk", "/alerts", ("limit", "cursor")),
    ("risk", "/limits/history", ("limit", "before")),
    ("risk", "/exposure", ("scope",)),
    ("gateway", "/book/BTCUSDT", ("depth",)),
    ("gateway", "/trades/BTCUSDT", ("limit",)),
]


@pytest.mark.parametrize(("service", "path", "names"), ASKED, ids=[f"{service}{path}" for service, path, _ in ASKED])
def test_a_wrong_query_names_its_parameter(stack: OneProcess, service: str, path: str, names: tuple[str, ...]) -> None:
    for name in names:
        for value in QUERIES[name]:
            answer = stack.call(service, "GET", f"{path}?{name}={value.replace(' ', '%20').replace('١', '%D9%A1')}")
            what = f"{service} {path}?{name}={value[:20]}"
            document = assert_problem(answer, what, range(422, 423))
            assert document["field"] == name, f"{what}: {document}"


@pytest.mark.parametrize(
    ("service", "path"),
    [(service, path) for service, path, _ in ASKED if service != "gateway"]
    + [("pnl", "/pnl"), ("oms", "/positions/main"), ("risk", "/limits"), ("archive", "/health")],
)
def test_a_parameter_that_nobody_knows_is_refused_and_not_ignored(stack: OneProcess, service: str, path: str) -> None:
    for name in ("foo", "acount", "LIMIT"):
        document = assert_problem(stack.call(service, "GET", f"{path}?{name}=1"), f"{service} {path}", range(422, 423))
        assert (document["code"], document["field"]) == ("unknown_parameter", name)


def test_pages_follow_each_other_without_a_gap(stack: OneProcess) -> None:
    ids = [stack.call("oms", "POST", "/orders", ORDER).json["order_id"] for _ in range(7)]
    stack.wait_until(lambda: stack.call("archive", "GET", f"/orders/{ids[-1]}").status == 200, "the history has them")
    for service in ("oms", "archive"):
        found, cursor = [], ""
        while cursor is not None:
            page = stack.call(service, "GET", f"/orders?limit=2{cursor and '&cursor=' + cursor}").json
            found += [order["order_id"] for order in page["orders"]]
            cursor = page["cursor"]
        assert found[:7] == ids[::-1], service
        assert len(found) == len(set(found)), service


def test_ids_that_nobody_has_are_404(stack: OneProcess) -> None:
    for service, path in (
        ("oms", "/orders/none"),
        ("archive", "/orders/none"),
        ("archive", "/trace/none"),
        ("gateway", "/orders/none"),
        ("gateway", "/ticker/NONE"),
        ("gateway", "/book/NONE"),
        ("gateway", "/trades/NONE"),
        ("pnl", "/pnl/none"),
        ("pnl", "/pnl/none/series"),
    ):
        assert_problem(stack.call(service, "GET", path), f"{service} {path}", range(404, 405))
    for method, path, body in (("DELETE", "/orders/none", None), ("PATCH", "/orders/none", {"quantity": 1})):
        assert_problem(stack.call("oms", method, path, body), path, range(404, 405))


# ── random documents ────────────────────────────────────────────────────────────────────────────────

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["BTCUSDT", "buy", "LIMIT", "main", "stack", "account:main", "GTD", "1", "0.001", "1e400", "NaN"])
    | st.sampled_from(["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2262-04-12T00:00:00Z", "2e9", "1h"])
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def documents(stack: OneProcess, service: str, route: Any) -> st.SearchStrategy[Any]:
    """Mostly the fields that the endpoint knows, with values that mostly make no sense."""
    names = sorted(getattr(route.request_schema, "__struct_fields__", ()))
    fields = st.sampled_from(names) if names else st.text(max_size=8)
    some = st.dictionaries(fields, _VALUES, max_size=6)
    if service == "oms" and route.path in ("/orders/batch", "/orders/list"):
        some = st.fixed_dictionaries(
            {"orders": st.lists(some.map(lambda wrong: ORDER | wrong), max_size=3)},
            optional={"kind": st.sampled_from(["OCO", "OTO", "BRACKET", "x"])},
        )
    elif "quantity" in names and "symbol" in names:
        some = some.map(lambda wrong: ORDER | wrong)
    return some | _VALUES


def try_documents(stack: OneProcess, service: str, route: Any, path: str) -> None:
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(document=documents(stack, service, route))
    def never_fails(document: Any) -> None:
        answer = stack.call(service, route.method, path, json.dumps(document).encode())
        assert 200 <= answer.status < 500, f"{service} {path} {document!r}: {answer}"
        if answer.status != 200:
            assert_problem(answer, f"{service} {path}")

    never_fails()


def test_no_statement_in_csv_makes_reconciliation_fail(stack: OneProcess) -> None:
    cell = st.sampled_from(["symbol", "quantity", "exec_id", "side", "BTCUSDT", "1", "-1", "NaN", "1_0", '"', "", "\0"])
    lines = st.lists(st.lists(cell | st.text(max_size=6), max_size=5).map(",".join), max_size=5).map("\n".join)

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(text=lines | lines.map(lambda rest: f"symbol,quantity\n{rest}"))
    def never_fails(text: str) -> None:
        answer = stack.call(
            "ptrc",
            "POST",
            "/reconcile?account=main&venue=SIM",
            text.encode("utf-8", "surrogatepass"),
            headers={"Content-Type": "text/csv"},
        )
        assert 200 <= answer.status < 500, f"{text!r}: {answer}"
        if answer.status != 200:
            assert_problem(answer, text)

    never_fails()


@pytest.mark.parametrize("service", SERVICES)
def test_no_document_makes_a_service_fail(stack: OneProcess, service: str) -> None:
    takers = [(route, path) for name, route, path in routes(stack, "POST", "PATCH") if name == service]
    for route, path in takers:
        if route.path not in ("/kill", "/resume"):
            try_documents(stack, service, route, path)
    events = stack.events()
    assert [envelope.seq for envelope in events] == list(range(len(events)))


def test_a_word_that_names_no_scope_stops_nothing(stack: OneProcess) -> None:
    before = stack.decisions()
    for service, path in (
        ("oms", "/orders/cancel-all"),
        ("oms", "/kill"),
        ("oms", "/resume"),
        ("risk", "/kill"),
        ("risk", "/resume"),
        ("gateway", "/kill"),
        ("gateway", "/resume"),
    ):
        for scope in ("", "everything", "account", "account:", ":main", "STACK", "user:main", "stack "):
            answer = stack.call(service, "POST", path, {"scope": scope, "reason": "x"})
            assert assert_problem(answer, f"{service} {path} {scope!r}", range(422, 423))["code"] == "bad_scope"
    assert stack.decisions() == before


def test_two_long_idempotency_keys_are_never_taken_for_one(stack: OneProcess) -> None:
    for key in ("k" * 65, "k" * 64 + "1", "\x80"):
        answer = stack.call("oms", "POST", "/orders", ORDER, headers={"Idempotency-Key": key})
        document = assert_problem(answer, key, range(422, 423))
        assert document["field"] == "Idempotency-Key"
    ids = {
        stack.call("oms", "POST", "/orders", ORDER, headers={"Idempotency-Key": "k" * 64}).json["order_id"]
        for _ in range(3)
    }
    assert len(ids) == 1


def test_a_bare_symbol_means_the_instrument_also_where_it_is_stopped_or_limited(stack: OneProcess) -> None:
    order = {"symbol": "ETHUSDT", "side": "buy", "quantity": "0.01", "price": "45000"}
    for service in ("oms", "risk"):
        killed = stack.call(service, "POST", "/kill", {"scope": "instrument:ETHUSDT", "reason": "test"})
        assert killed.json["scope"] == "instrument:ETHUSDT.SIM", killed
        refused = stack.call("oms", "POST", "/orders", order)
        assert refused.json["reject_code"] == "KILLED", refused
        released = stack.call("risk", "POST", "/resume", {"scope": "instrument:ETHUSDT", "reason": "test"})
        assert released.status == 200, released
    for service in ("oms", "risk", "gateway"):
        for scope in ("instrument:DOGE", "venue:NYSE", "account:" + "a" * 200, "account:\n"):
            answer = stack.call(service, "POST", "/kill", {"scope": scope, "reason": "test"})
            assert assert_problem(answer, f"{service} {scope[:20]}")["code"] == "bad_scope"
    for wrong, field in (
        ({"restricted": ["DOGE"]}, "limits.restricted"),
        ({"allowed_instruments": ["\0"]}, "limits.allowed_instruments"),
        ({"allowed_venues": ["NYSE"]}, "limits.allowed_venues"),
        ({"duplicate_window": "99999999999d"}, "limits.duplicate_window"),
        ({"price_collar": "\u0661%"}, "limits.price_collar"),
    ):
        answer = stack.call("risk", "POST", "/limits/tighten", {"limits": wrong, "reason": "test"})
        assert assert_problem(answer, str(wrong))["field"] == field
    tightened = {"limits": {"restricted": ["ETHUSDT"]}, "reason": "test"}
    assert stack.call("risk", "POST", "/limits/tighten", tightened).status == 200
    stack.wait_until(
        lambda: stack.call("oms", "POST", "/orders", order).json.get("reject_code") == "RESTRICTED",
        "the restriction is in force",
    )


@pytest.mark.parametrize("account", ["a/b", "..", " a", "a ", "\u200b", "x" * 65, "\n"])
def test_an_account_that_could_not_be_asked_for_is_no_account(stack: OneProcess, account: str) -> None:
    answer = stack.call("oms", "POST", "/orders", {**ORDER, "account": account})
    assert assert_problem(answer, repr(account))["field"] == "account"
