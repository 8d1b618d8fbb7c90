"""CPU time of the pure parts, in this process, without I/O: a check, and a decision with its fold."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def measure_pure(manifest: Path, seconds: float) -> dict[str, Any]:
    """A check and a decision under the limits of a manifest."""
    import msgspec

    from trade2026.controls.limits import LimitBook
    from trade2026.controls.machine import Controls
    from trade2026.domain import commands as cmd
    from trade2026.domain import events as ev
    from trade2026.domain.instruments import Instrument
    from trade2026.domain.orders import OrderSpec, OrderType
    from trade2026.oms.machine import OrderMachine
    from trade2026.stack.manifest import load
    from trade2026.stack.planner import plan

    release = plan(load(manifest)).release("orders")
    assert release is not None
    book = msgspec.convert(release.settings["risk"], LimitBook)
    instruments = msgspec.convert(release.settings["instruments"], list[Instrument])
    controls = Controls(book, {each.instrument_id: each for each in instruments})
    machine = OrderMachine(controls)
    spec = OrderSpec(
        client_order_id="x",
        account="main",
        instrument=instruments[0].instrument_id,
        side="BUY",
        order_type=OrderType.LIMIT,
        quantity=10_000_000,
        price=45_000_010_000_000,
    )
    now = time.time_ns()

    def emit(event: ev.AnyEvent) -> None:
        machine.apply(ev.Envelope(machine.next_seq, 1, now, now, "bench", "local", "", "", "", event))

    def check(number: int) -> None:
        assert controls.check(spec, None, now + number * 10_000) is None

    def decide(number: int) -> None:
        named = msgspec.structs.replace(spec, client_order_id=f"c{number}")
        order = machine.decide(cmd.SubmitOrder(ts=now + number * 10_000, spec=named), emit)
        assert not order.reject_code, order.reason

    return {
        "check_in_process": {"us": cpu_microseconds(check, seconds), "services": []},
        "decide_and_apply": {"us": cpu_microseconds(decide, seconds), "services": []},
    }


def cpu_microseconds(work: Callable[[int], None], seconds: float) -> float:
    """CPU time of one call, averaged."""
    calls = 1_000
    for number in range(calls):
        work(number)
    begin, started = time.process_time_ns(), time.perf_counter()
    while time.perf_counter() - started < seconds:
        for number in range(calls, calls + 500):
            work(number)
        calls += 500
    return round((time.process_time_ns() - begin) / 1_000 / (calls - 1_000), 2)
