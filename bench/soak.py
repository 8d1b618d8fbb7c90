"""`python -m bench.soak`: the simulation under many seeds, `kill -9` under load, whatever a client may send."""

import argparse
import os
import subprocess
import sys

from bench.stack import ROOT, environment

SUITES = ("tests/simulation", "tests/e2e/test_crash.py", "tests/integration/test_openapi.py")


def main() -> None:
    """The command line; the environment's SIM_SEEDS, CRASH_ROUNDS and OPENAPI_EXAMPLES win over the defaults."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--seeds", default=os.environ.get("SIM_SEEDS", "10000"))
    parser.add_argument("--rounds", default=os.environ.get("CRASH_ROUNDS", "100"))
    parser.add_argument("--examples", default=os.environ.get("OPENAPI_EXAMPLES", "500"))
    options = parser.parse_args()
    chosen = {"SIM_SEEDS": options.seeds, "CRASH_ROUNDS": options.rounds, "OPENAPI_EXAMPLES": options.examples}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--timeout", "0", "-x", "-s", *SUITES],
        cwd=ROOT,
        env={**environment(), **chosen},
    )
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
