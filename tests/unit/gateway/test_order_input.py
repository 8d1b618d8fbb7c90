"""Orders that are placed at the venue itself."""

from hypothesis import given
from hypothesis import strategies as st

from trade2026.gateway.order_input import paper_order_id

NAMES = st.text("ab~-", min_size=1, max_size=5)


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_two_paper_orders_have_the_same_id(account: str, name: str, other: str, other_name: str) -> None:
    same = paper_order_id(account, name) == paper_order_id(other, other_name)
    assert same == ((account, name) == (other, other_name))


def test_an_account_with_a_dash_is_not_one_without() -> None:
    assert paper_order_id("a-b", "c") != paper_order_id("a", "b-c")
    assert paper_order_id("main", "c-1") == "paper-main-c-1"
