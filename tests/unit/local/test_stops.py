"""Whether a stack may trade, in words."""

import pytest

from trade2026.local.infra.component import HOST, free_port
from trade2026.local.stops import stops_of, trading


@pytest.mark.parametrize(
    ("scopes", "word"), [([], "allowed"), (["account:main"], "halted in part"), (["account:main", "stack"], "halted")]
)
def test_a_stop_of_the_stack_halts_all_of_it_and_others_a_part(scopes: list[str], word: str) -> None:
    assert trading([{"scope": scope} for scope in scopes]) == word


async def test_without_an_answer_of_the_risk_service_it_is_not_known() -> None:
    assert trading(await stops_of(HOST, free_port())) == "not known"
