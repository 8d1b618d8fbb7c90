"""An audit record says who did what, and a chain of them can't be changed without being found out."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.logger.audited import FILL, ORDERS, SPEC, STACK, chained, enveloped, signed, signer

from trade2026.domain.events import (
    Delivered,
    LimitsChanged,
    ListedOrder,
    ManifestApplied,
    OrderListAccepted,
    OrderListDecided,
    OrderOpened,
    OrderRefused,
    ReplaceRequested,
    SliceReached,
    encode,
)
from trade2026.domain.numbers import SCALE
from trade2026.logger.machine import AuditRecord, Chain, Checkpoint, Entry, entry_of, seal
from trade2026.logger.signing import is_signed
from trade2026.logger.verify import ChainVerifier, SourceVerifier

KEYS = {signer().key: signer().public}


def entry(event: object, seq: int = 0) -> Entry:
    envelope = enveloped(seq, event)  # type: ignore[arg-type]
    found = entry_of("orders.events", 0, envelope, encode(envelope))
    assert found is not None
    return found


def verified(records: list[AuditRecord], checkpoints: list[Checkpoint]) -> ChainVerifier:
    verifier = ChainVerifier(STACK, checkpoints, lambda checkpoint: is_signed(checkpoint, KEYS))
    for record in records:
        verifier.take(record)
    verifier.finish()
    return verifier


def test_a_record_says_who_did_what_about_which_order_and_where_the_event_is() -> None:
    found = entry(ORDERS[0], seq=7)
    assert (found.event_id, found.principal, found.account, found.subject) == (
        "orders.events/0/7",
        "ann",
        "main",
        "o0-1",
    )
    assert (found.type, found.trace_id) == ("OrderAccepted", "0af7651916cd43dd8448eb211c80319c")
    assert found.what == "BUY 0.5 BTCUSDT.SIM LIMIT at 45000, c-1"
    assert (found.ts, found.cause) == (10**18 + 7, "r-1")


@pytest.mark.parametrize(
    ("event", "account", "subject", "what"),
    [
        (FILL, "main", "o0-1", "BUY 0.5 BTCUSDT.SIM at 45000, SIM-1"),
        (OrderOpened(order_id="o0-1", report_seq=4), "", "o0-1", "report_seq 4"),
        (
            ReplaceRequested(order_id="o0-1", quantity=SCALE // 4, price=44_000 * SCALE),
            "",
            "o0-1",
            "quantity 0.25, price 44000, routed True",
        ),
        (ORDERS[3], "main", "", "scope account:main, reason too fast, by ann, cause person"),
        (
            OrderRefused(order_id="o0-2", spec=SPEC, reject_code="PRICE_COLLAR", reason="too far"),
            "main",
            "o0-2",
            "PRICE_COLLAR: too far; BUY 0.5 BTCUSDT.SIM LIMIT at 45000, c-1",
        ),
        (
            OrderListAccepted(list_id="l-1", kind="OCO", orders=[ListedOrder(order_id="o0-3", spec=SPEC, role="oco")]),
            "main",
            "l-1",
            "OCO of o0-3 oco BUY 0.5 BTCUSDT.SIM LIMIT at 45000, c-1",
        ),
        (
            OrderListDecided(strategy="mm", number=1, kind="OTO", specs=[SPEC]),
            "main",
            "mm",
            "OTO of BUY 0.5 BTCUSDT.SIM LIMIT at 45000, c-1",
        ),
        (
            LimitsChanged(version=3, limits=msgspec.Raw(b"{}"), by="ann", reason="calmer"),
            "",
            "",
            "version 3, by ann, reason calmer",
        ),
        (
            ManifestApplied(code_version="1", config_hash="c", manifest_sha256="m", changed=["a", "b"], by="ann"),
            "",
            "",
            "code_version 1, config_hash c, manifest_sha256 m, changed a b, by ann",
        ),
    ],
)
def test_every_kind_of_event_is_told_in_words(event: object, account: str, subject: str, what: str) -> None:
    found = entry(event)
    assert (found.account, found.subject, found.what) == (account, subject, what)


def test_what_was_only_seen_is_not_audited_but_counted_as_read() -> None:
    chain = Chain(STACK)
    for seq, event in enumerate((Delivered(runs=[]), SliceReached(parent_id="e0-1", number=0))):
        envelope = enveloped(seq, event)
        assert chain.take("exeq.events", 0, envelope, encode(envelope)) is None
    assert (chain.n, chain.positions) == (0, {"exeq.events/0": 2})


def test_a_chain_goes_on_where_it_was_left() -> None:
    records, _ = chained(6, 3)
    chain = Chain(STACK, 3, records[2].hash, {"orders.events/0": 3})
    for n in range(3, 6):
        envelope = enveloped(n, ORDERS[n % len(ORDERS)])
        assert chain.take("orders.events", 0, envelope, encode(envelope)) == records[n]


def test_a_whole_chain_is_found_whole() -> None:
    found = verified(*chained(25, 10))
    assert (found.faults, found.n, found.signed_to) == ([], 25, 25)


def test_records_after_the_last_checkpoint_are_told_as_unsigned() -> None:
    records, checkpoints = chained(25, 10)
    found = verified(records, checkpoints[:-1])
    assert (found.faults, found.n, found.signed_to) == ([], 25, 20)


def test_a_chain_that_retention_has_cut_is_whole_from_there() -> None:
    records, checkpoints = chained(25, 10)
    cut = signer().sign(msgspec.structs.replace(checkpoints[0], kind="cut", ts=2))
    for left in (records[10:], records[7:]):  # deleted, or not yet
        found = verified(left, [*checkpoints, cut])
        assert (found.faults, found.base, found.n) == ([], 10, 25)
    assert verified(records[12:], [*checkpoints, cut]).faults[0].what == "records 10 to 11 are missing"


def test_a_beginning_that_is_missing_without_a_signed_cut_is_found() -> None:
    records, checkpoints = chained(25, 10)
    forged = msgspec.structs.replace(checkpoints[0], kind="cut")
    found = verified(records[10:], [*checkpoints[1:], forged])
    assert [fault.what for fault in found.faults] == [
        "the checkpoint at 10 is not signed by a trusted key",
        "records 0 to 9 are missing",
    ]


def test_a_checkpoint_of_another_stack_or_key_counts_for_nothing() -> None:
    records, checkpoints = chained(5, 5)
    other = signer().sign(msgspec.structs.replace(checkpoints[0], stack="other"))
    verifier = ChainVerifier(STACK, [other], lambda checkpoint: is_signed(checkpoint, KEYS))
    assert len(verifier.faults) == 1
    assert not is_signed(checkpoints[0], {})
    assert not is_signed(checkpoints[0], {signer().key: "ab"})
    assert not is_signed(msgspec.structs.replace(checkpoints[0], signature="zz"), KEYS)
    assert verified(records, []).signed_to == 0


def test_a_chain_that_was_made_again_contradicts_what_was_signed_before() -> None:
    records, checkpoints = chained(10, 10)
    chain = Chain(STACK)
    again = []
    for record in [*records[:4], *records[5:]]:
        forged = AuditRecord(chain.n, record.entry, seal(chain.head, chain.n, record.entry))
        chain.n, chain.head = forged.n + 1, forged.hash
        again.append(forged)
    assert [fault.what for fault in verified(again, checkpoints).faults] == [
        "record 9 is missing at the end: the checkpoint at 10 has them"
    ]
    assert verified(again, [*checkpoints, signed(chain, "interval")]).faults  # even by who has the key


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, list[AuditRecord], list[Checkpoint], int]:
    """A chain that somebody without the key has changed, and the first record that is not as it was."""
    records, checkpoints = chained(draw(st.integers(3, 40)), draw(st.integers(1, 12)))
    kind = draw(st.sampled_from(["change", "rehash", "remove", "truncate", "swap", "twice", "insert"]))
    n = draw(st.integers(0, len(records) - 2))
    victim = records[n]
    field = draw(st.sampled_from(list(Entry.__struct_fields__)))
    old = getattr(victim.entry, field)
    changed = msgspec.structs.replace(victim.entry, **{field: old + 1 if isinstance(old, int) else old + "x"})
    if kind == "change":
        records[n] = msgspec.structs.replace(victim, entry=changed)
    elif kind == "rehash":  # and every hash after it
        head = records[n - 1].hash if n else ""
        chain = Chain(STACK, n, head)
        for at, each in enumerate(records[n:], n):
            new = changed if at == n else each.entry
            records[at] = AuditRecord(at, new, seal(chain.head, at, new))
            chain.head = records[at].hash
    elif kind == "remove":
        del records[n]
    elif kind == "truncate":
        del records[n:]
    elif kind == "swap":
        records[n], records[n + 1] = records[n + 1], records[n]
    elif kind == "twice":
        records.insert(draw(st.integers(n + 1, len(records))), victim)
    else:
        records.insert(n + 1, AuditRecord(n + 1, changed, seal(victim.hash, n + 1, changed)))
    return kind, records, checkpoints, n


@settings(max_examples=300, deadline=None)
@given(mutations())
def test_any_change_is_found_and_its_place_named(case: tuple[str, list[AuditRecord], list[Checkpoint], int]) -> None:
    kind, records, checkpoints, n = case
    found = verified(records, checkpoints)
    assert found.faults, kind
    ends = sorted(checkpoint.n for checkpoint in checkpoints)
    named = {fault.n for fault in found.faults}
    if kind in ("change", "remove", "truncate", "twice"):
        assert n in named
    elif kind == "swap":
        assert named & {n, n + 1}
    elif kind == "insert":
        assert n + 1 in named
    else:  # who makes every later hash again is found at the next signature
        assert max((end for end in ends if end <= n), default=0) in named


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 9), st.sampled_from(["change", "remove", "insert", "none"]))
def test_beside_its_source_the_very_record_is_named_even_if_the_key_was_stolen(n: int, kind: str) -> None:
    entries = [entry(ORDERS[seq % len(ORDERS)], seq) for seq in range(10)]
    told = list(entries)
    if kind == "change":
        told[n] = msgspec.structs.replace(told[n], what="nothing happened")
    elif kind == "remove":
        del told[n]
    elif kind == "insert":
        told.insert(n + 1, msgspec.structs.replace(told[n], what="again"))
    records = [AuditRecord(number, each, "") for number, each in enumerate(told)]
    faults = compared(entries, records)
    assert [fault.n for fault in faults] == ([] if kind == "none" else [n + 1 if kind == "insert" else n])


def compared(entries: list[Entry], records: list[AuditRecord]) -> list:  # type: ignore[type-arg]
    verifier = SourceVerifier("orders.events/0")
    left, right = list(entries), list(records)
    while left or right:
        entry_on, record_on = verifier.compare(left[0] if left else None, right[0] if right else None)
        left, right = left[entry_on:], right[record_on:]
    return verifier.faults


def test_records_before_a_cut_are_not_compared() -> None:
    verifier = SourceVerifier("orders.events/0", 5)
    assert verifier.compare(None, AuditRecord(0, entry(ORDERS[0], 4), "")) == (False, True)
    assert not verifier.faults
