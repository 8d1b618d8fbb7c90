"""How often the tests of brokers and stores that fail make them fail: `make soak` does so many times, CI once."""

import os

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
"""Each kind of failure, one after the other, under the same load."""
AWAY_SECONDS = float(os.environ.get("FAULT_SECONDS", "0"))
"""How long what was killed stays away at least; 0 is until it was noticed."""
TIMEOUT_SECONDS = max(600, ROUNDS * (300 + 3 * int(AWAY_SECONDS)))
"""Of a whole test."""
