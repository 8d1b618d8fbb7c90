"""`python -m bench.soak`: the simulation under many seeds, then many rounds of `kill -9` under load."""

import argparse
import os
import subprocess
import sys

from bench.stack import ROOT, environment

SUITES = ("tests/simulation", "tests/e2e/test_crash.py")


def main() -> None:
    """The command line; the environment's SIM_SEEDS and CRASH_ROUNDS win over the defaults."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--seeds", default=os.environ.get("SIM_SEEDS", "10000"))
    parser.add_argument("--rounds", default=os.environ.get("CRASH_ROUNDS", "100"))
    options = parser.parse_args()
    chosen = {"SIM_SEEDS": options.seeds, "CRASH_ROUNDS": options.rounds}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--timeout", "0", "-x", "-s", *SUITES],
        cwd=ROOT,
        env={**environment(), **chosen},
    )
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
