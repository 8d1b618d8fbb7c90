"""Risk over HTTP: what a request means, and what is wrong with a bad one."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from trade2026.controls.limits import LimitBook, LimitSet, Rate, Tightening
from trade2026.controls.machine import Controls
from trade2026.domain.events import Killed
from trade2026.domain.instruments import Instrument, Instruments
from trade2026.domain.orders import OrderSpec
from trade2026.kit.body import parse
from trade2026.kit.http import Problem
from trade2026.risk import api
from trade2026.risk.limits_input import read_limits, read_time, show_book
from trade2026.risk.machine import RiskMachine, WouldWiden

UNIT = 10**9
NOW = 1_700_000_000 * UNIT
BTC = Instrument(symbol="BTCUSDT", venue="SIM", base="BTC", quote="USDT", settlement="USDT", tick_size=10, lot_size=10)


class Routes:
    """Remembers handlers in place of an app."""

    def __init__(self) -> None:
        self.handlers: dict[tuple[str, str], Any] = {}
        self.roles: dict[tuple[str, str], str] = {}

    def route(self, method: str, path: str, *, role: str = "viewer", **about: Any) -> Any:
        def keep(handler: Any) -> Any:
            self.handlers[method, path], self.roles[method, path] = handler, role
            return handler

        return keep


@dataclass
class Ask:
    """A request as handlers see it."""

    body: bytes = b""
    params: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    accounts: list[str] | None = None
    received_ns: int = NOW

    @property
    def principal(self) -> Any:
        return SimpleNamespace(name="ann", role="risk", accounts=self.accounts)

    def json(self, kind: type) -> Any:
        return parse(self.body, kind)


class Risk:
    """The service without a bus."""

    as_of = 41

    def __init__(self, limits: LimitSet | None = None) -> None:
        self.instruments = Instruments([BTC])
        self.settings = SimpleNamespace(default_account="main")
        self.book = LimitBook(version=2, stack=limits or LimitSet())
        self.controls = Controls(self.book, self.instruments.by_id)
        self.log = SimpleNamespace(machine=RiskMachine())
        self.reached = True
        self.tightened: list[Tightening] = []
        self.stops = SimpleNamespace(kill=self._kill, unconfirmed=lambda scope: [])

    def orders_of(self, account: str) -> Any:
        return SimpleNamespace(controls=self.controls, as_of=self.as_of)

    def exposure(self, kind: str, name: str = "") -> Any:
        return self.controls.exposure(kind, name)

    def explain(self, spec: OrderSpec, now: int) -> Any:
        return self.controls.explain(spec, None, now)

    def stopped(self) -> dict[str, Killed]:
        return {}

    async def tighten(self, wanted: Tightening) -> LimitBook:
        if wanted.limits.max_open_orders:
            raise WouldWiden(wanted.scope, ["max_open_orders"])
        self.tightened.append(wanted)
        return self.book

    def warnings(self, book: LimitBook, scope: str) -> list[str]:
        return [f"{scope} is too fine"]

    async def _kill(self, stop: Killed, authorization: str) -> dict[str, Any]:
        return {"scope": stop.scope, "reached": {"oms": {"ok": self.reached}, "gateway": {"ok": False}}, "by": stop.by}


async def call(risk: Risk, method: str, path: str, body: Any = None, **about: Any) -> Any:
    routes = Routes()
    api.add_routes(routes, risk)  # type: ignore[arg-type]
    ask = Ask(body=msgspec.json.encode(body) if body is not None else b"", **about)
    return msgspec.json.decode((await routes.handlers[method, path](ask)).body)


async def problem(risk: Risk, method: str, path: str, body: Any = None, **about: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        await call(risk, method, path, body, **about)
    return caught.value


ORDER = {"symbol": "BTCUSDT", "side": "buy", "quantity": 1, "price": "100"}


@pytest.mark.parametrize(
    ("limit", "approved", "level"),
    [(1_000, True, "low"), (140, True, "medium"), (110, True, "high"), (100, True, "high"), (99, False, "blocked")],
)
async def test_a_check_says_how_near_the_nearest_limit_is(limit: int, approved: bool, level: str) -> None:
    answer = await call(Risk(LimitSet(max_order_value=limit * UNIT)), "POST", "/check", ORDER)
    assert (answer["approved"], answer["risk_level"], answer["as_of"]) == (approved, level, 41)


async def test_a_refusal_names_the_code_and_shows_every_rule() -> None:
    risk = Risk(LimitSet(max_order_value=99 * UNIT, max_order_quantity=5 * UNIT))
    answer = await call(risk, "POST", "/check", ORDER)
    assert answer["reason"].startswith("MAX_ORDER_VALUE: value 100 is above 99")
    verdicts = {check["rule"]: check["passed"] for check in answer["checks"]}
    assert verdicts["max_order_value"] is False
    assert verdicts["max_order_quantity"] is True


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"symbol": "NOPE"}, "unknown_symbol", "symbol"),
        ({"side": "hold"}, "bad_side", "side"),
        ({"quantity": 0}, "not_positive", "quantity"),
        ({"quantity": "-1"}, "not_positive", "quantity"),
        ({"quantity": "0.0000000001"}, "too_many_decimals", "quantity"),
        ({"quantity": "1e400"}, "too_large", "quantity"),
        ({"quantity": "NaN"}, "not_finite", "quantity"),
        ({"price": "0"}, "not_positive", "price"),
        ({"price": None, "order_type": "LIMIT"}, "bad_price", "price"),
        ({"order_type": "MARKET"}, "bad_price", "price"),
        ({"order_type": "STOP_LIMIT"}, "bad_stop_price", "stop_price"),
        ({"quantity": "0.000000003"}, "off_lot", "quantity"),
        ({"price": "100.000000003"}, "off_tick", "price"),
        ({"order_type": "WISH"}, "bad_order_type", "order_type"),
    ],
)
async def test_a_bad_check_names_its_field(change: dict[str, Any], code: str, field: str) -> None:
    found = await problem(Risk(), "POST", "/check", ORDER | change)
    assert (found.status, found.code, found.field) == (422, code, field)


async def test_a_check_of_an_account_that_one_may_not_use_is_refused() -> None:
    assert (await problem(Risk(), "POST", "/check", ORDER, accounts=["other"])).status == 403


@pytest.mark.parametrize("scope", ["firm", "stack", "account:main", "trader:t", "client:c", "instrument:BTCUSDT.SIM"])
async def test_exposure_is_shown_for_a_scope(scope: str) -> None:
    answer = await call(Risk(), "GET", "/exposure", query={"scope": scope})
    assert (answer["gross"], answer["open_orders"], answer["as_of"]) == ("0", 0, 41)


@pytest.mark.parametrize("scope", ["", "planet:earth", "account:", "accountmain"])
async def test_an_unknown_scope_is_refused(scope: str) -> None:
    assert (await problem(Risk(), "GET", "/exposure", query={"scope": scope})).code == "bad_scope"
    assert (await problem(Risk(), "POST", "/kill", {"scope": scope, "reason": "r"})).code == "bad_scope"


async def test_who_may_see_one_account_may_not_see_the_firm() -> None:
    assert (await problem(Risk(), "GET", "/exposure", accounts=["main"])).status == 403


async def test_a_tightening_carries_who_why_and_until_when() -> None:
    risk = Risk()
    body = {
        "scope": "instrument:BTCUSDT",
        "limits": {"maxPosition": "2"},
        "reason": "thin",
        "until": "2030-01-31T16:00:00Z",
    }
    answer = await call(risk, "POST", "/limits/tighten", body)
    assert answer["warnings"] == ["instrument:BTCUSDT.SIM is too fine"]
    (wanted,) = risk.tightened
    assert (wanted.scope, wanted.by, wanted.reason) == ("instrument:BTCUSDT.SIM", "ann", "thin")
    assert wanted.limits == LimitSet(max_position=2 * UNIT)
    assert wanted.until == 1_896_105_600 * UNIT


async def test_a_widening_is_a_conflict_that_names_the_fields() -> None:
    found = await problem(Risk(), "POST", "/limits/tighten", {"limits": {"max_open_orders": 9}, "reason": "r"})
    assert (found.status, found.code) == (409, "would_widen")


@pytest.mark.parametrize("path", ["/limits/tighten", "/resume", "/symbols/{symbol}/block"])
async def test_a_change_without_a_reason_is_refused(path: str) -> None:
    limits = {"limits": {"max_open_orders": 0}} if path == "/limits/tighten" else {}
    found = await problem(Risk(), "POST", path, {"reason": " ", **limits}, params={"symbol": "BTCUSDT"})
    assert (found.status, found.field) == (422, "reason")


async def test_a_kill_that_nobody_confirmed_is_no_success() -> None:
    risk = Risk()
    assert (await call(risk, "POST", "/kill", {"reason": "r"}))["by"] == "ann"
    risk.reached = False
    assert (await problem(risk, "POST", "/kill", {"reason": "r"})).status == 503


def test_only_the_risk_role_changes_anything() -> None:
    routes = Routes()
    api.add_routes(routes, Risk())  # type: ignore[arg-type]
    changing = {path for (method, path) in routes.handlers if method in ("POST", "PUT")} - {"/check", "/slices"}
    assert {path for (_, path), role in routes.roles.items() if role == "risk"} == changing
    assert routes.roles["POST", "/slices"] == "trader"


def test_limits_are_read_as_people_write_them() -> None:
    assert read_limits(
        {
            "max_order_value": "10000.5",
            "maxOpenOrders": 3,
            "price_collar": "2%",
            "passive_collar_bps": 50,
            "duplicateWindow": "1.5s",
            "order_rate": {"count": 10, "per": "1m"},
            "max_executions": {"count": 1, "per_ns": 5},
            "restricted": ["B.X", "A.X"],
        }
    ) == LimitSet(
        max_order_value=10_000_500_000_000,
        max_open_orders=3,
        price_collar_bps=200,
        passive_collar_bps=50,
        duplicate_window_ns=1_500_000_000,
        order_rate=Rate(count=10, per_ns=60 * UNIT),
        max_executions=Rate(count=1, per_ns=5),
        restricted=["A.X", "B.X"],
    )


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"max_joy": 1},
        {"max_order_value": "much"},
        {"max_order_value": -1},
        {"max_order_value": True},
        {"max_open_orders": 1.5},
        {"price_collar": "2.005%"},
        {"price_collar": "NaN"},
        {"price_collar": 50},
        {"passiveCollar": "50"},
        {"duplicate_window": "soon"},
        {"order_rate": 5},
        {"order_rate": {"count": 5, "per": "0s"}},
        {"restricted": "BTCUSDT"},
    ],
)
def test_bad_limits_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(Problem) as caught:
        read_limits(given)
    assert caught.value.status == 422


@pytest.mark.parametrize("text", ["tomorrow", "2030-01-31T16:00:00", "2001-01-01T00:00:00Z"])
def test_an_end_that_is_no_time_to_come_is_refused(text: str) -> None:
    with pytest.raises(Problem):
        read_time(text, NOW)


def test_limits_are_shown_as_decimal_text() -> None:
    book = LimitBook(version=4, stack=LimitSet(max_order_value=1_500_000_000, max_open_orders=2))
    assert show_book(book)["limits"] == {"stack": {"max_order_value": "1.5", "max_open_orders": 2}}


async def test_only_the_stacks_own_key_tells_the_limits_of_a_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, LimitSet, str, str]] = []

    async def tell(*words: Any) -> None:
        told.append(words)

    risk = Risk()
    risk.tell, risk.is_enforced = tell, lambda name: False  # type: ignore[attr-defined]
    body = {"limits": {"max_position": 7, "max_executions": {"count": 3, "per_ns": 9}}, "reason": "it was applied"}
    about: dict[str, Any] = {"params": {"name": "maker"}, "headers": {b"authorization": b"Bearer own"}}
    for key in ("", "another"):
        monkeypatch.setenv("TRADE2026_KEY", key)
        assert (await problem(risk, "PUT", "/limits/strategies/{name}", body, **about)).status == 403
    assert not told
    monkeypatch.setenv("TRADE2026_KEY", "own")
    shown = await call(risk, "PUT", "/limits/strategies/{name}", body, **about)
    own = LimitSet(max_position=7, max_executions=Rate(count=3, per_ns=9))
    assert told == [("maker", own, "ann", "it was applied")]
    assert shown == {"strategy": "maker", "limits": {}, "enforced": False}
    risk.book = msgspec.structs.replace(risk.book, told={"maker": own})
    listed = await call(risk, "GET", "/limits/strategies")
    assert listed == {"strategies": [{"strategy": "maker", "limits": body["limits"], "enforced": False}]}
