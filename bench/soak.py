"""`python -m bench.soak`: many seeds, `kill -9` under load, a week of strategies, any request, harm to a cluster."""

import argparse
import os
import random
import subprocess
import sys

from bench.stack import ROOT, environment

SUITES = (
    "tests/simulation",
    "tests/e2e/test_crash.py",
    "tests/e2e/test_slices_crash.py",
    "tests/unit/risk/test_slicing.py",
    "tests/integration/test_sink_ticks_crash.py",
    "tests/integration/test_sink_alt_crash.py",
    "tests/integration/test_logger_crash.py",
    "tests/integration/test_questdb_writer.py::test_kill_9_in_the_middle_of_batches_loses_and_doubles_nothing",
    "tests/integration/test_backtest.py",
    "tests/integration/test_openapi.py",
    "tests/integration/test_websocket_fuzz.py",
    "e2e/test_faults.py",
    "e2e/test_kafka.py",
    "e2e/test_upgrades.py",
)


def main() -> None:
    """The command line; where the environment says a number, that one holds."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--seeds", default=os.environ.get("SIM_SEEDS", "10000"))
    parser.add_argument("--rounds", default=os.environ.get("CRASH_ROUNDS", "100"))
    parser.add_argument("--slice-rounds", default=os.environ.get("SLICE_ROUNDS", "100"))
    parser.add_argument("--slice-examples", default=os.environ.get("SLICE_EXAMPLES", "5000"))
    parser.add_argument("--kills", default=os.environ.get("SINK_KILLS", "50"))
    parser.add_argument("--days", default=os.environ.get("BACKTEST_DAYS", "7"))
    parser.add_argument("--examples", default=os.environ.get("OPENAPI_EXAMPLES", "500"))
    parser.add_argument("--visits", default=os.environ.get("WEBSOCKET_EXAMPLES", "2000"))
    parser.add_argument("--visits-seed", default=os.environ.get("WEBSOCKET_SEED", str(random.randrange(10**6))))
    options = parser.parse_args()
    chosen = {
        "SIM_SEEDS": options.seeds,
        "CRASH_ROUNDS": options.rounds,
        "SLICE_ROUNDS": options.slice_rounds,
        "SLICE_EXAMPLES": options.slice_examples,
        "SINK_KILLS": options.kills,
        "BACKTEST_DAYS": options.days,
        "OPENAPI_EXAMPLES": options.examples,
        "WEBSOCKET_EXAMPLES": options.visits,
        "WEBSOCKET_SEED": options.visits_seed,
        "E2E_FAULTS": "all",
    }
    print(" ".join(f"{name}={value}" for name, value in chosen.items()), flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--timeout", "0", "-x", "-s", "--durations=0", *SUITES],
        cwd=ROOT,
        env={**environment(), **chosen},
    )
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
