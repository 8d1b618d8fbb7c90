"""A change is rolled out wave by wave, goes back by itself where it fails, and a new operator alone changes nothing."""

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.operated import BAKE, KEY, STACK, WORKLOAD, Desk
from tests.unit.operator.rolled_out import DEADLINE, KAFKA, NEW, OLD, images, records, said, states, upgraded

from trade2026.stack import model
from trade2026.stack.facts import SERVICES, peers_of
from trade2026.stack.planner import plan
from trade2026_operator.asked import unsupported
from trade2026_operator.helm.records import Status, from_secret, to_secret
from trade2026_operator.reconcile.objects import Ref
from trade2026_operator.reconcile.rollout import FAILING_SECONDS
from trade2026_operator.reconcile.waves import waves

# ── in which order ───────────────────────────────────────────────────────────────────────────


@given(st.permutations(sorted(SERVICES)), st.lists(st.integers(1, 4), min_size=len(SERVICES)))
def test_each_release_is_in_one_wave_and_after_those_that_it_needs_and_that_do_not_need_it(
    names: list[str], sizes: list[int]
) -> None:
    services: dict[str, list[str]] = {}
    for size in sizes:
        if names:
            services[f"r{len(services)}"], names = names[:size], names[size:]
    order = waves(services)
    assert sorted(name for wave in order for name in wave) == sorted(services)
    home = {service: name for name, hosted in services.items() for service in hosted}
    at = {name: number for number, wave in enumerate(order) for name in wave}
    needs = {n: {home[p.name] for s in hosted for p in peers_of(SERVICES[s])} - {n} for n, hosted in services.items()}
    for name, needed in needs.items():
        for other in needed:
            assert at[other] != at[name], "what one needs is never changed with it"
            if at[other] > at[name]:
                assert name in _reached(other, needs), "only in a circle it comes later"


def _reached(name: str, needs: dict[str, set[str]]) -> set[str]:
    found, ahead = set[str](), [name]
    while ahead:
        fresh = needs[ahead.pop()] - found
        found |= fresh
        ahead += fresh
    return found


async def test_a_new_version_is_rolled_out_wave_by_wave_each_when_the_one_before_is_ready() -> None:
    desk = Desk()
    await desk.run(version=OLD, **KAFKA)
    await desk.apply(version=NEW)
    await desk.settle()
    seen = [{name for name, tag in images(desk).items() if tag == NEW}]
    while said(desk, "Progressing")[0] == "True":
        goes = said(desk, "Progressing")[1] == "RollingOut"
        assert goes or said(desk, "Progressing")[1] == "Baking"
        assert said(desk, "Reconciling")[0] == str(goes) and said(desk, "Released")[0] == str(not goes)
        assert desk.kube.objects[STACK]["status"]["version"] == OLD
        desk.become_ready()
        desk.moment += timedelta(minutes=1)
        await desk.settle()
        seen.append({name for name, tag in images(desk).items() if tag == NEW})
    assert seen[:3] == [
        {"desk-orders"},
        {"desk-orders", "desk-venue"},
        {"desk-orders", "desk-venue", "desk-risk", "desk-projections"},
    ]
    assert set(images(desk).values()) == {NEW} and said(desk, "Progressing") == ("False", "Complete")
    assert said(desk, "Released")[0] == "True" and desk.kube.objects[STACK]["status"]["version"] == NEW
    assert {service["version"] for service in desk.kube.objects[STACK]["status"]["services"]} == {NEW}


async def test_while_versions_are_mixed_new_ones_allow_the_old_and_alone_they_do_not() -> None:
    desk = await upgraded()

    def allowed(release: str) -> str:
        return records(desk, release)[-1].values["containers"][0]["settings"].split('"allowed_versions":')[1]

    assert allowed("desk-orders").startswith('["0.0.9","0.1.0"]') and allowed("desk-data").startswith('["0.0.9"')
    alone = Desk()
    await alone.run(version=OLD)
    await alone.apply(version=NEW)
    await alone.settle()
    assert '"allowed_versions":["0.1.0"]' in records(alone)[-1].values["containers"][0]["settings"]


