"""An operator runs a strategy as its manifest says, and takes no more away than what is the strategy's own."""

import copy
import itertools
import json
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.operator.operated import KEY, STACK, WORKLOAD, Desk
from tests.unit.operator.traded import MAKER, PROCESS, RUNNING, STRATEGY, Traded

from trade2026_operator.helm.records import from_secret
from trade2026_operator.queue import GONE, Key
from trade2026_operator.reconcile.objects import Manifest
from trade2026_operator.reconcile.reconcile import FINALIZER
from trade2026_operator.strategies import Strategies, know

PAUSED = "trade2026.io/paused"


def releases(desk: Desk) -> set[str]:
    return {from_secret(each).name for each in desk.kube.objects.values() if each.get("type") == "helm.sh/release.v1"}


async def test_a_strategy_is_a_release_of_its_own_and_says_what_it_waits_for_until_it_runs() -> None:
    desk = Traded()
    await desk.apply()
    await desk.begin()
    await desk.look()
    assert desk.kube.objects[STRATEGY]["metadata"]["finalizers"] == [FINALIZER]
    assert desk.of("Ready") == ("False", "Starting") and desk.of("Reconciling") == ("True", "Starting")
    assert desk.status["stage"] == "Pending"
    await desk.trade()
    assert releases(desk) == {"desk", "desk-strategies"}
    assert desk.of("Ready") == ("True", "Running") and desk.of("Reconciling")[0] == "False"
    assert desk.status["observedGeneration"] == desk.kube.objects[STRATEGY]["metadata"]["generation"]
    told = {name: desk.status[name] for name in ("stage", "position", "pnl", "drawdown", "stack", "replicas")}
    assert told == {
        "stage": "Paper", "position": "0.5", "pnl": "12.35", "drawdown": "0.50", "stack": "desk", "replicas": 1,
    }  # fmt: skip
    assert desk.status["selector"] == "app.kubernetes.io/instance=desk-strategies"
    assert desk.status["lastSignalTime"] == "2026-03-04T05:06:07Z"


async def test_a_strategy_that_comes_goes_or_changes_touches_nothing_of_the_desk() -> None:
    desk = Traded()
    await desk.apply()
    await desk.settle_all()
    before = desk.kube.objects[WORKLOAD]["metadata"]["generation"]
    await desk.trade()
    await desk.begin(parameters={"quantity": "0.02"})
    await desk.settle_all()
    await desk.begin(paused=True)
    await desk.settle_all()
    assert desk.kube.objects[WORKLOAD]["metadata"]["generation"] == before
    assert releases(desk) == {"desk"} and PROCESS not in desk.kube.objects


async def test_a_second_look_writes_nothing_and_numbers_are_written_once_a_minute() -> None:
    desk = Traded()
    await desk.trade()
    desk.answers = {MAKER.name: {**RUNNING, "pnl": "99", "position": {"BTCUSDT.SIM": "1"}}}
    for _ in range(5):
        desk.seconds += 5
        await desk.look()
    assert desk.kube.calls == [] and desk.status["pnl"] == "12.35"
    desk.seconds += 60
    await desk.look()
    await desk.look()
    assert desk.kube.calls == [("merge status", STRATEGY)] and desk.status["pnl"] == "99.00"


async def test_a_halt_is_told_at_once_with_its_reason_and_nothing_is_done_about_it() -> None:
    desk = Traded()
    await desk.trade()
    desk.answers = {MAKER.name: {**RUNNING, "status": "halted", "reason": "max_daily_loss: 200 of 100", "pnl": "-200"}}
    await desk.look()
    assert desk.of("Ready") == ("False", "Halted") and desk.status["stage"] == "Halted"
    assert "max_daily_loss" in desk.status["haltedReason"] and desk.status["pnl"] == "-200.00"
    assert [reason for reason, _ in desk.said] == ["Halted"]
    await desk.begin(parameters={"quantity": "0.02"})
    await desk.settle_all()
    desk.start_operator()
    await desk.settle_all()
    assert desk.status["stage"] == "Halted" and desk.asked == [], "who halts is who releases"
    desk.answers = {MAKER.name: dict(RUNNING)}
    await desk.look()
    assert desk.status["stage"] == "Paper" and desk.status["haltedReason"] == ""


