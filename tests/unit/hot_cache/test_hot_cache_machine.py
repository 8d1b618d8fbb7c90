"""The newest of everything: given events, this is told, and a restart tells the same."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain import events as ev
from trade2026.domain.instruments import Instrument
from trade2026.domain.market import Bar, Book, Level, Trade
from trade2026.domain.numbers import COST_SCALE, SCALE
from trade2026.hot_cache.machine import LOST, ORDERS, TICKS, Change, Holding, HotMachine, Pnl

BOOKS, BARS = "market.books", "market.bars"
BTC, ETH = "BTCUSDT.SIM", "ETHBTC.SIM"


def instrument(symbol: str, base: str, quote: str) -> Instrument:
    return Instrument(symbol=symbol, venue="SIM", base=base, quote=quote, settlement=quote, tick_size=1, lot_size=1)


INSTRUMENTS = {
    found.instrument_id: found for found in (instrument("BTCUSDT", "BTC", "USDT"), instrument("ETHBTC", "ETH", "BTC"))
}


def machine(live: bool = True) -> HotMachine:
    made = HotMachine(INSTRUMENTS, "USDT")
    made.live = live
    return made


def envelope(seq: int, data: Any) -> ev.Envelope:
    return ev.Envelope(seq, 1, seq, 1_000 + seq, "desk", "local", "", "", "", data)


def tick(machine: HotMachine, seq: int, price: int, name: str = BTC) -> None:
    machine.apply(TICKS, envelope(seq, Trade(name, f"t{seq}", price * SCALE, SCALE)))


def fill(machine: HotMachine, seq: int, quantity: int, price: int, strategy: str = "", name: str = BTC) -> None:
    data = ev.OrderFilled(
        order_id=f"o{seq}",
        exec_id=f"x{seq}",
        account="main",
        instrument=name,
        side="BUY" if quantity > 0 else "SELL",
        last_qty=abs(quantity) * SCALE,
        last_px=price * SCALE,
        fee=COST_SCALE,
        cum_qty=abs(quantity) * SCALE,
        leaves_qty=0,
        cum_cost=0,
        strategy=strategy,
    )
    machine.apply(ORDERS, envelope(seq, data))


def take(machine: HotMachine) -> dict[str, Change]:
    machine.value()
    return machine.take_changes()


def pnl(change: Change) -> tuple[str, int, int, int]:
    assert isinstance(change.data, Pnl)
    return change.data.currency, *(n // COST_SCALE for n in (change.data.realized, change.data.unrealized, change.data.fees))  # fmt: skip


def test_what_comes_between_two_readings_is_told_once_as_its_newest() -> None:
    subject = machine()
    for seq in range(10):
        tick(subject, seq, 100 + seq)
    subject.apply(BOOKS, envelope(4, Book(BTC, [Level(1, 2)], [])))
    subject.apply(BARS, envelope(2, Bar(BTC, "1m", 0, 60, 1, 1, 1, 1, 1, 1, 1)))
    told = take(subject)
    assert list(told) == ["tick:SIM:BTCUSDT", "book:SIM:BTCUSDT", "bar:SIM:BTCUSDT:1m"]
    newest = told["tick:SIM:BTCUSDT"]
    assert (newest.topic, newest.seq, newest.ts, newest.restored) == (TICKS, 9, 1_009, False)
    assert take(subject) == {}


def test_an_instrument_that_the_stack_does_not_have_is_not_kept() -> None:
    subject = machine()
    tick(subject, 0, 100, "OLD.SIM")
    assert take(subject) == {}
    assert subject.next_seq == {TICKS: 1}


def test_a_fill_tells_the_position_of_the_account_of_the_strategy_and_the_pnl() -> None:
    subject = machine()
    fill(subject, 3, 2, 100, "mm")
    fill(subject, 5, -1, 110)
    told = take(subject)
    positions = {key: change.data.position.quantity // SCALE for key, change in told.items() if isinstance(change.data, Holding)}  # fmt: skip
    assert positions == {
        "position:main:SIM:BTCUSDT": 1,
        "position:main:SIM:BTCUSDT:mm": 2,
        "position:main:SIM:BTCUSDT:-": -1,
    }
    assert told["position:main:SIM:BTCUSDT:mm"].seq == 3
    assert told["position:main:SIM:BTCUSDT"].seq == told["pnl:main"].seq == 5
    assert pnl(told["pnl:main"]) == pnl(told["pnl:main:SIM:BTCUSDT"]) == ("USDT", 10, 0, 2)


def test_pnl_follows_the_price_and_names_it() -> None:
    subject = machine()
    fill(subject, 0, 2, 100)
    tick(subject, 7, 130)
    told = take(subject)
    assert pnl(told["pnl:main"]) == ("USDT", 0, 60, 1)
    assert (told["pnl:main:SIM:BTCUSDT"].data.mark_seq, told["pnl:main:SIM:BTCUSDT"].seq) == (7, 0)  # type: ignore[union-attr]
    tick(subject, 8, 90)
    assert pnl(take(subject)["pnl:main"]) == ("USDT", 0, -20, 1)


def test_a_price_moves_no_pnl_of_who_is_flat() -> None:
    subject = machine()
    fill(subject, 0, 2, 100)
    fill(subject, 1, -2, 100)
    take(subject)
    tick(subject, 0, 130)
    assert list(take(subject)) == ["tick:SIM:BTCUSDT"]


def test_pnl_is_summed_up_in_the_base_currency_as_far_as_there_are_rates() -> None:
    subject = machine()
    fill(subject, 0, 1, 2, name=ETH)
    tick(subject, 0, 5, ETH)
    told = take(subject)
    assert pnl(told["pnl:main:SIM:ETHBTC"]) == ("BTC", 0, 3, 1)
    total = told["pnl:main"].data
    assert isinstance(total, Pnl)
    assert (total.unrealized, total.not_converted) == (0, ["BTC"])
    tick(subject, 1, 1_000)
    told = take(subject)
    assert pnl(told["pnl:main"]) == ("USDT", 0, 3_000, 1_000)
    assert "pnl:main:SIM:ETHBTC" not in told


def test_a_restart_goes_on_from_a_snapshot_and_says_that_it_has_not_seen_it_live() -> None:
    before = machine()
    for seq in range(3):
        fill(before, seq, 1, 100, "mm")
        tick(before, seq, 100 + seq)
    whole, after = take(before), machine(live=False)
    after.restore(before.snapshot(), {ORDERS: 3, TICKS: 4})
    assert after.next_seq == {ORDERS: 3, TICKS: 3}
    told = take(after)
    assert {key: change.data for key, change in told.items()} == {key: change.data for key, change in whole.items()}
    assert all(change.restored for change in told.values())
    after.live = True
    tick(after, 3, 120)
    told = take(after)
    assert {key: change.restored for key, change in told.items()} == dict.fromkeys(
        ("tick:SIM:BTCUSDT", "pnl:main:SIM:BTCUSDT", "pnl:main"), False
    )


def test_a_price_that_the_log_has_lost_stays_without_its_place_until_there_is_a_newer_one() -> None:
    before, after = machine(), machine(live=False)
    for seq in range(5):
        tick(before, seq, 100 + seq)
    after.restore(before.snapshot(), {ORDERS: 0, TICKS: 3})
    assert after.next_seq[TICKS] == 3
    lost = take(after)["tick:SIM:BTCUSDT"]
    assert (lost.data.price, lost.seq, lost.restored) == (104 * SCALE, LOST, True)  # type: ignore[union-attr]
    tick(after, 3, 99)
    assert take(after)["tick:SIM:BTCUSDT"].seq == 3


def test_positions_from_beyond_the_end_of_the_log_are_folded_again() -> None:
    before, after = machine(), machine(live=False)
    for seq in range(5):
        fill(before, seq, 1, 100)
    tick(before, 0, 100)
    after.restore(before.snapshot(), {ORDERS: 3, TICKS: 1})
    assert (after.next_seq, list(take(after))) == ({ORDERS: 0, TICKS: 1}, ["tick:SIM:BTCUSDT"])


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-5, 5).filter(bool), st.integers(1, 9)), max_size=30),
    st.integers(0, 30),
)
def test_wherever_it_is_interrupted_the_values_are_those_of_one_run(steps: list[Any], cut: int) -> None:
    def run(subject: HotMachine, part: list[Any]) -> None:
        for is_fill, quantity, price in part:
            if is_fill:
                fill(subject, subject.next_seq.get(ORDERS, 0), quantity, price, "s" if price % 2 else "")
            else:
                tick(subject, subject.next_seq.get(TICKS, 0), price)

    whole, first, second = machine(), machine(), machine()
    run(whole, steps)
    run(first, steps[:cut])
    second.restore(first.snapshot(), {topic: first.next_seq.get(topic, 0) for topic in (ORDERS, TICKS)})
    run(second, steps[cut:])
    assert {k: (c.data, c.seq) for k, c in take(second).items()} == {k: (c.data, c.seq) for k, c in take(whole).items()}
