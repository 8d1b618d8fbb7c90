"""What watches tell late, and of an object that was made again under its name."""

import copy
from dataclasses import replace
from typing import Any

from tests.unit.operator.fake_kube import copied
from tests.unit.operator.operated import KEY, SERVICE, STACK, WORKLOAD, Desk

from trade2026_operator.answers import LATE_SECONDS
from trade2026_operator.helm.records import Status, from_secret, to_secret
from trade2026_operator.reconcile.objects import Ref
from trade2026_operator.worker import AGAIN_SECONDS

SECOND = Ref("v1", "Secret", KEY.namespace, "sh.helm.release.v1.desk.v2")


async def test_what_was_known_of_a_stack_is_not_known_of_the_next_one_of_its_name() -> None:
    desk = Desk()
    await desk.run()
    await desk.delete()
    desk.watch()
    desk.cache.cancelled.add(KEY)
    old = desk.cache.stacks[KEY]
    new = {**old, "metadata": {**old["metadata"], "uid": "another", "creationTimestamp": "2026-03-05T00:00:00Z"}}
    desk.cache.stack_seen(new)
    assert KEY not in desk.cache.cancelled, "its orders are its own"
    desk.cache.stack_gone(old)
    assert desk.cache.stacks[KEY]["metadata"]["uid"] == "another", "a deletion that is told late is of the one before"
    desk.cache.stack_seen(old)
    assert desk.cache.stacks[KEY]["metadata"]["uid"] == "another"


async def test_a_child_that_was_made_again_is_not_gone_when_its_deletion_is_told_late() -> None:
    desk = Desk()
    await desk.run()
    for ref in (SERVICE, Ref("v1", "Secret", KEY.namespace, "sh.helm.release.v1.desk.v1")):
        old = copy.deepcopy(desk.kube.objects[ref])
        desk.kube.objects[ref]["metadata"] |= {"uid": "another", "resourceVersion": f"again-{ref.name}"}
        desk.watch()
        desk.cache.child_gone(old)
    assert SERVICE in desk.cache.children(KEY) and len(desk.cache.records(KEY)["desk"]) == 1


# ── what watches tell late ───────────────────────────────────────────────────────────────────


def told_late(desk: Desk, ref: Ref) -> dict[str, Any]:
    """As a watch tells of an object now."""
    return copied(desk.kube.objects[ref])


async def test_a_watch_that_tells_late_of_what_was_before_our_own_write_tells_of_no_change_by_others() -> None:
    desk = Desk()
    await desk.run()
    desk.kube.tell(WORKLOAD, {**desk.kube.objects[WORKLOAD]["status"], "collisionCount": 1})
    workload = told_late(desk, WORKLOAD)
    await desk.apply(defaultAccount="alpha")
    desk.cache.stack_seen(told_late(desk, STACK))
    await desk.worker.look(KEY)
    desk.cache.child_seen(workload)
    desk.kube.calls.clear()
    await desk.worker.look(KEY)
    assert "DriftCorrected" not in [reason for reason, _ in desk.said]
    assert [verb for verb, _ in desk.kube.calls if verb == "apply"] == []
    await desk.settle()
    pending = told_late(desk, SECOND)
    desk.become_ready()
    await desk.look()
    desk.cache.child_seen(pending)
    assert desk.cache.records(KEY)["desk"][-1].status is Status.DEPLOYED, "and a release is not finished twice"
    desk.seconds += LATE_SECONDS
    desk.cache.child_seen(pending)
    assert desk.cache.records(KEY)["desk"][-1].status is Status.PENDING_UPGRADE, "the cluster's store was restored"


async def test_an_answer_that_comes_after_newer_news_hides_neither_a_change_nor_a_deletion() -> None:
    desk = Desk()
    await desk.run()
    answer, asked = told_late(desk, SERVICE), desk.cache._settled[KEY][SERVICE].asked
    desk.kube.edit(SERVICE, {"spec": {"selector": {"trade2026.io/stack": "other"}}})
    desk.watch()
    desk.cache.applied(KEY, asked, answer)
    await desk.worker.look(KEY)
    assert [reason for reason, _ in desk.said].count("DriftCorrected") == 1
    answer, deleted = told_late(desk, SERVICE), told_late(desk, SERVICE)
    deleted["metadata"]["resourceVersion"] += "0"
    desk.kube.gone(SERVICE)
    desk.cache.child_gone(deleted)
    desk.cache.applied(KEY, asked, answer)
    await desk.worker.look(KEY)
    assert SERVICE in desk.kube.objects


async def test_what_a_person_s_helm_writes_while_a_revision_is_begun_is_not_written_over() -> None:
    desk = Desk()
    await desk.run()
    first = from_secret(desk.kube.objects[SECOND._replace(name=SECOND.name.replace("v2", "v1"))])
    theirs = replace(first, revision=2, status=Status.PENDING_UPGRADE, by_operator=False)
    await desk.kube.create(to_secret(theirs, desk.moment, {"trade2026.io/stack": KEY.name}))
    await desk.apply(defaultAccount="alpha")
    desk.cache.stack_seen(told_late(desk, STACK))
    before = desk.asked()
    assert await desk.worker.look(KEY) == AGAIN_SECONDS
    assert not from_secret(desk.kube.objects[SECOND]).by_operator and desk.asked() == before