async def test_one_that_fails_is_stalled_until_somebody_releases_it() -> None:
    desk = Traded()
    await desk.trade()
    desk.answers = {MAKER.name: {**RUNNING, "status": "failed", "reason": "ValueError: no"}}
    await desk.look()
    assert desk.of("Stalled") == ("True", "Failed") and "ValueError" in desk.status["haltedReason"]


async def test_without_its_stack_it_says_so_and_begins_when_there_is_one() -> None:
    desk = Traded()
    await desk.begin()
    desk.watch()
    await desk.strategist.look(MAKER)
    assert desk.of("Ready") == ("False", "StackMissing") and desk.of("Stalled")[0] == "True"
    ready = desk.kube.objects[STRATEGY]["status"]["conditions"][0]
    assert ready["message"] == "there is no TradingStack desk in trading: it begins when there is one"
    await desk.trade()
    assert desk.of("Ready") == ("True", "Running") and desk.of("Stalled")[0] == "False"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"symbols": ["ETHUSDT"]}, "'ETHUSDT' is no instrument of this stack"),
        ({"source": {"class": None, "file": "mine.py"}}, "no pod has"),
    ],
)
async def test_one_that_does_not_fit_its_stack_is_stalled_and_holds_up_nobody_else(
    spec: dict[str, Any], words: str
) -> None:
    desk = Traded()
    await desk.apply()
    await desk.begin()
    await desk.begin(**spec)
    await desk.settle_all()
    assert desk.of("Stalled") == ("True", "SpecRefused")
    assert words in desk.kube.objects[STRATEGY]["status"]["conditions"][0]["message"]
    assert desk.condition("Ready")["status"] == "True" and releases(desk) == {"desk"}


@pytest.mark.parametrize("how", ["field", "annotation"])
async def test_a_paused_strategy_has_its_orders_cancelled_at_once_and_again_when_it_can_send_no_more(how: str) -> None:
    desk = Traded()
    await desk.trade()
    if how == "field":
        await desk.begin(paused=True)
    else:
        await desk.kube.merge(STRATEGY, {"metadata": {"annotations": {PAUSED: "true"}}})
    desk.watch()
    await desk.strategist.look(MAKER)
    assert desk.asked == [("strategy:maker", True)], "at once: its process has not been told yet"
    assert desk.of("Ready") == ("False", "Pausing") and desk.of("Paused") == ("False", "NotPaused")
    assert "its orders are being cancelled" in desk.status["conditions"][0]["message"]
    await desk.settle_all()
    assert desk.asked == [("strategy:maker", True), ("strategy:maker", False)]
    assert desk.of("Paused") == ("True", "CancelsSent") and desk.status["stage"] == "Paused"
    assert desk.status["replicas"] == 0
    desk.start_operator()
    await desk.settle_all()
    assert len(desk.asked) == 2, "what a person sends in its name afterwards is theirs"


@pytest.mark.parametrize("value", ["True", "yes", "1"])
async def test_an_annotation_that_is_not_understood_pauses_nothing_and_says_so(value: str) -> None:
    desk = Traded()
    await desk.trade()
    for ref in (STRATEGY, STACK):
        await desk.kube.merge(ref, {"metadata": {"annotations": {PAUSED: value}}})
    await desk.settle_all()
    assert desk.of("Ready") == ("True", "Running") and desk.of("Paused") == ("False", "NotUnderstood")
    assert desk.condition("Paused")["reason"] == "NotUnderstood"
    assert f'is "{value}", and only "true" pauses' in desk.condition("Paused")["message"]
    assert [reason for reason, _ in desk.said] == ["PauseNotUnderstood"] * 2, "and once each"
    for ref in (STRATEGY, STACK):
        await desk.kube.merge(ref, {"metadata": {"annotations": {PAUSED: "false"}}})
    await desk.settle_all()
    assert desk.of("Paused") == ("False", "NotPaused") and desk.condition("Paused")["reason"] == "NotPaused"
    assert len(desk.said) == 2


