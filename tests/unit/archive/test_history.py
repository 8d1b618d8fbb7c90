"""The history holds every order and event exactly once, and its readers see what the OMS would answer."""

import sqlite3
from pathlib import Path

import msgspec
import pytest

from trade2026.archive.machine import HistoryMachine, order_ids_of
from trade2026.archive.store import HistoryFenced, HistoryFormat, HistoryStore, IndexRow
from trade2026.controls import order_log
from trade2026.domain import events as ev
from trade2026.domain.order_fold import OrderFold
from trade2026.domain.orders import OrderSpec, OrderType
from trade2026.kit.history import HistoryReader

TOPIC = "orders.events"


def spec(client_order_id: str, account: str = "main") -> OrderSpec:
    return OrderSpec(
        client_order_id=client_order_id, account=account, instrument="BTCUSDT.SIM", side="BUY",
        order_type=OrderType.LIMIT, quantity=10**28, price=5,
    )  # fmt: skip


def accepted(number: int, account: str = "main") -> ev.OrderAccepted:
    return ev.OrderAccepted(order_id=f"o0-{number}", spec=spec(f"c{number}", account), reserved_price=5)


def fill(number: int, exec_id: str, cum: int, leaves: int) -> ev.OrderFilled:
    return ev.OrderFilled(
        order_id=f"o0-{number}", exec_id=exec_id, account="main", instrument="BTCUSDT.SIM", side="BUY", last_qty=1,
        last_px=5, cum_qty=cum, leaves_qty=leaves, cum_cost=5 * cum,
    )  # fmt: skip


EVENTS: list[ev.AnyEvent] = [
    accepted(0),
    ev.OrderOpened(order_id="o0-0", report_seq=0),
    accepted(1, "second"),
    ev.OrderRefused(order_id="o0-2", spec=spec("c2"), reject_code="KILLED", reason="stopped"),
    fill(0, "x0", 1, 9),
    ev.OrderCanceled(order_id="o0-0", report_seq=2),
    ev.OrderListAccepted(
        list_id="l0-0",
        kind="OCO",
        orders=[ev.ListedOrder(order_id=f"o0-{n}", spec=spec(f"c{n}"), role="oco", reserved_price=5) for n in (3, 4)],
    ),
    ev.OrderCanceled(order_id="o0-3"),
    fill(0, "x1", 2, 0),
    ev.CancelRequested(order_id="o0-1"),
    ev.OrderCanceled(order_id="o0-4"),
    accepted(5),
]


def envelopes() -> list[ev.Envelope]:
    return [ev.Envelope(seq, 1, 100 + seq, 100 + seq, "desk", "local", "", "", "", e) for seq, e in enumerate(EVENTS)]


def archive(store: HistoryStore, machine: HistoryMachine, batch: list[ev.Envelope]) -> None:
    rows: list[IndexRow] = []
    for envelope in batch:
        missing = machine.needs(envelope.data)
        if missing:
            order = store.order(missing)
            assert order is not None
            machine.fold.recall(order)
        machine.apply(envelope)
        rows += [IndexRow(order_id, TOPIC, 0, envelope.seq) for order_id in order_ids_of(envelope)]
    store.write(TOPIC, machine.fold.next_seq, rows, machine.changed.values())
    machine.written()


def filled(path: Path, batch_size: int = 100) -> HistoryStore:
    store, machine, everything = HistoryStore(path), HistoryMachine({}), envelopes()
    for begin in range(0, len(everything), batch_size):
        archive(store, machine, everything[begin : begin + batch_size])
    return store


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_the_history_holds_what_a_full_fold_holds_however_the_log_is_cut(tmp_path: Path, batch_size: int) -> None:
    filled(tmp_path / "history.db", batch_size).close()
    reader, fold = HistoryReader(tmp_path / "history.db"), OrderFold()
    for envelope in envelopes():
        fold.apply(envelope)
    for order_id, order in fold.orders.items():
        found = reader.by_id(order_id)
        assert found is not None
        assert (found.status, found.cum_qty, found.seqs, found.spec) == (
            order.status, order.cum_qty, order.seqs, order.spec,
        )  # fmt: skip
    assert reader.next_seq() == len(EVENTS)


