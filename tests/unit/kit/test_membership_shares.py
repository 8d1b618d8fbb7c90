"""How partitions are shared among members."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from trade2026.kit.bus.membership_shares import Shares, share

NAMES = ["a", "b", "c", "d", "e"]


@st.composite
def claims(draw: st.DrawFn) -> tuple[dict[str, frozenset[int]], int]:
    """What members say they hold, each partition at most one of them, and how many partitions there are."""
    partitions = draw(st.integers(1, 20))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    owners = draw(st.lists(st.sampled_from([*names, ""]), min_size=partitions, max_size=partitions))
    return {name: frozenset(n for n, owner in enumerate(owners) if owner == name) for name in names}, partitions


def settled(held: Mapping[str, frozenset[int]], partitions: int) -> Shares:
    """After both rounds."""
    first = share(held, partitions, {})
    return share({name: first[name] for name in held}, partitions, {})


def test_the_first_member_gets_everything() -> None:
    assert share({"a": frozenset()}, 4, {}) == {"a": frozenset({0, 1, 2, 3})}


def test_what_is_to_move_is_nobodys_until_its_holder_has_let_go() -> None:
    first = share({"a": frozenset({0, 1, 2, 3}), "b": frozenset()}, 4, {})
    assert first == {"a": frozenset({0, 1}), "b": frozenset()}
    assert share(first, 4, {}) == {"a": frozenset({0, 1}), "b": frozenset({2, 3})}


def test_what_is_free_goes_back_to_whose_it_was() -> None:
    had = {"a": {0, 2}, "b": {1, 3}, "gone": {0}}
    assert share({"a": frozenset(), "b": frozenset()}, 4, had) == {"a": frozenset({0, 2}), "b": frozenset({1, 3})}


def test_of_what_must_move_that_goes_first_which_another_had() -> None:
    first = share({"a": {0, 1, 2, 3}, "b": frozenset()}, 4, {"a": {1, 3}, "b": {0, 2}})
    assert first == {"a": frozenset({1, 3}), "b": frozenset()}


def test_what_two_hold_is_given_to_none_of_them() -> None:
    shares = share({"a": frozenset({0}), "b": frozenset({0, 1})}, 2, {})
    assert 0 not in shares["a"] | shares["b"]
    assert 1 in shares["b"]


@given(claims())
def test_nobody_is_given_what_another_holds(claim: tuple[dict[str, frozenset[int]], int]) -> None:
    held, partitions = claim
    for name, given_to in share(held, partitions, {}).items():
        assert not any(given_to & theirs for other, theirs in held.items() if other != name)


@given(claims())
def test_after_two_rounds_each_partition_has_one_holder_and_shares_are_even(
    claim: tuple[dict[str, frozenset[int]], int],
) -> None:
    held, partitions = claim
    shares = settled(held, partitions)
    assert sorted(n for each in shares.values() for n in each) == [*range(partitions)]
    sizes = [len(each) for each in shares.values()]
    assert max(sizes) - min(sizes) <= 1


@given(claims())
def test_no_more_moves_than_evenness_asks_for(claim: tuple[dict[str, frozenset[int]], int]) -> None:
    held, partitions = claim
    shares = settled(held, partitions)
    moved = sum(len(held[name] - shares[name]) for name in held)
    least, more = divmod(partitions, len(held))
    sizes = sorted((len(each) for each in held.values()), reverse=True)
    assert moved == sum(max(0, size - least - (n < more)) for n, size in enumerate(sizes))


@given(claims())
def test_what_is_settled_stays(claim: tuple[dict[str, frozenset[int]], int]) -> None:
    held, partitions = claim
    shares = settled(held, partitions)
    assert share(shares, partitions, {}) == shares