async def test_the_old_version_is_allowed_no_more_once_the_upgrade_is_final_and_no_pod_starts_again_for_it() -> None:
    desk = await upgraded()
    assert said(desk, "Progressing") == ("True", "Baking")
    pods = {ref: found["spec"] for ref, found in desk.asked().items() if ref.kind == "StatefulSet"}
    assert all('"allowed_versions":["0.0.9","0.1.0"]' in str(each) for each in settings(desk)), "it may go back yet"
    await desk.go_on()
    assert said(desk, "Progressing") == ("False", "Complete")
    assert all('"allowed_versions":["0.1.0"]' in str(each) for each in settings(desk))
    assert {ref: found["spec"] for ref, found in desk.asked().items() if ref.kind == "StatefulSet"} == pods
    assert states(desk, "desk-data")[-1] == (3, "deployed", NEW)
    desk.moment += timedelta(days=1)
    desk.start_operator()
    await desk.settle()
    assert states(desk, "desk-data")[-1] == (3, "deployed", NEW) and said(desk, "Progressing")[1] == "Complete"


async def test_another_operator_that_would_change_more_than_that_leaves_it_until_the_next_change() -> None:
    desk = await upgraded()
    before = desk.asked()
    desk.start_operator("-next")
    desk.moment += BAKE
    await desk.settle()
    assert said(desk, "Progressing") == ("False", "Complete") and desk.asked() == before


def settings(desk: Desk) -> list[dict[str, str]]:
    return [found["data"] for ref, found in desk.kube.objects.items() if ref.kind == "ConfigMap"]


async def test_what_a_change_does_not_touch_is_not_released_again() -> None:
    desk = Desk()
    await desk.run(**KAFKA)
    await desk.apply(risk={"limits": {"maxOpenOrders": 7}})
    await desk.settle()
    await desk.go_on()
    assert [len(records(desk, f"desk-{name}")) for name in ("orders", "risk", "venue", "data")] == [2, 2, 1, 1]
    desk.kube.calls.clear()
    await desk.settle()
    assert desk.kube.calls == []


# ── back ─────────────────────────────────────────────────────────────────────────────────────


async def failing(**spec: Any) -> Desk:
    """A desk whose new image is not there, a moment before that has lasted too long."""
    desk = Desk(missing_images=("desk@trade2026:0.1.0",))
    await desk.run(version=OLD)
    await desk.apply(version=NEW, **spec)
    await desk.settle()
    desk.become_ready()
    await desk.settle()
    desk.moment += timedelta(seconds=FAILING_SECONDS - 1)
    await desk.settle()
    return desk


async def test_what_fails_goes_back_by_itself_with_the_evidence_and_is_not_tried_again() -> None:
    desk = await failing()
    assert states(desk) == [(1, "deployed", OLD), (2, "pending-upgrade", NEW)], "it has its minute"
    assert 0 < (await desk.look() or 0) < 2, "it is looked at again when that is over"
    desk.moment += timedelta(seconds=1)
    await desk.settle()
    assert said(desk, "Progressing") == ("True", "RollingBack") and images(desk) == {"desk": OLD}
    await desk.go_on()
    assert states(desk) == [(1, "superseded", OLD), (2, "failed", NEW), (3, "deployed", OLD)]
    assert records(desk)[-1].rollback_revision == 1
    rolled = desk.condition("RolledBack")
    assert (rolled["status"], rolled["reason"]) == ("True", "ImagePull")
    assert rolled["message"] == "ImagePull: desk: all in pod desk-0: ImagePullBackOff: not found"
    assert said(desk, "Progressing") == ("False", "RolledBack") and said(desk, "Ready") == ("True", "ServicesReady")
    assert said(desk, "Released") == ("False", "RolledBack") and said(desk, "Stalled") == ("True", "RolledBack")
    assert ("RollingBack", rolled["message"]) in desk.said
    desk.moment += timedelta(days=1)
    desk.start_operator()
    await desk.settle()
    assert len(records(desk)) == 3 and images(desk) == {"desk": OLD}
    desk.missing_images = ()
    await desk.apply(defaultAccount="alpha")
    await desk.settle()
    await desk.go_on()
    assert states(desk)[-1] == (4, "deployed", NEW) and said(desk, "RolledBack") == ("False", "NotRolledBack")
    assert said(desk, "Stalled")[0] == "False"


async def test_a_spec_that_went_back_as_well_may_be_tried_again() -> None:
    desk = await failing()
    desk.moment += timedelta(seconds=1)
    await desk.settle()
    await desk.go_on()
    await desk.apply(version=OLD)
    await desk.settle()
    assert said(desk, "RolledBack")[0] == "False" and said(desk, "Released")[0] == "True"
    assert len(records(desk)) == 3, "what runs is what is asked for"
    desk.missing_images = ()
    await desk.apply(version=NEW)
    await desk.settle()
    await desk.go_on()
    assert states(desk)[-1] == (4, "deployed", NEW)