@pytest.mark.parametrize("whose", ["its own", "its stack's"])
async def test_one_that_does_not_fit_any_more_ends_after_its_orders_as_if_it_was_paused(whose: str) -> None:
    desk = Traded()
    await desk.trade()
    if whose == "its own":
        await desk.begin(symbols=["ETHUSDT"])
    else:
        await desk.apply(instruments=[{"symbol": "ETHUSDT", "tickSize": "0.01", "lotSize": "0.001"}])
    desk.can_cancel = False
    desk.watch()
    await desk.strategist.look(MAKER)
    assert desk.asked == [("strategy:maker", True)], "at once: it may have orders"
    assert desk.of("Stalled") == ("True", "SpecRefused") and desk.of("Reconciling")[0] == "True"
    ready = desk.kube.objects[STRATEGY]["status"]["conditions"][0]
    assert "'BTCUSDT'" in ready["message"] or "'ETHUSDT'" in ready["message"]
    assert "its orders are being cancelled" in ready["message"]
    for _ in range(8):
        await desk.look()
        desk.become_ready()
    assert PROCESS not in desk.kube.objects and desk.status["stage"] == "Paper", "nobody has cancelled them yet"
    desk.can_cancel = True
    await desk.settle_all()
    assert desk.asked[-1] == ("strategy:maker", False) and desk.status["stage"] == "Pending"
    assert desk.of("Stalled") == ("True", "SpecRefused") and desk.of("Reconciling")[0] == "False"
    count = len(desk.asked)
    desk.start_operator()
    await desk.settle_all()
    assert len(desk.asked) == count, "once it is out, it is out"


async def test_a_pause_is_not_undone_when_objectives_are_missed_after_it() -> None:
    desk = Traded()
    await desk.trade()
    other = copy.deepcopy(desk.kube.objects[STRATEGY])
    other["metadata"] = {"name": "other", "namespace": KEY.namespace, "generation": 1, "uid": "other"}
    desk.cache.strategies.seen(other)
    await desk.settle_all()
    assert {"maker", "other"} == runs(desk)
    desk.moment += timedelta(hours=1)
    await desk.begin(paused=True)
    await desk.settle_all()
    assert runs(desk) == {"other"}
    since = desk.moment + timedelta(minutes=1)
    for minutes in (2, 15, 1, 1, 1):
        desk.moment += timedelta(minutes=minutes)
        status = desk.kube.objects[STACK]["status"]
        told = {
            "type": "SLOMet", "status": "False", "reason": "BudgetBurns", "message": "oms burns",
            "lastTransitionTime": f"{since:%Y-%m-%dT%H:%M:%SZ}",
        }  # fmt: skip
        conditions = [*(each for each in status["conditions"] if each["type"] != "SLOMet"), told]
        desk.kube.tell(STACK, {**status, "conditions": conditions})
        desk.become_ready()
        await desk.look()
    assert desk.condition("Progressing")["reason"] == "Complete"
    assert runs(desk) == {"other"}


def runs(desk: Desk) -> set[str]:
    records = [from_secret(each) for each in desk.kube.objects.values() if each.get("type") == "helm.sh/release.v1"]
    newest = max((each for each in records if each.name == "desk-strategies"), key=lambda record: record.revision)
    settings = json.loads(newest.values["containers"][0]["settings"])
    return {each["name"] for each in settings["config"]["strategies"]["strategies"]}


