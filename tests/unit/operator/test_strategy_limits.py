"""The limits of a strategy's own manifest reach a running desk, and nothing of the desk starts again for them."""

import copy

from tests.unit.operator.operated import LOOKS_MAX, WORKLOAD
from tests.unit.operator.traded import MAKER, PROCESS, RUNNING, STRATEGY, Traded

from trade2026_operator.strategy_worker import AGAIN_SECONDS, TELL_TRIES_MAX

RISK = {"maxPosition": "2", "maxExecutions": {"count": 3, "per": "1m"}}
TOLD = {"max_position": 2 * 10**9, "max_executions": {"count": 3, "per_ns": 60 * 10**9}}


async def begun(**spec: object) -> Traded:
    """A desk that runs, and a strategy that was applied."""
    desk = Traded()
    await desk.apply()
    await desk.settle_all()
    desk.answers = {MAKER.name: dict(RUNNING)}
    await desk.begin(**{"risk": RISK, **spec})
    return desk


async def test_limits_that_come_change_and_go_touch_no_workload() -> None:
    desk = await begun()
    before = desk.kube.objects[WORKLOAD]["metadata"]["generation"]
    await desk.settle_all()
    assert desk.limits_told == {MAKER.name: TOLD} and desk.of("LimitsEnforced") == ("True", "Enforced")
    process = desk.kube.objects[PROCESS]["metadata"]["generation"]
    await desk.begin(risk={**RISK, "maxPosition": "1"})
    await desk.settle_all()
    assert desk.limits_told == {MAKER.name: {**TOLD, "max_position": 10**9}}
    await desk.begin(risk=None)
    await desk.settle_all()
    assert desk.limits_told == {} and desk.of("LimitsEnforced") == ("True", "NoneOfItsOwn")
    assert desk.kube.objects[WORKLOAD]["metadata"]["generation"] == before
    assert desk.kube.objects[PROCESS]["metadata"]["generation"] == process
    assert desk.of("Ready") == ("True", "Running")
    assert desk.reasons[0] == "generation 1 of Strategy maker was applied"


async def test_a_strategy_begins_when_its_limits_are_enforced_and_not_before() -> None:
    desk = await begun()
    desk.limits_told = None
    for _ in range(5):
        await desk.look()
    assert PROCESS not in desk.kube.objects and desk.of("Ready") == ("False", "LimitsNotEnforced")
    assert "risk service does not answer" in desk.status["conditions"][0]["message"]
    desk.limits_told, desk.adopts = {}, False
    for _ in range(5):
        await desk.look()
    assert PROCESS not in desk.kube.objects and desk.of("LimitsEnforced") == ("False", "Adopting")
    desk.adopts = True
    await desk.settle_all()
    assert PROCESS in desk.kube.objects and desk.of("Ready") == ("True", "Running")


async def test_one_that_was_paused_and_changed_waits_for_the_limits_that_it_has_now() -> None:
    desk = await begun()
    await desk.settle_all()
    await desk.begin(paused=True)
    await desk.settle_all()
    assert desk.limits_told == {MAKER.name: TOLD}, "a paused strategy's limits stand"
    told, desk.limits_told = desk.limits_told, None
    await desk.begin(paused=False, risk={"maxPosition": "1"})
    for _ in range(5):
        await desk.look()
    assert PROCESS not in desk.kube.objects
    desk.limits_told = told
    await desk.settle_all()
    assert PROCESS in desk.kube.objects and desk.limits_told[MAKER.name]["max_position"] == 10**9


async def test_a_strategy_that_runs_goes_on_while_nobody_can_be_told() -> None:
    desk = await begun()
    await desk.settle_all()
    desk.limits_told = None
    desk.start_operator()
    await desk.begin(risk={"maxPosition": "1"})
    for _ in range(8):
        await desk.look()
        desk.become_ready()
    assert PROCESS in desk.kube.objects and desk.of("Ready") == ("True", "Running")
    assert desk.of("LimitsEnforced") == ("Unknown", "NotTold")


async def test_limits_that_a_desk_has_lost_are_told_again() -> None:
    desk = await begun()
    await desk.settle_all()
    desk.limits_told = {}
    await desk.settle_all()
    assert desk.limits_told == {MAKER.name: TOLD}


async def test_nothing_is_told_twice_and_a_second_look_writes_nothing() -> None:
    desk = await begun()
    await desk.settle_all()
    desk.kube.calls.clear()
    for _ in range(5):
        await desk.look()
    assert desk.kube.calls == [] and len(desk.reasons) == 1


async def test_its_limits_go_with_it_after_its_orders() -> None:
    desk = await begun()
    await desk.settle_all()
    desk.kube.objects[STRATEGY]["metadata"]["deletionTimestamp"] = "2026-03-04T06:00:00Z"
    await desk.settle_all()
    assert desk.limits_told == {} and STRATEGY not in desk.kube.objects
    assert desk.reasons[-1] == "Strategy maker was deleted" and desk.asked


async def test_who_can_not_be_reached_holds_a_deletion_for_a_while_and_not_for_ever() -> None:
    desk = await begun()
    await desk.settle_all()
    desk.limits_told = None
    desk.kube.objects[STRATEGY]["metadata"]["deletionTimestamp"] = "2026-03-04T06:00:00Z"
    for _ in range(TELL_TRIES_MAX + 20):
        await desk.look()
    assert STRATEGY not in desk.kube.objects
    assert "LimitsNotWithdrawn" in [reason for reason, _ in desk.said]


async def test_a_new_operator_that_hears_of_the_strategy_before_its_stack_takes_nothing_down() -> None:
    desk = await begun()
    await desk.settle_all()
    before = copy.deepcopy(desk.status)
    desk.start_operator()
    await desk.begin(parameters={"quantity": "0.02"})
    desk.cache.strategies.seen(copy.deepcopy(desk.kube.objects[STRATEGY]))
    assert await desk.strategist.look(MAKER) == AGAIN_SECONDS and desk.status == before
    for _ in range(LOOKS_MAX):
        await desk.look()
        desk.become_ready()
        assert PROCESS in desk.kube.objects
    assert desk.of("Ready") == ("True", "Running")
