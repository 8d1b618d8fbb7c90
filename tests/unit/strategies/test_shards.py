"""Which symbols each process of a strategy trades."""

from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain import events as ev
from trade2026.strategies.shards import Claims, assignment, conflicts

SYMBOLS = st.lists(st.text("ABCDEFGH", min_size=1, max_size=4), min_size=1, max_size=40, unique=True)


@given(SYMBOLS, st.data())
def test_every_symbol_has_one_process_and_no_process_two_more_than_another(
    symbols: list[str], data: st.DataObject
) -> None:
    shards = assignment(symbols, data.draw(st.integers(1, len(symbols))))
    assert sorted(symbol for shard in shards for symbol in shard) == sorted(symbols)
    sizes = [len(shard) for shard in shards]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
    assert shards[0][0] == symbols[0]


@given(SYMBOLS, st.data())
def test_one_process_more_takes_symbols_and_moves_no_other(symbols: list[str], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(symbols)))
    if count == len(symbols):
        return
    before, after = assignment(symbols, count), assignment(symbols, count + 1)
    assert all({*now} <= {*was} for was, now in zip(before, after[:count], strict=True))
    assert len(after[-1]) == len(symbols) // (count + 1)


def test_a_claim_holds_until_it_is_released_and_is_a_conflict_for_others_only() -> None:
    claims = Claims()
    claims.apply(ev.SymbolsClaimed(strategy="maker", instruments=["A", "B"]))
    claims.apply(ev.SymbolsClaimed(strategy="taker", instruments=["A"]))
    claims.apply(ev.SymbolsReleased(strategy="maker", instruments=["A"]))
    assert claims.held == {"maker": {"B"}, "taker": {"A"}}
    assert conflicts("maker", ["A", "B", "C"], {1: claims, 2: Claims()}) == {1: {"B"}}
    claims.apply(ev.SymbolsReleased(strategy="maker", instruments=["B"]))
    assert conflicts("maker", ["B"], {1: claims}) == {} and claims.held == {"taker": {"A"}}
