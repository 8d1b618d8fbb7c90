"""`python -m trade2026_operator`: keep every stack of a cluster as its manifest says."""

import asyncio
import logging
import sys

from trade2026_operator import arguments


def main() -> None:
    """The entry point."""
    told = arguments.read()
    try:  # what is asked for help has no need of it
        from trade2026_operator.operator import Operator
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is not installed; what an operator needs is: pip install 'trade2026[operator]'")
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
