"""For a while after its last wave a change is not final: what fails then undoes it, too."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.unit.operator.operated import STACK, Desk
from tests.unit.operator.rolled_out import NEW, OLD, images, records, said, states

from trade2026_operator.reconcile.rollout import FAILING_SECONDS


def tell(desk: Desk, kind: str, *, since: datetime) -> None:
    status = desk.kube.objects[STACK]["status"]
    others = [each for each in status["conditions"] if each["type"] != kind]
    told = {
        "type": kind, "status": "False", "reason": "BudgetBurns", "message": "oms burns 20 times too fast",
        "lastTransitionTime": f"{since:%Y-%m-%dT%H:%M:%SZ}",
    }  # fmt: skip
    desk.kube.tell(STACK, {**status, "conditions": [*others, told]})


async def baking(**spec: Any) -> Desk:
    """A desk that runs its new version since this moment."""
    desk = Desk()
    await desk.run(version=OLD)
    desk.moment += timedelta(hours=1)
    await desk.apply(version=NEW, **spec)
    await desk.settle()
    desk.moment += timedelta(minutes=2)
    desk.become_ready()
    await desk.settle()
    return desk


async def test_a_change_is_final_only_after_its_bake() -> None:
    desk = await baking(rollout={"bake": "90s"})
    assert said(desk, "Progressing") == ("True", "Baking") and said(desk, "Ready")[0] == "True"
    assert said(desk, "Released")[0] == "True" and said(desk, "Reconciling") == ("False", "Settled")
    assert "final at 2026-03-04T06:09:37Z" in desk.condition("Progressing")["message"]
    assert 90 < (await desk.look() or 0) < 92, "it is looked at again when that is over"
    assert desk.kube.objects[STACK]["status"]["version"] == OLD
    desk.moment += timedelta(seconds=90)
    await desk.settle()
    assert said(desk, "Progressing") == ("False", "Complete") and desk.kube.objects[STACK]["status"]["version"] == NEW


async def test_objectives_that_are_missed_after_the_last_wave_undo_the_change() -> None:
    desk = await baking()
    desk.moment += timedelta(minutes=4)
    began = desk.moment

    async def look() -> None:
        tell(desk, "SLOMet", since=began)
        desk.become_ready()
        await desk.look()

    for minutes in (2, 7):
        desk.moment += timedelta(minutes=minutes)
        await look()
        assert said(desk, "Progressing") == ("True", "Baking"), "it may get well, and is not final meanwhile"
        assert "oms burns" in desk.condition("Progressing")["message"]
    desk.moment += timedelta(minutes=1)
    for _ in range(4):
        await look()
    assert images(desk) == {"desk": OLD} and states(desk)[-2:] == [(2, "failed", NEW), (3, "deployed", OLD)]
    rolled = desk.condition("RolledBack")
    assert (rolled["status"], rolled["reason"]) == ("True", "SLOBurn")
    assert rolled["message"] == "SLOBurn: desk: oms burns 20 times too fast"


@pytest.mark.parametrize("is_final", [False, True])
async def test_pods_that_fail_in_the_bake_undo_the_change_and_later_they_do_not(is_final: bool) -> None:
    desk = await baking()
    desk.moment += timedelta(minutes=6 if is_final else 4)
    await desk.settle()
    desk.missing_images = ("desk@trade2026:0.1.0",)
    desk.become_ready()
    await desk.settle()
    assert said(desk, "Ready")[0] == "False"
    desk.moment += timedelta(seconds=FAILING_SECONDS)
    await desk.settle()
    await desk.go_on()
    assert images(desk) == {"desk": NEW if is_final else OLD}
    assert desk.condition("RolledBack")["reason"] == ("NotRolledBack" if is_final else "ImagePull")


async def test_what_gets_well_in_the_bake_is_final_at_its_end() -> None:
    desk = await baking()
    desk.missing_images = ("desk@trade2026:0.1.0",)
    desk.become_ready()
    await desk.settle()
    desk.moment += timedelta(seconds=FAILING_SECONDS - 1)
    await desk.settle()
    desk.missing_images = ()
    await desk.go_on()
    assert said(desk, "Progressing") == ("False", "Complete") and images(desk) == {"desk": NEW}


async def test_a_change_of_limits_is_final_at_once_because_it_is_not_undone() -> None:
    desk = await baking()
    await desk.go_on()
    await desk.apply(risk={"limits": {"maxOpenOrders": 3}})
    await desk.settle()
    desk.become_ready()
    await desk.settle()
    assert said(desk, "Progressing") == ("False", "Complete") and len(records(desk)) == 3
