"""`python -m trade2026`."""

from trade2026.cli import main

if __name__ == "__main__":
    main()