async def test_a_pause_whose_orders_cannot_be_cancelled_yet_is_not_called_done() -> None:
    desk = Traded()
    await desk.trade()
    desk.can_cancel = False
    await desk.begin(paused=True)
    for _ in range(40):
        await desk.look()
        desk.become_ready()
    assert desk.of("Paused")[0] == "False" and desk.of("Reconciling")[0] == "True"
    desk.can_cancel = True
    await desk.settle_all()
    assert desk.of("Paused")[0] == "True"


async def test_a_deleted_strategy_goes_after_its_orders_and_leaves_others_alone() -> None:
    desk = Traded()
    await desk.trade()
    desk.kube.objects[STRATEGY]["metadata"]["deletionTimestamp"] = "2026-03-04T06:00:00Z"
    desk.watch()
    await desk.strategist.look(MAKER)
    assert STRATEGY in desk.kube.objects and desk.asked == [("strategy:maker", True)]
    await desk.settle_all()
    assert STRATEGY not in desk.kube.objects and desk.asked[-1] == ("strategy:maker", False)
    assert {scope for scope, _ in desk.asked} == {"strategy:maker"} and desk.cancels == 0
    assert WORKLOAD in desk.kube.objects and releases(desk) == {"desk"}
    assert await desk.strategist.look(MAKER) == GONE


async def test_one_whose_stack_is_out_of_reach_is_deleted_all_the_same_and_an_event_says_so() -> None:
    desk = Traded()
    await desk.trade()
    desk.can_cancel = False
    desk.kube.objects[STRATEGY]["metadata"]["deletionTimestamp"] = "2026-03-04T06:00:00Z"
    for _ in range(60):
        await desk.look()
        desk.become_ready()
    assert STRATEGY not in desk.kube.objects and "OrdersNotCancelled" in [reason for reason, _ in desk.said]


async def test_one_without_a_stack_is_let_go_at_once() -> None:
    desk = Traded()
    await desk.begin()
    desk.watch()
    await desk.strategist.look(MAKER)
    desk.kube.objects[STRATEGY]["metadata"]["deletionTimestamp"] = "2026-03-04T06:00:00Z"
    desk.watch()
    await desk.strategist.look(MAKER)
    assert STRATEGY not in desk.kube.objects and desk.asked == []


async def test_in_the_shadow_orders_from_before_are_cancelled() -> None:
    desk = Traded()
    await desk.trade()
    await desk.begin(mode="shadow")
    for _ in range(4):
        await desk.look()
        desk.become_ready()
    assert desk.asked and desk.status["stage"] == "Shadow"
    desk.answers = {MAKER.name: {**RUNNING, "open_orders": 0}}
    desk.asked.clear()
    await desk.settle_all()
    assert desk.asked == []


async def test_a_paused_stack_changes_nothing_of_its_strategies() -> None:
    desk = Traded()
    await desk.trade()
    await desk.apply(paused=True)
    await desk.begin(parameters={"quantity": "0.02"})
    for _ in range(4):
        await desk.look()
    ready = desk.kube.objects[STRATEGY]["status"]["conditions"][0]
    assert "its stack is paused" in ready["message"] and PROCESS in desk.kube.objects


async def test_one_that_was_made_again_at_once_is_another_one() -> None:
    desk = Traded()
    await desk.trade()
    desk.watch()
    old = copy.deepcopy(desk.kube.objects[STRATEGY])
    new = {**copy.deepcopy(old), "spec": {**old["spec"], "parameters": {"quantity": "0.07"}}}
    new["metadata"] |= {"uid": "another", "creationTimestamp": "2026-03-05T00:00:00Z"}
    del new["status"]
    desk.strategist._cancelled[MAKER], desk.strategist._tries[MAKER] = "done", 29
    desk.kube.objects[STRATEGY] = new
    desk.watch()
    desk.cache.strategies.gone(old)
    assert desk.cache.strategies.get(MAKER) is not None, "a deletion that is told late is of the one before"
    await desk.strategist.look(MAKER)
    assert MAKER not in desk.strategist._tries and MAKER not in desk.strategist._cancelled
    await desk.settle_all()
    newest = max(
        (found for each in desk.kube.objects.values() if each.get("type") == "helm.sh/release.v1"
         and (found := from_secret(each)).name == "desk-strategies"), key=lambda record: record.revision,
    )  # fmt: skip
    assert '"quantity":"0.07"' in str(newest.values), "it has generation 1, too, and asks for something else"


