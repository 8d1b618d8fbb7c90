"""While a change has failed, limits and strategies hold for what runs instead, and the change is not tried again."""

import copy
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.operated import KEY, LOOKS_MAX, SPEC, WORKLOAD, Desk
from tests.unit.operator.rolled_out import NEW, OLD, records, said
from tests.unit.operator.traded import MAKER, PROCESS, RUNNING, STRATEGY, Traded

from trade2026_operator.helm.records import Status, from_secret, to_secret
from trade2026_operator.kube import KubeError
from trade2026_operator.reconcile.rollout import FAILING_SECONDS
from trade2026_operator.way_back import again

LOST = f"desk@trade2026:{NEW}"
TIGHT = {"limits": {"maxOpenOrders": 3}}


async def rolled_back(*, begun: bool = True, **spec: Any) -> Traded:
    """A desk whose new version has failed, with a strategy that runs if it has begun."""
    desk = Traded(missing_images=(LOST,))
    await desk.apply(version=OLD)
    await quiet(desk)
    if begun:
        await desk.begin()
        await quiet(desk)
        desk.answers = {MAKER.name: dict(RUNNING)}
        await quiet(desk)
    await desk.apply(version=NEW, **spec)
    await fail(desk)
    assert said(desk, "RolledBack") == ("True", "ImagePull") and said(desk, "Ready")[0] == "True"
    desk.said.clear()
    return desk


async def fail(desk: Traded) -> None:
    """Time goes by, and the change is given up."""
    await quiet(desk)
    desk.moment += timedelta(seconds=FAILING_SECONDS + 1)
    await quiet(desk)


async def add_another(desk: Traded) -> None:
    """A second strategy, which runs."""
    other = copy.deepcopy(desk.kube.objects[STRATEGY])
    other["metadata"] = {"name": "other", "namespace": KEY.namespace, "generation": 1, "uid": "other"}
    desk.cache.strategies.seen(other)
    await quiet(desk)


async def quiet(desk: Traded) -> None:
    """Until nothing is written any more, also where something is still waited for."""
    calm = 0
    for _ in range(2 * LOOKS_MAX):
        before = len(desk.kube.calls)
        try:
            await desk.look()
        except KubeError:
            continue
        desk.become_ready()
        calm = calm + 1 if len(desk.kube.calls) == before else 0
        if calm == 3:
            return
    raise AssertionError(f"it does not settle: {desk.kube.calls[-8:]}")


