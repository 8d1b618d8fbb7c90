"""The way into a stack is remembered as long as it leads there, and to nobody else."""

import copy

import pytest
from tests.unit.operator.operated import KEY, KEYS, SERVICE, Desk

from trade2026_operator.orders import Orders


async def asked(desk: Desk) -> Orders:
    """Who has found the way to a desk, and been answered."""
    await desk.run()
    desk.kube.edit(SERVICE, {"spec": {"clusterIP": "10.0.0.7"}}, manager="kube-apiserver")
    desk.watch()
    orders = Orders(desk.kube, seen=desk.cache.version)
    orders._ways[KEY, "oms"] = await orders._way(KEY, "oms")
    return orders


async def test_the_way_is_asked_for_once_and_again_when_the_service_or_the_key_is_another() -> None:
    desk = Desk()
    orders = await asked(desk)
    reads = desk.kube.reads
    way = await orders._way(KEY, "oms")
    assert way.url.startswith("http://10.0.0.7:") and desk.kube.reads == reads
    for change in ({"spec": {"clusterIP": "10.0.0.8"}}, {"data": {"key": "bWluZQ=="}}):
        orders._ways[KEY, "oms"] = way
        desk.kube.edit(SERVICE if "spec" in change else KEYS, change)
        desk.watch()
        way = await orders._way(KEY, "oms")
    assert way.url.startswith("http://10.0.0.8:") and way.bearer == "mine"


async def test_of_a_stack_that_is_gone_nothing_is_kept() -> None:
    desk = Desk()
    orders = await asked(desk)
    stack = copy.deepcopy(desk.cache.stacks[KEY])
    desk.cache.stack_gone(stack)
    other = KEY._replace(name="other")
    with pytest.raises(KeyError, match="there is no oms"):
        await orders._way(other, "oms")
    assert orders._ways == {}
