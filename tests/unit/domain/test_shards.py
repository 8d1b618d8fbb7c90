from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain.orders import number_of, partition_of_id
from trade2026.domain.shards import SHARDS, partition_of, shard_of, shards_of

accounts = st.text(max_size=64)
counts = st.integers(1, SHARDS)


def test_the_shard_of_an_account_is_the_same_for_ever():
    assert [shard_of(account) for account in ("main", "desk-1", "", "ü")] == [6, 11, 25, 61]


@given(accounts, counts)
def test_an_account_lies_in_the_partition_that_holds_its_shard(account: str, partitions: int):
    assert shard_of(account) in shards_of(partition_of(account, partitions), partitions)


@given(counts)
def test_each_shard_lies_in_exactly_one_partition(partitions: int):
    held = [shard for partition in range(partitions) for shard in shards_of(partition, partitions)]
    assert sorted(held) == list(range(SHARDS))


@given(st.integers(0, SHARDS - 1), st.integers(0, 10**12))
def test_an_order_id_names_its_partition_and_its_number_there(partition: int, number: int):
    assert (partition_of_id(f"o{partition}-{number}"), number_of(f"o{partition}-{number}")) == (partition, number)


@given(st.sampled_from(("", "o", "o-1", "3-1", "paper-main-1", "o123-1", "o3", "x3-1", "o\u0663-1")))
def test_what_is_no_order_id_names_no_partition(text: str):
    assert partition_of_id(text) == -1
