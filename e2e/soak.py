"""Tests that take long, and are left to `make soak`."""

import os

import pytest

IS_SOAK = os.environ.get("E2E_FAULTS") == "all"
soak = pytest.mark.skipif(not IS_SOAK, reason="part of `make soak`, or E2E_FAULTS=all")