def image(desk: Traded, ref: Any = WORKLOAD) -> str:
    return str(desk.kube.objects[ref]["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2])


def open_orders_max(desk: Traded) -> Any:
    settings = desk.kube.objects[WORKLOAD._replace(api_version="v1", kind="ConfigMap")]["data"]
    return json.loads(next(text for name, text in settings.items() if "orders" in name))["risk"]["stack"]


def tries(desk: Traded) -> int:
    """How often the version that fails was begun."""
    return sum(record.origin.version == NEW for record in records(desk))


@pytest.mark.parametrize("how", ["paused", "deleted"])
async def test_a_strategy_is_taken_out_and_the_version_that_failed_is_not_tried_again(how: str) -> None:
    desk = await rolled_back()
    before = desk.kube.objects[WORKLOAD]["metadata"]["generation"]
    if how == "paused":
        await desk.begin(paused=True)
    else:
        desk.kube.objects[STRATEGY]["metadata"]["deletionTimestamp"] = "2026-03-04T06:00:00Z"
    desk.watch()
    await desk.strategist.look(MAKER)
    assert desk.asked == [("strategy:maker", True)], "its orders first"
    await quiet(desk)
    assert PROCESS not in desk.kube.objects and desk.asked[-1] == ("strategy:maker", False)
    assert STRATEGY not in desk.kube.objects or desk.of("Paused") == ("True", "CancelsSent")
    assert desk.kube.objects[WORKLOAD]["metadata"]["generation"] == before and tries(desk) == 1
    assert said(desk, "RolledBack") == ("True", "ImagePull") and said(desk, "Stalled") == ("True", "RolledBack")


async def test_one_of_two_is_taken_out_and_the_other_goes_on_by_the_version_before() -> None:
    desk = await rolled_back()
    await add_another(desk)
    assert image(desk, PROCESS) == OLD and records(desk, "desk-strategies")[-1].origin.strategies == ("maker", "other")
    await desk.begin(paused=True)
    await quiet(desk)
    assert records(desk, "desk-strategies")[-1].origin.strategies == ("other",)
    assert image(desk) == image(desk, PROCESS) == OLD and tries(desk) == 1
    assert desk.of("Paused")[0] == "True"


async def test_a_first_strategy_begins_by_the_version_that_runs() -> None:
    desk = await rolled_back(begun=False)
    desk.answers = {MAKER.name: dict(RUNNING)}
    await desk.begin()
    await quiet(desk)
    assert desk.of("Ready") == ("True", "Running") and image(desk, PROCESS) == OLD
    assert image(desk) == OLD and tries(desk) == 1 and said(desk, "Ready")[0] == "True"


async def test_a_limit_that_is_tightened_holds_for_what_runs() -> None:
    desk = await rolled_back()
    await desk.apply(risk=TIGHT)
    await quiet(desk)
    assert open_orders_max(desk) == {"max_open_orders": 3} and image(desk) == OLD and tries(desk) == 1
    assert said(desk, "RolledBack") == ("True", "ImagePull") and said(desk, "Ready")[0] == "True"
    desk.moment += timedelta(days=1)
    before = Desk.asked(desk)
    desk.start_operator("-next")
    await quiet(desk)
    assert Desk.asked(desk) == before, "and an operator with another chart changes nothing of that"


@pytest.mark.parametrize("later", [False, True], ids=["with the version", "while it fails"])
async def test_a_limit_that_is_tightened_with_a_version_that_fails_stays_and_the_version_goes_back(later: bool) -> None:
    desk = Traded(missing_images=(LOST,))
    await desk.apply(version=OLD)
    await quiet(desk)
    await desk.apply(version=NEW, **({} if later else {"risk": TIGHT}))
    await quiet(desk)
    if later:
        desk.moment += timedelta(seconds=FAILING_SECONDS / 2)
        await desk.apply(risk=TIGHT)
    await fail(desk)
    assert image(desk) == OLD and open_orders_max(desk) == {"max_open_orders": 3}
    assert said(desk, "RolledBack") == ("True", "ImagePull") and said(desk, "Ready")[0] == "True"


async def test_limits_of_an_instrument_that_came_with_what_failed_hold_up_no_way_back() -> None:
    eth = {"symbol": "ETHUSDT", "tickSize": "0.01", "lotSize": "0.001"}
    limits = {
        "limits": {"maxOpenOrders": 3, "restricted": ["ETHUSDT.SIM"]},
        "instruments": {"ETHUSDT": {"maxOpenOrders": 1}, "BTCUSDT": {"maxOpenOrders": 2}},
    }
    desk = await rolled_back(instruments=[*SPEC["instruments"], eth], risk=limits)
    assert image(desk) == OLD and open_orders_max(desk) == {"max_open_orders": 3, "restricted": []}


async def test_an_instrument_that_was_taken_away_with_what_failed_is_not_traded_again_by_the_way_back() -> None:
    eth = {"symbol": "ETHUSDT", "tickSize": "0.01", "lotSize": "0.001"}
    desk = Traded(missing_images=(LOST,))
    await desk.apply(version=OLD, instruments=[*SPEC["instruments"], eth])
    await quiet(desk)
    await desk.apply(version=NEW, instruments=SPEC["instruments"], risk=TIGHT)
    await fail(desk)
    assert image(desk) == OLD and said(desk, "RolledBack") == ("True", "ImagePull")
    assert open_orders_max(desk) == {"max_open_orders": 3, "restricted": ["ETHUSDT.SIM"]}
    desk.missing_images = ()
    await desk.apply(version="0.1.1")
    await quiet(desk)
    await desk.go_on()
    assert image(desk) == "0.1.1" and open_orders_max(desk) == {"max_open_orders": 3}


SOME_VENUES = st.lists(st.sampled_from("XYZ"), min_size=1, unique=True)
SOME_INSTRUMENTS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "X", "Y", "Z"])), min_size=1)
SOME_SPECS = st.builds(
    lambda venues, instruments, restricted: {
        "venues": [{"name": name} for name in venues],
        "instruments": [{"symbol": symbol, "venue": v if v in venues else ""} for symbol, v in instruments],
        **({"risk": {"limits": {"restricted": restricted}}} if restricted is not None else {}),
    },
    SOME_VENUES,
    SOME_INSTRUMENTS,
    st.none() | st.lists(st.sampled_from(["a", "b.X", "c.Z"])),
)


def traded(spec: dict[str, Any]) -> set[str]:
    """What may be traded by a spec."""
    first, restricted = spec["venues"][0]["name"], (spec.get("risk") or {}).get("limits", {}).get("restricted") or []
    found = {(each["symbol"], f"{each['symbol']}.{each['venue'] or first}") for each in spec["instruments"]}
    return {name for symbol, name in found if not {symbol, name}.intersection(restricted)}


@given(SOME_SPECS, SOME_SPECS)
def test_no_way_back_lets_anything_be_traded_that_the_newest_spec_does_not(
    now: dict[str, Any], before: dict[str, Any]
) -> None:
    assert traded(again(now, before)) == traded(now) & traded({**before, "risk": {}})