async def test_what_is_only_slow_has_the_deadline_of_the_spec() -> None:
    desk = Desk()
    await desk.run(version=OLD)
    await desk.apply(version=NEW, rollout={"progressDeadline": "3m"})
    await desk.settle()
    desk.moment += timedelta(seconds=179)
    await desk.settle()
    assert states(desk)[-1] == (2, "pending-upgrade", NEW)
    desk.moment += timedelta(seconds=1)
    await desk.settle()
    assert desk.condition("RolledBack")["reason"] == "NotReady"
    assert "StatefulSet/desk" in desk.condition("RolledBack")["message"]


def crash(desk: Desk, *, runs_again: bool) -> None:
    """A container has ended by itself, and waits for its next start or runs again."""
    ref = Ref("v1", "Pod", KEY.namespace, "desk-0")
    ended = {"terminated": {"exitCode": 1}}
    state = {"running": {}} if runs_again else {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    told = {"name": "all", "ready": False, "restartCount": 1, "state": state, "lastState": ended}
    labels = {"trade2026.io/stack": KEY.name, "app.kubernetes.io/instance": "desk"}
    metadata = {"name": ref.name, "namespace": ref.namespace, "labels": labels, "uid": "1"}
    desk.kube.objects[ref] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    desk.kube.objects[ref]["status"] = {"phase": "Running", "containerStatuses": [told]}


async def test_pods_that_begin_to_fail_late_have_their_minute_from_then_on() -> None:
    desk = Desk()
    await desk.run(version=OLD)
    await desk.apply(version=NEW)
    await desk.settle()
    desk.moment += timedelta(minutes=5)  # a long replay
    for runs_again in (False, True, False, True):
        crash(desk, runs_again=runs_again)
        await desk.settle()
        assert states(desk)[-1] == (2, "pending-upgrade", NEW)
        assert said(desk, "Stalled") == ("True", "PodsFail"), "it fails, also while it runs again for a moment"
        desk.moment += timedelta(seconds=FAILING_SECONDS / 4)
    crash(desk, runs_again=False)
    await desk.settle()
    assert states(desk)[-2] == (2, "failed", NEW) and said(desk, "RolledBack") == ("True", "CrashLoop")


async def test_all_releases_go_back_if_one_of_a_later_wave_fails() -> None:
    desk = Desk(missing_images=("desk-risk@trade2026:0.1.0",))
    await desk.run(version=OLD, **KAFKA)
    before = desk.asked()
    await desk.apply(version=NEW)
    await desk.settle()
    await desk.go_on()
    assert images(desk) == {
        "desk-orders": NEW, "desk-venue": NEW, "desk-risk": NEW, "desk-projections": NEW, "desk-data": OLD,
    }  # fmt: skip
    desk.moment += DEADLINE
    await desk.settle()
    await desk.go_on()
    assert desk.asked() == before
    assert said(desk, "RolledBack") == ("True", "ImagePull") and said(desk, "Ready")[0] == "True"
    assert desk.condition("RolledBack")["message"].startswith("ImagePull: desk-risk: all in pod desk-risk-0")
    assert states(desk, "desk-orders")[-1] == (3, "deployed", OLD)
    assert states(desk, "desk-data") == [(1, "deployed", OLD)]


async def test_a_change_that_is_given_up_for_another_goes_back_to_what_ran_everywhere() -> None:
    desk = Desk(missing_images=("desk-risk@trade2026:0.1.0", "desk-venue@trade2026:0.1.1"))
    await desk.run(version=OLD, **KAFKA)
    before = desk.asked()
    for version in (NEW, "0.1.1"):
        await desk.apply(version=version)
        await desk.settle()
        await desk.go_on()
    assert images(desk)["desk-orders"] == images(desk)["desk-venue"] == "0.1.1" and images(desk)["desk-risk"] == NEW
    desk.moment += DEADLINE
    await desk.settle()
    await desk.go_on()
    assert desk.asked() == before, "and not to the half of a change"


async def test_tightened_limits_are_not_undone_and_it_says_so() -> None:
    desk = Desk()
    await desk.run(version=OLD)
    desk.missing_images = ("desk@trade2026:0.0.9",)
    await desk.apply(risk={"limits": {"maxOpenOrders": 3}})
    await desk.settle()
    desk.become_ready()
    desk.moment += DEADLINE
    await desk.settle()
    assert said(desk, "Progressing") == ("False", "DeadlineExceeded")
    assert "undo a change of the limits" in desk.condition("Progressing")["message"]
    desk.missing_images = ()
    await desk.go_on()
    assert states(desk)[-1] == (2, "deployed", OLD), "it goes on as soon as it can"


async def test_a_first_installation_has_no_deadline() -> None:
    desk = Desk()
    await desk.apply()
    await desk.settle()
    desk.moment += 10 * DEADLINE
    await desk.settle()
    assert said(desk, "Progressing") == ("True", "Installing") and len(records(desk)) == 1


@pytest.mark.parametrize("before_it_began", [False, True])
async def test_objectives_that_are_missed_since_it_began_hold_the_next_wave_and_undo_the_change(
    before_it_began: bool,
) -> None:
    desk = Desk()
    await desk.run(version=OLD, **KAFKA)
    desk.moment += timedelta(hours=1)
    await desk.apply(version=NEW)
    await desk.settle()
    since = desk.moment + timedelta(minutes=-30 if before_it_began else 1)
    burning = {
        "type": "SLOMet", "status": "False", "reason": "Burning", "message": "oms burns 20 times too fast",
        "lastTransitionTime": f"{since:%Y-%m-%dT%H:%M:%SZ}",
    }  # fmt: skip

    async def look() -> None:
        status = desk.kube.objects[STACK]["status"]
        told = [each for each in status["conditions"] if each["type"] != "SLOMet"]
        desk.kube.tell(STACK, {**status, "conditions": [*told, burning]})
        desk.become_ready()
        await desk.look()

    for _ in range(4):
        await look()
    assert images(desk)["desk-venue"] == (NEW if before_it_began else OLD)
    desk.moment += DEADLINE
    await look()
    newest = records(desk, "desk-orders")[-1]
    assert newest.status is (Status.DEPLOYED if before_it_began else Status.FAILED)
    assert before_it_began or newest.description == "SLOBurn: desk-orders: oms burns 20 times too fast"


# ── a new operator ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spec", [{}, KAFKA], ids=["one pod", "many"])
async def test_a_new_operator_with_another_chart_changes_nothing_until_the_spec_changes(spec: dict[str, Any]) -> None:
    desk = Desk()
    await desk.run(**spec)
    await desk.apply(services={"oms": {}})  # the same in other words
    await desk.settle()
    versions = {ref: found["metadata"]["resourceVersion"] for ref, found in desk.kube.objects.items() if ref != STACK}
    desk.start_operator("-next")
    await desk.settle()
    await desk.apply(driftPolicy="Warn", rollout={"progressDeadline": "1m"})
    await desk.settle()
    after = {ref: found["metadata"]["resourceVersion"] for ref, found in desk.kube.objects.items() if ref != STACK}
    assert after == versions
    assert said(desk, "Released")[0] == "True" and said(desk, "Progressing") == ("False", "Complete")
    reads = desk.kube.reads
    await desk.settle()
    assert desk.kube.reads == reads, "what was read once is known"
    await desk.apply(defaultAccount="alpha")
    await desk.settle()
    await desk.go_on()
    template = desk.kube.objects[Ref("apps/v1", "StatefulSet", KEY.namespace, images(desk).popitem()[0])]["spec"]
    assert template["template"]["metadata"]["annotations"]["note"] == "-next"


async def test_what_a_new_operator_goes_back_to_is_what_ran_and_drift_is_held_to_that() -> None:
    desk = Desk(missing_images=("desk@trade2026:0.1.0",))
    await desk.run(version=OLD)
    before = desk.asked()
    desk.start_operator("-next")
    await desk.settle()
    desk.kube.edit(WORKLOAD, {"spec": {"replicas": 3}})
    await desk.settle()
    assert desk.asked() == before
    await desk.apply(version=NEW)
    await desk.settle()
    desk.become_ready()
    desk.moment += DEADLINE
    await desk.settle()
    await desk.go_on()
    assert desk.asked() == before


@pytest.mark.parametrize(
    ("version", "own", "runs"),
    [
        ("0.1.0", "0.1.0", True),
        ("0.1.7", "0.1.0", True),
        ("0.0.3", "0.1.0", True),
        ("0.2.0", "0.1.0", False),
        ("0.1.0", "0.3.0", False),
        ("0.9.1", "1.0.0", True),
        ("1.0.0-rc.1", "1.0.0", True),
        ("0.9.1", "1.1.0", False),
        ("2.0.0", "1.1.0", False),
    ],
)
def test_an_operator_runs_its_own_minor_version_and_the_one_before(version: str, own: str, runs: bool) -> None:
    assert (unsupported(version, own) == "") is runs


async def test_a_version_that_the_operator_does_not_know_changes_nothing_and_is_told() -> None:
    desk = Desk()
    await desk.run()
    await desk.apply(version="7.0.0")
    await desk.settle()
    assert said(desk, "Stalled") == ("True", "SpecRefused") and "7.0.0 is none" in desk.condition("Stalled")["message"]
    assert images(desk) == {"desk": NEW}


# ── formats and people ───────────────────────────────────────────────────────────────────────


async def test_a_new_format_is_written_only_when_the_roll_out_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "EVENT_FORMATS", (1, 2))
    desk = Desk()
    await desk.run(version=OLD, **KAFKA)
    await desk.apply(version=NEW)
    await desk.settle()
    await desk.apply(eventFormat=2)  # in the midst of it
    formats = list[set[int]]()
    for _ in range(12):
        await desk.settle()
        newest = [records(desk, name)[-1].origin for name in images(desk)]
        formats.append({origin.event_format for origin in newest})
        assert formats[-1] == {1} or {origin.version for origin in newest} == {NEW}
        desk.become_ready()
    assert formats[-1] == {2}, "then it is rolled out in turn"