@pytest.mark.parametrize("cut", range(len(EVENTS)))
@pytest.mark.parametrize("behind", [0, 1, 3, 100])
def test_a_restart_goes_on_from_a_snapshot_that_lies_before_what_was_written(
    tmp_path: Path, cut: int, behind: int
) -> None:
    store, machine = HistoryStore(tmp_path / "history.db"), HistoryMachine({})
    begin = max(0, cut - behind)
    archive(store, machine, envelopes()[:begin])
    state = b"\n".join(order_log.slices(machine.fold, machine.controls))
    archive(store, machine, envelopes()[begin:cut])
    store.close()

    store = HistoryStore(tmp_path / "history.db")
    machine = HistoryMachine({}, store.next_seq(TOPIC))
    order_log.restore(state, machine.fold, machine.controls)
    archive(store, machine, envelopes()[begin:])
    whole, memory = HistoryStore(tmp_path / "whole.db"), HistoryMachine({})
    archive(whole, memory, envelopes())
    rows = [
        database._db.execute("SELECT order_id, body FROM orders ORDER BY number").fetchall()
        for database in (store, whole)
    ]
    assert rows[0] == rows[1]
    assert [*order_log.slices(machine.fold, machine.controls)] == [*order_log.slices(memory.fold, memory.controls)]


def test_closed_orders_leave_the_archives_memory_once_they_are_written(tmp_path: Path) -> None:
    store, machine = HistoryStore(tmp_path / "history.db"), HistoryMachine({})
    archive(store, machine, envelopes())
    assert sorted(machine.fold.orders) == ["o0-1", "o0-5"]
    fold = OrderFold()
    fold.restore(machine.fold.snapshot())
    assert (fold.next_seq, sorted(fold.open), fold.report_seq, fold.order_count) == (12, ["o0-1", "o0-5"], 2, 6)