async def test_a_pause_takes_no_time_limit_from_a_version_that_fails() -> None:
    desk = await rolled_back()
    desk.missing_images = ("desk@trade2026:0.1.1",)
    await desk.apply(version="0.1.1")
    await quiet(desk)
    await desk.begin(paused=True)
    await fail(desk)
    assert image(desk) == OLD and said(desk, "RolledBack")[0] == "True" and PROCESS not in desk.kube.objects
    assert desk.of("Paused")[0] == "True"


async def test_a_pause_in_the_bake_does_not_end_it() -> None:
    desk = await rolled_back()
    desk.missing_images = ()
    await desk.apply(version="0.1.1")
    await quiet(desk)
    await quiet(desk)
    assert said(desk, "Progressing") == ("True", "Baking")
    await desk.begin(paused=True)
    await quiet(desk)
    assert said(desk, "Progressing") == ("True", "Baking") and desk.of("Paused")[0] == "True"
    desk.missing_images = ("desk@trade2026:0.1.1",)
    await fail(desk)
    assert image(desk) == OLD and PROCESS not in desk.kube.objects


async def test_what_was_put_right_is_tried_with_the_strategies_and_limits_of_then() -> None:
    desk = await rolled_back()
    await desk.begin(paused=True)
    await desk.apply(risk=TIGHT)
    await quiet(desk)
    desk.missing_images = ()
    await desk.apply(version="0.1.1")
    await quiet(desk)
    await desk.go_on()
    assert image(desk) == "0.1.1" and open_orders_max(desk) == {"max_open_orders": 3}
    assert PROCESS not in desk.kube.objects and said(desk, "RolledBack")[0] == "False"
    assert said(desk, "Released") == ("True", "Deployed")


async def test_a_strategy_that_was_paused_does_not_run_again_because_its_process_fails() -> None:
    desk = await rolled_back()
    await add_another(desk)
    desk.missing_images = ()
    await desk.apply(version="0.1.1")
    await quiet(desk)
    await desk.go_on()
    assert said(desk, "Progressing")[1] == "Complete"
    desk.missing_images = ("desk-strategies@trade2026:0.1.1",)
    await desk.begin(paused=True)
    await fail(desk)
    assert said(desk, "Progressing") == ("False", "DeadlineExceeded")
    assert "run again who is not to run: maker" in desk.condition("Progressing")["message"]
    assert records(desk, "desk-strategies")[-1].origin.strategies == ("other",)


@pytest.mark.parametrize("fails_after", [False, True], ids=["before the write", "after the write"])
async def test_whichever_write_fails_a_limit_and_a_pause_after_a_failure_come_to_the_same_end(
    fails_after: bool,
) -> None:
    async def ended(number: int) -> Traded:
        desk = await rolled_back()
        desk.kube.fails_after = fails_after
        await desk.begin(paused=True)
        await desk.apply(risk=TIGHT)
        desk.kube.fail_at = number
        await quiet(desk)
        desk.start_operator()  # it died of it
        desk.kube.fail_at = None
        await quiet(desk)
        return desk

    whole = await ended(-1)
    for number in range(len(whole.kube.calls)):
        desk = await ended(number)
        assert image(desk) == OLD and open_orders_max(desk) == {"max_open_orders": 3}, number
        assert PROCESS not in desk.kube.objects and tries(desk) == 1, number
        assert said(desk, "RolledBack") == ("True", "ImagePull") and desk.of("Paused")[0] == "True", number


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(("release", "workload"), [("desk", WORKLOAD), ("desk-strategies", PROCESS)])
async def test_after_a_way_back_a_persons_rollback_and_uninstall_stand(
    release: str, workload: Any, restarted: bool
) -> None:
    desk = await rolled_back()
    await desk.apply(version=OLD)
    await quiet(desk)
    first, last = records(desk, release)[0], records(desk, release)[-1]
    by_hand = replace(first, revision=last.revision + 1, rollback_revision=1, status=Status.DEPLOYED, by_operator=False)
    await desk.kube.create(to_secret(by_hand, desk.moment, {"trade2026.io/stack": KEY.name}))
    await quiet(desk)
    assert said(desk, "Drifted") == ("True", "HumanRelease")
    if restarted:
        desk.start_operator()
    for ref, each in list(desk.kube.objects.items()):
        if each.get("type") == "helm.sh/release.v1" and from_secret(each).name == release:
            del desk.kube.objects[ref]
    del desk.kube.objects[workload]
    await quiet(desk)
    assert workload not in desk.kube.objects and said(desk, "Drifted") == ("True", "HumanRelease")