async def test_a_persons_rollback_of_a_release_whose_turn_comes_late_stands_until_its_turn() -> None:
    desk = Desk()
    await desk.run(version=OLD, **KAFKA)
    await desk.apply(defaultAccount="alpha")
    await desk.settle()
    await desk.go_on()
    whole = copy.deepcopy(next(each for ref, each in desk.kube.objects.items() if ref.name.endswith(".desk-data.v2")))
    by_hand = replace(from_secret(whole), revision=3, rollback_revision=1, by_operator=False)
    await desk.kube.create(to_secret(by_hand, desk.moment, {"trade2026.io/stack": KEY.name}))
    await desk.settle()
    assert said(desk, "Drifted") == ("True", "HumanRelease")
    await desk.apply(version=NEW)
    await desk.settle()
    assert images(desk)["desk-data"] == OLD
    await desk.go_on()
    assert images(desk)["desk-data"] == NEW and said(desk, "Drifted")[0] == "False"
    assert said(desk, "Progressing") == ("False", "Complete")


def test_other_versions_are_allowed_beside_the_planned_one() -> None:
    spec = {"instruments": [{"symbol": "BTCUSDT", "tickSize": "1", "lotSize": "1"}], "venues": [{"name": "SIM"}]}
    stack = model.TradingStack.model_validate(
        {
            "apiVersion": "trade2026.io/v1alpha1",
            "kind": "TradingStack",
            "metadata": {"name": "desk"},
            "spec": {**spec, "version": NEW},
        }
    )
    planned = plan(stack, also_allowed=[NEW, OLD])
    assert {tuple(release.settings["allowed_versions"]) for release in planned.releases} == {(OLD, NEW)}


