"""Given a book and orders, when something arrives, then the venue reports this."""

import msgspec
import pytest
from gateway_builders import BOOK, Desk, book, spec, state
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from trade2026.domain import events as ev
from trade2026.domain.numbers import to_nanos
from trade2026.domain.orders import OrderType, TimeInForce
from trade2026.gateway import commands as cmd
from trade2026.gateway import machine


def fills(reports):
    return [(e.order_id, e.last_qty, e.last_px) for e in reports if isinstance(e, ev.VenueFilled)]


def kinds(reports):
    return [type(report).__name__ for report in reports]


def nanos(order_id, quantity, price):
    return order_id, to_nanos(quantity), to_nanos(price)


# ── orders that take ────────────────────────────────────────────────────────────────────────


def test_a_market_order_walks_the_book_and_pays_the_taker_fee():
    reports = Desk().place("o1", spec("BUY", "2"))
    assert kinds(reports) == ["VenueAccepted", "VenueFilled", "VenueFilled"]
    assert fills(reports) == [nanos("o1", "1", "101"), nanos("o1", "1", "102")]
    assert reports[1].fee == to_nanos("101") * to_nanos("1") * 5 // 10_000
    assert (reports[1].liquidity, reports[1].source) == ("TAKER", "book")


def test_what_was_taken_is_gone_until_the_next_print():
    desk = Desk()
    desk.place("o1", spec("BUY", "1"))
    assert fills(desk.place("o2", spec("BUY", "1"))) == [nanos("o2", "1", "102")]
    desk.print("100", "0.001", BOOK)
    assert fills(desk.place("o3", spec("BUY", "1"))) == [nanos("o3", "1", "101")]


def test_the_rest_of_a_market_order_beyond_the_book_is_cancelled_unsolicited():
    reports = Desk().place("o1", spec("SELL", "5"))
    assert fills(reports) == [nanos("o1", "1", "99"), nanos("o1", "2", "98")]
    assert isinstance(reports[-1], ev.VenueCanceled)
    assert reports[-1].unsolicited


def test_a_market_order_before_the_first_print_is_rejected():
    assert kinds(Desk(market=None).place("o1", spec("BUY", "1"))) == ["VenueRejected"]


def test_a_marketable_limit_takes_up_to_its_price_and_the_rest_rests():
    desk = Desk()
    reports = desk.place("o1", spec("BUY", "2", "101.5"))
    assert fills(reports) == [nanos("o1", "1", "101")]
    assert desk.venue.orders["o1"].leaves_qty == to_nanos("1")


def test_an_ioc_order_takes_what_is_there_and_never_rests():
    desk = Desk()
    reports = desk.place("o1", spec("BUY", "2", "101", time_in_force=TimeInForce.IOC))
    assert kinds(reports) == ["VenueAccepted", "VenueFilled", "VenueCanceled"]
    assert desk.print("90", "10") == []


def test_a_fok_order_fills_whole_or_not_at_all():
    desk = Desk()
    fok = {"time_in_force": TimeInForce.FOK}
    assert kinds(desk.place("o1", spec("BUY", "1.5", "101", **fok))) == ["VenueAccepted", "VenueCanceled"]
    assert fills(desk.place("o2", spec("BUY", "1.5", "102", **fok))) == [
        nanos("o2", "1", "101"),
        nanos("o2", "0.5", "102"),
    ]


def test_a_post_only_order_that_would_take_is_rejected_with_its_code():
    desk = Desk()
    [report] = desk.place("o1", spec("BUY", "1", "101", post_only=True))
    assert report.reject_code == "POST_ONLY"
    assert kinds(desk.place("o2", spec("BUY", "1", "100.99", post_only=True))) == ["VenueAccepted"]


def test_an_order_for_an_unknown_instrument_and_a_held_type_are_rejected():
    desk = Desk()
    assert kinds(desk.place("o1", spec("BUY", "1", "99", instrument="X.SIM"))) == ["VenueRejected"]
    assert kinds(desk.place("o2", spec("BUY", "1", "99", order_type=OrderType.STOP_LIMIT))) == ["VenueRejected"]


# ── orders that rest ────────────────────────────────────────────────────────────────────────


