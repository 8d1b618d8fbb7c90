"""Which part of the log an account belongs to: 64 shards for ever, spread over the partitions of a stack.

A shard is a property of the account's name and never changes; how many partitions there are is said once, when the
stack is made. So all orders of an account lie in one partition, whatever carries it.
"""

from functools import lru_cache

import xxhash

SHARDS = 64
_ACCOUNTS_KEPT = 65_536


def shard_of(account: str) -> int:
    """The shard of an account, 0 to 63."""
    return xxhash.xxh64_intdigest(account.encode()) % SHARDS


@lru_cache(_ACCOUNTS_KEPT)
def partition_of(account: str, partitions: int) -> int:
    """The partition of an account, of topics that are keyed by account."""
    assert 0 < partitions <= SHARDS
    return shard_of(account) % partitions


def partition_name(topic: str, partition: int) -> str:
    """The name of a partition in what is kept: partition 0 has its topic's, as before there were others."""
    return f"{topic}/{partition}" if partition else topic


def shards_of(partition: int, partitions: int) -> range:
    """The shards that a partition holds."""
    return range(partition, SHARDS, partitions)