async def test_of_several_stacks_one_must_be_named() -> None:
    desk = Traded()
    await desk.trade()
    stack = desk.kube.objects[STACK]
    desk.cache.stack_seen({**stack, "metadata": {**stack["metadata"], "name": "other"}})
    alone = {"metadata": {"namespace": KEY.namespace, "name": "x"}, "spec": {}}
    found, why = desk.cache.strategies.stack_of(alone)
    assert found is None and "desk, other" in why and "spec.stackRef" in why


@pytest.mark.parametrize("fails_after", [False, True], ids=["before the write", "after the write"])
async def test_whichever_write_fails_it_comes_to_the_same_end(fails_after: bool) -> None:
    for number in itertools.count():
        desk = Traded()
        desk.kube.fails_after = fails_after
        await desk.apply()
        await desk.begin()
        desk.kube.fail_at = number
        await desk.settle_all()
        desk.answers = {MAKER.name: dict(RUNNING)}
        await desk.settle_all()
        assert desk.of("Ready") == ("True", "Running"), number
        first = len(desk.kube.calls)
        desk.kube.objects[STRATEGY]["metadata"]["deletionTimestamp"] = "2026-03-04T06:00:00Z"
        desk.start_operator()  # it died of it
        desk.kube.fail_at = number if number >= first else None
        await desk.settle_all()
        desk.kube.fail_at = None
        assert STRATEGY not in desk.kube.objects and PROCESS not in desk.kube.objects, number
        assert desk.asked[-1] == ("strategy:maker", False), number
        assert releases(desk) == {"desk"}, number
        if not desk.kube.failures:  # there are no more
            break
    assert number > 10


async def test_the_strategies_of_a_stack_that_is_deleted_end_before_its_orders_are_cancelled() -> None:
    desk = Traded()
    await desk.trade()
    desk.can_cancel = False
    await desk.delete()
    await desk.look()
    assert PROCESS not in desk.kube.objects and desk.cancels == 0, "while it runs it sends orders"
    await desk.look()
    assert desk.cancels == 1 and WORKLOAD in desk.kube.objects
    desk.can_cancel = True
    for _ in range(4):
        await desk.look()
    assert WORKLOAD not in desk.kube.objects


async def test_a_strategy_stays_with_the_stack_that_has_run_it_whichever_others_come_and_go() -> None:
    stacks: dict[Key, Manifest] = {Key("desks", "desk"): {}}
    known = Strategies(stacks, lambda key: None, lambda key: None)
    fresh = {"metadata": {"name": "maker", "namespace": "desks"}, "spec": {}}
    run = {**fresh, "status": {"stack": "desk"}}
    assert known.stack_of(fresh)[0] == known.stack_of(run)[0] == Key("desks", "desk")
    stacks[Key("desks", "research")] = {}
    assert known.stack_of(fresh)[0] is None and known.stack_of(run)[0] == Key("desks", "desk")
    del stacks[Key("desks", "desk")]
    assert known.stack_of(run) == (
        None,
        "its TradingStack desk is gone: it goes on when that is there again; for another, make another strategy",
    )


async def test_stacks_are_known_before_any_strategy_is_looked_at() -> None:
    desk = Traded()
    await desk.trade()
    desk.start_operator()
    await know(desk.kube, "TradingStack", desk.cache.stack_seen, [])
    await know(desk.kube, "Strategy", desk.cache.strategies.seen, ["others", KEY.namespace])
    strategy = desk.cache.strategies.get(MAKER)
    assert strategy is not None and desk.cache.strategies.stack_of(strategy) == (KEY, "")
