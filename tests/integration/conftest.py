"""The services in one process, as the tests of edges meet them: open, or behind keys."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from one_process import OneProcess


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneProcess]:
    """Every service, open to this machine; shared by the tests of a module."""
    with OneProcess(tmp_path_factory.mktemp("stack")) as running:
        yield running
