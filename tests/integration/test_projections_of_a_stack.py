"""The whole path in one process: one trace from the request to P&L, and books that agree with the venue's."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from one_process import SECONDS_MAX, OneProcess
from websockets.sync.client import connect

from trade2026.domain.events import Envelope
from trade2026.kit.settings import PeerSettings, ProcessSettings
from trade2026.stack.facts import SERVICES, peers_of

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
TOPICS = ("orders.events", "venue.reports", "positions", "pnl")
MARKET = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.001", "order_type": "MARKET"}


def with_peers(settings: ProcessSettings) -> ProcessSettings:
    """Each service is told of the others, as if they lived elsewhere."""
    peers = {
        name: [PeerSettings(peer.name, settings.ports[peer.name]) for peer in peers_of(SERVICES[name])]
        for name in settings.services
    }
    return msgspec.structs.replace(settings, peers=peers)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneProcess]:
    """Every service, open to this machine."""
    with OneProcess(tmp_path_factory.mktemp("stack"), change=with_peers) as running:
        yield running


def send(stack: OneProcess, order: dict[str, Any], traceparent: str = "") -> str:
    """Place an order once the market is there."""
    stack.wait_until(
        lambda: stack.call("gateway", "GET", "/ticker/BTCUSDT").json.get("ask") is not None, "the market is there"
    )
    headers = {"traceparent": traceparent} if traceparent else {}

    def accepted() -> Any:
        answer = stack.call("oms", "POST", "/orders", order, headers=headers)
        return answer.status == 200 and answer.json["order_id"]

    return stack.wait_until(accepted, "an order is accepted")


def of_order(stack: OneProcess, order_id: str) -> dict[str, list[Envelope]]:
    return {
        topic: [found for found in stack.events(topic) if getattr(found.data, "order_id", "") == order_id]
        for topic in TOPICS
    }


def test_an_order_is_one_trace_from_the_request_to_pnl(stack: OneProcess) -> None:
    order_id = send(stack, MARKET | {"client_order_id": "traced"}, TRACEPARENT)
    stack.wait_until(lambda: all(of_order(stack, order_id).values()), "P&L has heard of the fill")
    by_topic = of_order(stack, order_id)
    everything = [envelope for envelopes in by_topic.values() for envelope in envelopes]
    assert {envelope.traceparent[3:35] for envelope in everything} == {TRACE_ID}
    assert {envelope.correlation_id for envelope in everything} == {order_id}

    ids = {f"{topic}/0/{envelope.seq}" for topic, found in by_topic.items() for envelope in found}
    first = by_topic["orders.events"][0]
    roots = [envelope for envelope in everything if envelope.causation_id not in ids]
    assert roots == [first], "every event but the first names the one that caused it"
    fills = [f"orders.events/0/{e.seq}" for e in by_topic["orders.events"] if type(e.data).__name__ == "OrderFilled"]
    for topic in ("positions", "pnl"):
        assert [envelope.causation_id for envelope in by_topic[topic]] == fills


def test_a_cancelled_order_keeps_its_trace_although_the_cancel_has_another(stack: OneProcess) -> None:
    order_id = send(stack, MARKET | {"order_type": "LIMIT", "price": "30000"}, TRACEPARENT)
    stack.wait_until(lambda: len(of_order(stack, order_id)["orders.events"]) >= 2, "the venue has it")
    other = TRACEPARENT.replace(TRACE_ID, "a" * 32)
    assert stack.call("oms", "DELETE", f"/orders/{order_id}", headers={"traceparent": other}).status == 200
    stack.wait_until(
        lambda: stack.call("oms", "GET", f"/orders/{order_id}").json["status"] == "Canceled", "it is cancelled"
    )
    everything = [envelope for found in of_order(stack, order_id).values() for envelope in found]
    assert {envelope.traceparent[3:35] for envelope in everything} == {TRACE_ID}


def test_books_agree_with_the_venue_and_with_each_other(stack: OneProcess) -> None:
    for number in range(6):
        side = "sell" if number % 3 == 2 else "buy"
        send(stack, MARKET | {"side": side, "strategy": f"s{number % 2}", "account": "books"})

    def all_filled() -> bool:
        fills = Counter(
            envelope.data.account  # type: ignore[union-attr]
            for envelope in stack.events()
            if type(envelope.data).__name__ == "OrderFilled"
        )
        return fills["books"] >= 6

    stack.wait_until(all_filled, "all are filled")
    end = len(stack.events()) - 1

    def positions(service: str) -> dict[str, Any]:
        def caught_up() -> Any:
            answer = stack.call(service, "GET", "/positions/books").json
            return answer["as_of"] >= end and answer

        return stack.wait_until(caught_up, f"{service} has folded everything")

    (oms,), (ptrc,), (pnl,) = (positions(service)["positions"] for service in ("oms", "ptrc", "pnl"))
    for key in ("symbol", "quantity", "average_price", "realized", "fees"):
        assert oms[key] == ptrc[key] == pnl[key], key
    assert oms["quantity"] == "0.002"
    assert sorted(part["strategy"] for part in ptrc["strategies"]) == ["s0", "s1"]
    answer = stack.call("ptrc", "GET", "/reconcile/SIM")
    assert (answer.status, answer.json["matched"]) == (200, True), answer.body


def test_an_order_that_went_past_the_oms_is_a_break_and_not_ours(stack: OneProcess) -> None:
    order = MARKET | {"account": "past", "client_order_id": "past"}
    stack.wait_until(lambda: stack.call("gateway", "POST", "/orders", order).status == 200, "the venue takes it")
    send(stack, MARKET | {"account": "later"})

    def found() -> Any:
        answer = stack.call("ptrc", "GET", "/reconcile/SIM?account=past").json
        return answer["accounts"][0]["breaks"]

    (line,) = stack.wait_until(found, "the reconciliation finds it")
    assert (line["our_quantity"], line["venue_quantity"], line["explained"]) == ("0", "0.001", True)
    assert {cause["kind"] for cause in line["causes"]} == {"not_ours"}


def test_health_of_every_service_names_its_peers(stack: OneProcess) -> None:
    expected = {"oms": {"risk", "gateway", "normalizer"}, "gateway": {"oms"}, "pnl": {"oms", "normalizer"}}
    for service, peers in expected.items():
        stack.wait_until(lambda service=service: stack.call(service, "GET", "/health").status == 200, "all is well")
        checks = stack.call(service, "GET", "/health").json["checks"]
        assert {name.removeprefix("peer_") for name in checks if name.startswith("peer_")} == peers


def test_the_market_is_pushed_to_whoever_subscribes(stack: OneProcess) -> None:
    url = f"ws://127.0.0.1:{stack.settings.ports['gateway']}/ws/market"
    with connect(url) as socket:
        socket.send('{"op": "subscribe", "channels": ["trades", "books", "tickers"], "symbols": ["BTCUSDT"]}')
        assert json.loads(socket.recv(SECONDS_MAX))["symbols"] == ["BTCUSDT.SIM"]
        seen: dict[str, dict[str, Any]] = {}
        while len(seen) < 3:
            message = json.loads(socket.recv(SECONDS_MAX))
            seen[message["channel"]] = message
        assert seen["trades"]["ts_source"].startswith("2013-11")
        assert float(seen["books"]["bids"][0][0]) < float(seen["books"]["asks"][0][0])
        assert seen["tickers"]["symbol"] == "BTCUSDT.SIM"
        socket.send('{"op": "subscribe", "channels": ["nothing"]}')
        while "error" not in (message := json.loads(socket.recv(SECONDS_MAX))):
            pass
        assert "channels" in message["error"]


def test_each_service_tells_how_far_it_is_behind_in_each_topic_that_it_follows(stack: OneProcess) -> None:
    send(stack, MARKET)
    planned = {name: SERVICES[name].follows for name in stack.services}
    del planned["exeq"]  # it follows while there are parents

    def told() -> bool:
        follows = {name: stack.call(name, "GET", "/stats").json["follows"] for name in planned}
        missing = {
            name: [topic for topic in topics if f"{topic}/0" not in follows[name]] for name, topics in planned.items()
        }
        print({name: topics for name, topics in missing.items() if topics})
        return not any(missing.values())

    stack.wait_until(told, "every topic that the facts name is followed, and told of")
    lag = 'trade2026_follower_lag_seconds{partition="0",service="ptrc",topic="orders.events"}'
    assert lag in stack.call("ptrc", "GET", "/metrics").body.decode()
