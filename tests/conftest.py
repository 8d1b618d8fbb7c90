"""What all tests share: a slow machine fails none of them, and real components are started once."""

from hypothesis import settings
from tests.infra import kafka, questdb, valkey

__all__ = ["kafka", "questdb", "valkey"]

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