def test_a_batch_that_fails_is_not_there_in_part(tmp_path: Path) -> None:
    store, machine = HistoryStore(tmp_path / "history.db"), HistoryMachine({})
    archive(store, machine, envelopes()[:2])
    store._db.execute("CREATE TRIGGER full BEFORE UPDATE ON positions BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(sqlite3.Error):
        store.write(TOPIC, 3, [IndexRow("o0-9", TOPIC, 0, 2)])
    assert HistoryReader(tmp_path / "history.db").index("o0-9", 10) == []
    assert store.next_seq(TOPIC) == 2


def test_a_missing_history_is_an_empty_one_and_is_seen_when_it_appears(tmp_path: Path) -> None:
    reader = HistoryReader(tmp_path / "archive" / "history.db")
    assert reader.by_id("o0-0") is None
    assert reader.by_client_order_id("main", "c0") is None
    assert (reader.list(), reader.next_seq()) == (([], None), 0)
    filled(tmp_path / "archive" / "history.db")
    assert reader.by_id("o0-0") is not None


def test_orders_are_found_by_client_order_id_within_their_account(tmp_path: Path) -> None:
    filled(tmp_path / "history.db")
    reader = HistoryReader(tmp_path / "history.db")
    found = reader.by_client_order_id("second", "c1")
    assert found is not None
    assert found.order_id == "o0-1"
    assert reader.by_client_order_id("main", "c1") is None


def test_a_list_pages_through_every_order_newest_first(tmp_path: Path) -> None:
    filled(tmp_path / "history.db")
    reader = HistoryReader(tmp_path / "history.db")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor = reader.list(cursor=cursor, limit=4)
        seen += [order.order_id for order in page]
        if cursor is None:
            break
    assert seen == [f"o0-{number}" for number in (5, 4, 3, 2, 1, 0)]


def test_a_list_is_filtered_by_account_and_status(tmp_path: Path) -> None:
    filled(tmp_path / "history.db")
    reader = HistoryReader(tmp_path / "history.db")
    assert [order.order_id for order in reader.list("second")[0]] == ["o0-1"]
    assert [order.order_id for order in reader.list(status="open")[0]] == ["o0-5", "o0-1"]
    assert [order.order_id for order in reader.list("main", "Rejected")[0]] == ["o0-2"]
    assert len(reader.list(status="closed")[0]) == 4


def test_the_index_says_where_the_events_of_an_order_are(tmp_path: Path) -> None:
    store = filled(tmp_path / "history.db")
    store.write("venue.reports", 3, [IndexRow("o0-0", "venue.reports", 0, 1)])
    reader = HistoryReader(tmp_path / "history.db")
    assert reader.index("o0-0", 10) == [*((TOPIC, 0, seq) for seq in (0, 1, 4, 5, 8)), ("venue.reports", 0, 1)]
    assert reader.index("o0-4", 10) == [(TOPIC, 0, 6), (TOPIC, 0, 10)]


def test_only_orders_that_closed_before_the_retention_are_pruned(tmp_path: Path) -> None:
    store = filled(tmp_path / "history.db")
    assert store.prune(before_ts=108, orders_max=100) == 2
    reader = HistoryReader(tmp_path / "history.db")
    assert [order.order_id for order in reader.list()[0]] == ["o0-5", "o0-4", "o0-1", "o0-0"]
    assert reader.index("o0-3", 10) == []


def test_a_topic_that_lost_records_is_followed_again_from_its_end(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "history.db")
    store.write("positions", 3, [IndexRow("o0-0", "positions", 0, seq) for seq in range(3)])
    store.rewind("positions", 1)
    assert store.next_seq("positions") == 1
    assert HistoryReader(tmp_path / "history.db").index("o0-0", 10) == [("positions", 0, 0)]


def test_a_history_of_another_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    store = filled(tmp_path / "history.db")
    store._db.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(HistoryFormat, match="move it away"):
        HistoryStore(tmp_path / "history.db")


def test_what_is_written_can_be_made_durable(tmp_path: Path) -> None:
    store = filled(tmp_path / "history.db")
    store.make_durable()
    store.close()
    store.make_durable()


def test_what_is_written_leaves_the_write_ahead_log_while_writing_goes_on(tmp_path: Path) -> None:
    store, machine = HistoryStore(tmp_path / "history.db"), HistoryMachine({})
    archive(store, machine, envelopes()[:5])
    before = (tmp_path / "history.db").stat().st_size
    store.checkpoint()
    assert (tmp_path / "history.db").stat().st_size > before
    archive(store, machine, envelopes()[5:])
    assert HistoryReader(tmp_path / "history.db").next_seq() == len(EVENTS)


def test_orders_with_large_amounts_come_back_whole(tmp_path: Path) -> None:
    filled(tmp_path / "history.db")
    found = HistoryReader(tmp_path / "history.db").by_id("o0-5")
    assert found is not None
    assert msgspec.to_builtins(found.spec)["quantity"] == 10**28


def test_an_archive_that_was_replaced_writes_nothing_any_more(tmp_path: Path) -> None:
    zombie = filled(tmp_path / "history.db")
    heir = HistoryStore(tmp_path / "history.db")
    position = heir.next_seq(TOPIC)
    for write in (
        lambda: zombie.write(TOPIC, position + 1, []),
        lambda: zombie.rewind(TOPIC, 0),
        lambda: zombie.prune(10**18, 100),
    ):
        with pytest.raises(HistoryFenced):
            write()
    heir.write(TOPIC, position, [])
    assert heir.next_seq(TOPIC) == position
    assert HistoryReader(tmp_path / "history.db").by_id("o0-1") is not None


def test_a_history_that_an_older_archive_made_gets_a_writer(tmp_path: Path) -> None:
    filled(tmp_path / "history.db").close()
    with sqlite3.connect(tmp_path / "history.db") as older:
        older.execute("DROP TABLE writer")
    HistoryStore(tmp_path / "history.db").write(TOPIC, len(EVENTS), [])


def test_a_reader_notices_that_the_history_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    filled(path).close()
    reader = HistoryReader(path)
    assert reader.by_id("o0-0") is not None
    for file in tmp_path.glob("history.db*"):
        file.unlink()
    assert reader.by_id("o0-0") is None
    HistoryStore(path).write(TOPIC, 0, [])
    assert (reader.by_id("o0-0"), reader.next_seq()) == (None, 0)


def test_a_history_that_was_lost_is_not_believed_until_it_is_built_again(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    filled(path).close()
    reader = HistoryReader(path)
    reader.relied_on = reader.next_seq()
    for file in tmp_path.glob("history.db*"):
        file.unlink()
    with pytest.raises(sqlite3.OperationalError, match="built again"):
        reader.by_client_order_id("main", "c0")
    store, machine, everything = HistoryStore(path), HistoryMachine({}), envelopes()
    archive(store, machine, everything[:5])
    with pytest.raises(sqlite3.OperationalError, match="built again"):
        reader.by_id("o0-0")
    archive(store, machine, everything[5:])
    assert reader.by_id("o0-0") is not None
