"""`python -m trade2026_operator`: keep every stack of a cluster as its manifest says."""

import asyncio
import logging
import sys

from trade2026_operator import arguments
from trade2026_operator.operator import Operator


def main() -> None:
    """The entry point."""
    told = arguments.read()
    logging.basicConfig(
        level=told.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("kopf").setLevel(logging.WARNING)  # every handler of every event has succeeded
    try:
        sys.exit(asyncio.run(Operator(told).run()))
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