def test_a_print_through_the_price_fills_at_the_limit_with_the_maker_fee():
    desk = Desk()
    desk.place("o1", spec("BUY", "1", "99"))
    [report] = desk.print("98.99", "5")
    assert fills([report]) == [nanos("o1", "1", "99")]
    assert (report.liquidity, report.fee) == ("MAKER", to_nanos("99") * to_nanos("1") // 10_000)
    assert report.source == "t-0-2"


def test_a_print_at_the_price_fills_only_after_the_queue_ahead():
    desk = Desk()
    desk.place("o1", spec("BUY", "1", "99"))
    assert desk.print("99", "0.6") == []
    assert fills(desk.print("99", "0.6")) == [nanos("o1", "0.2", "99")]


def test_a_print_away_from_the_price_fills_nothing():
    desk = Desk()
    desk.place("b", spec("BUY", "1", "98.5"))
    desk.place("s", spec("SELL", "1", "101.5"))
    assert desk.print("99", "100") == []


def test_a_print_is_shared_best_price_first_then_by_time():
    desk = Desk()
    desk.place("late-but-better", spec("SELL", "1", "100.5"))
    desk.place("first", spec("SELL", "1", "100.6"))
    desk.place("second", spec("SELL", "1", "100.6"))
    assert fills(desk.print("100.7", "2.5")) == [
        nanos("late-but-better", "1", "100.5"),
        nanos("first", "1", "100.6"),
        nanos("second", "0.5", "100.6"),
    ]


def test_an_iceberg_goes_to_the_end_of_the_queue_after_each_clip():
    desk = Desk()
    desk.place("ice", spec("BUY", "3", "99.5", order_type=OrderType.ICEBERG, display_quantity=to_nanos("1")))
    desk.place("plain", spec("BUY", "1", "99.5"))
    assert fills(desk.print("99.5", "1.5")) == [nanos("ice", "1", "99.5"), nanos("plain", "0.5", "99.5")]
    assert fills(desk.print("99.5", "1")) == [nanos("plain", "0.5", "99.5"), nanos("ice", "0.5", "99.5")]


def test_one_print_fills_a_limited_number_of_orders_and_the_next_goes_on(monkeypatch):
    monkeypatch.setattr(machine, "FILLS_PER_PRINT_MAX", 3)
    desk = Desk()
    for number in range(5):
        desk.place(f"o{number}", spec("BUY", "0.1", "99.5"))
    assert len(fills(desk.print("99", "10"))) == 3
    assert len(fills(desk.print("99", "10"))) == 2


# ── changes ─────────────────────────────────────────────────────────────────────────────────


def test_a_cancel_takes_the_order_away_and_a_second_one_is_too_late():
    desk = Desk()
    desk.place("o1", spec("BUY", "1", "99"))
    [report] = desk.cancel("o1")
    assert isinstance(report, ev.VenueCanceled)
    assert not report.unsolicited
    assert kinds(desk.cancel("o1")) == ["VenueCancelRejected"]
    assert kinds(desk.cancel("nobody's")) == ["VenueCancelRejected"]
    assert desk.print("90", "10") == []


def test_a_cancel_after_the_kill_that_already_canceled_the_order_is_answered_by_nothing_new():
    desk = Desk()
    desk.place("o1", spec("BUY", "1", "99"))
    assert kinds(desk.decide(cmd.CancelMany(ts=1, order_ids=["o1"], reason="killed"))) == ["VenueCanceled"]
    assert desk.cancel("o1") == []


def test_a_replacement_with_a_marketable_price_takes_at_once():
    desk = Desk()
    desk.place("o1", spec("BUY", "1", "99"))
    assert kinds(desk.replace("o1", "1", "101")) == ["VenueReplaced", "VenueFilled"]


def test_a_smaller_quantity_keeps_the_place_in_the_queue_and_a_larger_one_loses_it():
    desk = Desk()
    for name in ("a", "b", "c"):
        desk.place(name, spec("BUY", "1", "99.5"))
    desk.replace("a", "0.5", "99.5")
    desk.replace("b", "2", "99.5")
    assert [name for name, _, _ in fills(desk.print("99", "10"))] == ["a", "c", "b"]


def test_a_replacement_below_what_is_filled_is_rejected():
    desk = Desk()
    desk.place("o1", spec("BUY", "2", "99.5"))
    desk.print("99.4", "1")
    assert kinds(desk.replace("o1", "1", "99.5")) == ["VenueReplaceRejected"]
    assert kinds(desk.replace("o1", "1.5", "99.5")) == ["VenueReplaced"]
    assert desk.venue.orders["o1"].leaves_qty == to_nanos("0.5")


def test_a_post_only_order_cannot_be_replaced_into_the_book():
    desk = Desk()
    desk.place("o1", spec("BUY", "1", "99", post_only=True))
    assert kinds(desk.replace("o1", "1", "101")) == ["VenueReplaceRejected"]


# ── idempotence, kill ───────────────────────────────────────────────────────────────────────


def test_the_same_order_again_changes_nothing_even_after_it_closed():
    desk = Desk()
    desk.place("o1", spec("BUY", "1", "99"))
    assert desk.place("o1", spec("BUY", "1", "99")) == []
    desk.cancel("o1")
    assert desk.place("o1", spec("BUY", "1", "99")) == []
    desk.place("o2", spec("BUY", "1", "101", post_only=True))
    assert desk.place("o2", spec("BUY", "1", "101", post_only=True)) == []


def test_a_halt_lets_reduce_only_orders_pass_unless_a_kill_holds_too():
    desk = Desk(kills={"account:main": cmd.Kill("lunch", halt=True)})
    [refused] = desk.place("o1", spec("SELL", "1", "105"))
    assert (refused.reject_code, "account:main is halted at the venue: lunch" in refused.reason) == ("HALTED", True)
    assert kinds(desk.place("o2", spec("SELL", "1", "105", reduce_only=True))) == ["VenueAccepted"]
    desk.kills["stack"] = cmd.Kill("runs away")
    [refused] = desk.place("o3", spec("SELL", "1", "105", reduce_only=True))
    assert refused.reject_code == "KILLED"


def test_a_killed_scope_is_refused_and_others_are_not():
    desk = Desk(kills={"account:main": cmd.Kill("runs away")})
    [report] = desk.place("o1", spec("BUY", "1", "99"))
    assert report.reject_code == "KILLED"
    assert "runs away" in report.reason
    assert kinds(desk.place("o2", spec("BUY", "1", "99", account="other"))) == ["VenueAccepted"]


def test_many_orders_are_cancelled_unsolicited_and_those_that_are_gone_are_passed_over():
    desk = Desk()
    desk.place("o1", spec("BUY", "1", "99"))
    desk.place("o2", spec("BUY", "1", "99", account="other"))
    assert desk.venue.in_scope("account:main") == ["o1"]
    reports = desk.decide(cmd.CancelMany(ts=1, order_ids=["o1", "gone", "o2"], reason="killed"))
    assert [(report.order_id, report.unsolicited) for report in reports] == [("o1", True), ("o2", True)]


# ── properties ──────────────────────────────────────────────────────────────────────────────

PRICES = ["97", "98", "98.5", "99", "99.5", "100", "100.5", "101", "101.5", "102", "103"]
QUANTITIES = ["0.001", "0.5", "1", "2.5"]
BOOKS = [
    BOOK,
    book([("98", "1"), ("97", "3")], [("98.5", "0.5"), ("99", "2")]),
    book([("101.5", "2")], [("102", "0.001"), ("103", "1")]),
]
order = st.builds(
    lambda side, quantity, price, kind, tif, post, expire_at: spec(
        side,
        quantity,
        None if kind is OrderType.MARKET else price,
        order_type=kind,
        time_in_force=tif,
        post_only=post and kind is not OrderType.MARKET and tif is TimeInForce.GTC,
        display_quantity=to_nanos("0.001") if kind is OrderType.ICEBERG else 0,
        expire_at=expire_at if tif is TimeInForce.GTC else 0,
    ),
    st.sampled_from(["BUY", "SELL"]),
    st.sampled_from(QUANTITIES),
    st.sampled_from(PRICES),
    st.sampled_from([OrderType.LIMIT, OrderType.LIMIT, OrderType.MARKET, OrderType.ICEBERG]),
    st.sampled_from([TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK]),
    st.booleans(),
    st.sampled_from([0, 0, 0, 5, 20, 50]),
)
name = st.integers(0, 12).map(lambda number: f"o{number % 4}-{number}")
action = st.one_of(
    st.tuples(st.just("place"), name, order),
    st.tuples(st.just("place"), name, order),
    st.tuples(st.just("cancel"), name),
    st.tuples(st.just("replace"), name, st.sampled_from(QUANTITIES), st.sampled_from(PRICES)),
    st.tuples(st.just("print"), st.sampled_from(PRICES), st.sampled_from(QUANTITIES), st.sampled_from([None, *BOOKS])),
    st.tuples(st.just("expire"), st.integers(0, 60)),
)
actions = st.lists(action, max_size=40)


def run(script, partitions: int = 1) -> tuple[Desk, list[tuple[tuple, list]]]:
    desk = Desk(partitions=partitions)
    return desk, [(step, getattr(desk, step[0])(*step[1:])) for step in script]


@settings(max_examples=120)
@given(script=actions, partitions=st.sampled_from([1, 4]))
def test_no_order_is_overfilled_and_no_fill_is_worse_than_its_limit(script, partitions):
    _, told = run(script, partitions)
    terms, filled, executions = {}, {}, []
    for _, reports in told:
        for report in reports:
            if isinstance(report, ev.VenueAccepted):
                terms[report.order_id] = report.spec
            elif isinstance(report, ev.VenueReplaced):
                changed_terms = terms[report.order_id]
                terms[report.order_id] = changed(changed_terms, quantity=report.quantity, price=report.price)
            elif isinstance(report, ev.VenueFilled):
                asked = terms[report.order_id]
                filled[report.order_id] = filled.get(report.order_id, 0) + report.last_qty
                executions.append(report.exec_id)
                assert filled[report.order_id] <= asked.quantity
                if asked.order_type is not OrderType.MARKET:
                    assert report.last_px <= asked.price if asked.side == "BUY" else report.last_px >= asked.price
    assert len(executions) == len(set(executions))


@settings(max_examples=120)
@given(script=actions)
def test_a_print_never_fills_more_than_it_traded_on_a_side(script):
    desk, told = run(script)
    sides = {o.order_id: o.spec.side for o in [*desk.venue.orders.values(), *desk.venue.closed.values()]}
    for step, reports in told:
        if step[0] == "print":
            for side in ("BUY", "SELL"):
                assert sum(q for order_id, q, _ in fills(reports) if sides[order_id] == side) <= to_nanos(step[2])


@settings(max_examples=120)
@given(script=actions)
def test_the_market_is_one_for_all_partitions_of_the_reports(script):
    def told(partitions):
        return [[_without_id(report) for report in reports] for _, reports in run(script, partitions)[1]]

    assert told(4) == told(1)


def _without_id(report):
    return changed(report, exec_id="") if isinstance(report, ev.VenueFilled) else report


@settings(max_examples=120)
@given(before=actions, after=actions, partitions=st.sampled_from([1, 4]))
def test_a_snapshot_and_the_tail_equal_a_full_replay(before, after, partitions):
    desk, _ = run(before, partitions)
    snapshot = desk.venue.snapshot()
    for step in after:
        getattr(desk, step[0])(*step[1:])
    restored = desk.rebuilt(snapshot)
    assert state(restored) == state(desk.rebuilt()) == state(desk.venue)
    assert restored.snapshot() == desk.rebuilt().snapshot()


@settings(max_examples=120)
@given(script=actions)
def test_the_log_alone_rebuilds_the_venue(script):
    desk, _ = run(script)
    assert state(desk.rebuilt()) == state(desk.venue)


@given(script=actions)
def test_the_same_input_twice_gives_the_same_bytes(script):
    assert run(script)[0].log == run(script)[0].log


@given(script=actions)
def test_an_order_that_does_not_work_rests_nowhere(script):
    desk, _ = run(script)
    resting = {
        order_id
        for sides in desk.venue._resting.values()
        for side in sides
        for level in side.levels.values()
        for order_id in level.orders
    }
    assert resting == set(desk.venue.orders)


@settings(max_examples=200)
@given(before=actions, after=actions, partitions=st.sampled_from([1, 4]))
def test_a_rebuilt_venue_goes_on_and_never_answers_an_event_twice(before, after, partitions):
    desk, _ = run(before, partitions)
    cause = desk.venue.orders_next
    desk.venue = desk.rebuilt()
    assert desk.venue.orders_next == cause
    known = set(desk.venue.orders)
    for step in after:
        reports = getattr(desk, step[0])(*step[1:])
        if step[0] == "place" and step[1] in known:
            assert reports == []
    assert desk.rebuilt().orders.keys() == desk.venue.orders.keys()


def test_after_a_restart_an_order_stands_behind_what_the_first_book_displays():
    desk = Desk()
    desk.place("o1", spec("BUY", "1", "99"))
    desk.print("99", "0.9")
    desk.venue = desk.rebuilt()
    desk.print("100", "0.001", BOOK)
    assert desk.print("99", "1") == []
    assert fills(desk.print("99", "0.1")) == [nanos("o1", "0.1", "99")]


def test_the_closed_orders_that_are_kept_are_bounded(monkeypatch):
    monkeypatch.setattr(machine, "CLOSED_KEPT", 2)
    desk = Desk()
    for number in range(4):
        desk.place(f"o{number}", spec("BUY", "1", "99"))
        desk.cancel(f"o{number}")
    assert list(desk.venue.closed) == ["o2", "o3"]


# ── expiry ──────────────────────────────────────────────────────────────────────────────────


DAY = {"time_in_force": TimeInForce.DAY, "expire_at": 10}


def test_an_order_ends_when_its_time_in_force_runs_out_although_nobody_asks():
    desk = Desk()
    desk.place("o1", spec("BUY", "1", "100", **DAY))
    assert desk.expire(9) == []
    (report,) = desk.expire(10)
    assert (report.order_id, report.expired, report.unsolicited) == ("o1", True, True)
    assert desk.venue.find("o1").status == "expired"
    assert desk.expire(11) == []


def test_a_print_at_the_moment_of_expiry_fills_nothing():
    desk = Desk()
    desk.place("o1", spec("BUY", "1", "100", **DAY))
    desk.prints = 9
    assert kinds(desk.print("90", "5")) == ["VenueCanceled"]


def test_an_order_that_arrives_too_late_expires_without_a_trade():
    desk = Desk()
    desk.causes = 20
    assert kinds(desk.place("o1", spec("BUY", "1", "200", **DAY))) == ["VenueAccepted", "VenueCanceled"]


def test_a_snapshot_of_another_format_is_not_taken():
    desk = Desk()
    with pytest.raises(msgspec.ValidationError):
        desk.rebuilt(desk.venue.snapshot().replace(b"\xa6format\x02", b"\xa6format\x03"))


@settings(max_examples=150)
@given(before=actions, after=actions, kept=st.lists(st.integers(0, 60), min_size=4, max_size=4))
def test_whatever_each_partition_loses_in_a_crash_every_order_is_answered_once_and_no_execution_told_twice(
    before, after, kept
):
    desk, _ = run(before, 4)
    asked = [(number, step) for number, step in enumerate(step for step in before if step[0] in _ASKED)]
    crashed = Desk(partitions=4)
    crashed.log, crashed.homes = [], []
    for body, home in zip(desk.log, desk.homes, strict=True):
        if crashed.homes.count(home) < kept[home]:
            crashed.log.append(body)
            crashed.homes.append(home)
    crashed.venue = crashed.rebuilt()
    answered = crashed.venue.orders_next
    for number, step in asked:  # the order log is read on from there in each partition
        if number >= answered[crashed.venue.partition_of(step[1])]:
            crashed.causes = number
            getattr(crashed, step[0])(*step[1:])
    crashed.causes = len(asked)
    for step in after:
        getattr(crashed, step[0])(*step[1:])
    told = [ev.decode(body).data for body in crashed.log]
    placed = [report.order_id for report in told if isinstance(report, ev.VenueAccepted | ev.VenueRejected)]
    assert sorted(placed) == sorted({step[1] for step in (*before, *after) if step[0] == "place"})
    executions = [report.exec_id for report in told if isinstance(report, ev.VenueFilled)]
    assert len(executions) == len(set(executions))
    assert state(crashed.rebuilt()) == state(crashed.venue)


_ASKED = ("place", "cancel", "replace")
