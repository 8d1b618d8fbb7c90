"""`python -m bench`: see README.md."""

from bench.orders import main

main()
