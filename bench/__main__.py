"""`python -m bench`: how fast orders are accepted, checked, cancelled, filled and recovered; see README.md.

Everything is measured in one run on one machine, beside what its disk and the bare web server can do, so
that a ratio means something on any machine.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bench.chain import RATES, measure_chain, measure_memory, measure_restart
from bench.entry import MANIFEST, measure_batches, measure_rest, measure_singles, on_kafka
from bench.floors import fdatasync_times, start_echo
from bench.goals import Report, goal_line, judge, row_line
from bench.pure import measure_pure
from bench.stack import ROOT, LocalStack

ENTRY_SERVICES = ["oms", "risk"]
ALL_SERVICES = ["oms", "risk", "gateway", "normalizer", "ptrc", "pnl", "archive"]


class Run:
    """One run: its rows, printed as they come."""

    def __init__(self) -> None:
        self.rows: Report = {}

    def part(self, title: str, services: list[str]) -> None:
        """Begin a part of the table; `services` run during it."""
        self._services = services
        running = f" (running: {', '.join(services)})" if services else ""
        print(f"\n{title}{running}", flush=True)

    def add(self, rows: dict[str, Any]) -> None:
        """Take rows and show them."""
        for name, row in rows.items():
            self.rows[name] = {"services": self._services, **row}
            print(f"  {row_line(name, row)}", flush=True)


def measure(options: argparse.Namespace) -> Report:
    """Everything that was asked for."""
    run, offset = Run(), options.port_offset
    seconds = 1.0 if options.quick else 3.0
    with ExitStack() as closing:
        where = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="trade2026-bench-", dir=options.dir)))
        run.part("The machine and the pure parts", [])
        run.add({"fdatasync": fdatasync_times(where, seconds).report()})
        run.add(measure_pure(MANIFEST, seconds))
        echo = start_echo(closing)
        run.part("Order entry, every acknowledged order durable", ENTRY_SERVICES)
        for number, entry in enumerate(
            (
                partial(measure_singles, echo=echo, seconds=seconds),
                partial(measure_batches, seconds=10.0 if options.full else seconds),
                partial(measure_rest, seconds=seconds),
            )
        ):
            state = where / f"entry-{number}"
            with LocalStack(MANIFEST, state, port_offset=offset, services=ENTRY_SERVICES) as stack:
                entry(stack, add=run.add)
        run.part("The whole chain, MARKET orders on schedule", ALL_SERVICES)
        rates = RATES if options.full else RATES[:1]
        run.add(measure_chain(where / "chain", offset, rates, 5.0 if options.quick else 10.0))
        if options.full:
            run.part("A million orders that come and go", ["oms", "risk", "archive"])
            run.add(measure_memory(where / "memory", offset))
            run.part("Restart over a million events", ALL_SERVICES)
            run.add(measure_restart(where / "restart", offset))
    return run.rows


def measure_on_kafka(options: argparse.Namespace) -> Report:
    """Order entry with the log on a broker of this machine; the names of its rows begin with `kafka_`."""
    run, seconds = Run(), 1.0 if options.quick else 3.0
    run.part("Order entry, every acknowledged order fsynced by a Kafka broker beside it", ENTRY_SERVICES)
    with ExitStack() as closing:
        where = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="trade2026-bench-", dir=options.dir)))
        echo = start_echo(closing)
        manifest, state = on_kafka(where), where / "state"

        def add(rows: dict[str, Any]) -> None:
            run.add({f"kafka_{name}": row for name, row in rows.items()})

        with LocalStack(
            manifest, state, port_offset=options.port_offset, services=ENTRY_SERVICES, with_infra=True
        ) as stack:
            measure_singles(stack, echo, seconds, add)
            measure_batches(stack, seconds, add)
    return run.rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 s a measurement instead of 3")
    parser.add_argument(
        "--full", action="store_true", help="also rising rates over the chain, a million orders, the restart"
    )
    parser.add_argument(
        "--bus",
        choices=("embedded", "kafka"),
        default="embedded",
        help="kafka: order entry alone, with a broker; needs Java",
    )
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--port-offset", type=int, default=20_000)
    parser.add_argument("--dir", type=Path, help="where the state lies; the disk that is measured")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "services"))
    begin, load = time.perf_counter(), os.getloadavg()[0]
    rows = measure_on_kafka(options) if options.bus == "kafka" else measure(options)
    verdicts = judge(rows)
    print(f"\nGoals ({time.perf_counter() - begin:.0f} s; load before the run {load:.1f} on {os.cpu_count()} CPUs)")
    for verdict in verdicts:
        print(f"  {goal_line(verdict)}")
    if options.json:
        machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
        goals = [
            {"goal": each.goal.text, "value": each.value, "bound": each.goal.bound, "reached": each.reached}
            for each in verdicts
        ]
        found = {"machine": {**machine, "load_before": load}, "measured": rows, "goals": goals}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    failed = [name for name, row in rows.items() if row.get("failed")]
    if failed:
        raise SystemExit(f"answers other than 200 in: {', '.join(failed)}")


main()