# ── crashes ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fails_after", [False, True], ids=["before the write", "after the write"])
@pytest.mark.parametrize("spec", [{}, KAFKA], ids=["one pod", "many"])
@pytest.mark.parametrize("lost", [(), ("0.1.0",)], ids=["upgrade", "rollback"])
async def test_whichever_write_fails_an_upgrade_and_a_rollback_come_to_the_same_end(
    fails_after: bool, spec: dict[str, Any], lost: tuple[str, ...]
) -> None:
    lost = tuple(f"{'desk-risk' if spec else 'desk'}@trade2026:{each}" for each in lost)

    async def upgraded(number: int) -> Desk:
        desk = Desk(missing_images=lost)
        await desk.run(version=OLD, **spec)
        desk.kube.fails_after = fails_after
        await desk.apply(version=NEW)
        await desk.settled_although(number)
        first = len(desk.kube.calls)
        desk.start_operator()  # it died of it
        desk.moment += DEADLINE
        desk.kube.calls.clear()
        await desk.settled_although(number - first)
        desk.number_max = max(first, first + len(desk.kube.calls))  # type: ignore[attr-defined]
        return desk

    whole = await upgraded(-1)
    writes = whole.number_max  # type: ignore[attr-defined]
    for number in range(0, writes, 1 if not spec else 7):
        desk = await upgraded(number)
        assert desk.asked() == whole.asked(), number
        for release in images(desk):
            assert states(desk, release)[-1][1:] == states(whole, release)[-1][1:], (number, release)
            assert sum(state == "deployed" for _, state, _ in states(desk, release)) == 1, (number, release)
        for kind in ("Ready", "Progressing", "RolledBack", "Stalled"):
            assert said(desk, kind) == said(whole, kind), (number, kind)
