"""Trade2026: a trading platform that is described by one manifest and runs on a laptop or a cluster."""

__version__ = "0.1.0"
