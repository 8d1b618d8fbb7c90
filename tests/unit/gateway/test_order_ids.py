"""Orders that are placed at the venue itself."""

from hypothesis import given
from hypothesis import strategies as st

from trade2026.domain.shards import partition_of
from trade2026.gateway.order_ids import paper_order_id, partition_of_report

NAMES = st.text("ab~-", min_size=1, max_size=5)


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_two_paper_orders_have_the_same_id(account: str, name: str, other: str, other_name: str) -> None:
    same = paper_order_id(account, name) == paper_order_id(other, other_name)
    assert same == ((account, name) == (other, other_name))


def test_an_account_with_a_dash_is_not_one_without() -> None:
    assert paper_order_id("a-b", "c") != paper_order_id("a", "b-c")
    assert paper_order_id("main", "c-1") == "paper-main-c-1"


@given(NAMES, NAMES, st.integers(1, 64))
def test_the_id_of_a_paper_order_says_the_partition_of_its_account(account: str, name: str, partitions: int) -> None:
    assert partition_of_report(paper_order_id(account, name), partitions) == partition_of(account, partitions)


def test_the_id_of_an_order_of_the_oms_says_its_partition() -> None:
    assert partition_of_report("o3-17", 4) == 3
