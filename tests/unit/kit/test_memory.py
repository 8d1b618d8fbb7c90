"""How much memory a process may have, on either version of control groups, and when it takes no more work."""

import resource
from pathlib import Path

import pytest

from trade2026.kit.memory import Memory, low_memory, memory_limit_bytes, resident_bytes


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "536870912\n"}, 512 << 20),
        ({"memory.max": "max\n"}, 0),
        ({"memory/memory.limit_in_bytes": "536870912\n"}, 512 << 20),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0),
        ({"memory.max": "nonsense"}, 0),
        ({}, 0),
    ],
)
def test_the_limit_is_read_where_there_is_one(tmp_path: Path, files: dict[str, str], limit: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit_bytes(tmp_path) == limit


def test_a_process_knows_what_it_has() -> None:
    assert 1 << 20 < resident_bytes() < 1.5 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)


def test_the_last_quarter_is_kept_for_recovery_and_without_a_limit_nothing_is() -> None:
    assert not low_memory(Memory(75, 100))
    assert low_memory(Memory(76, 100))
    assert not low_memory(Memory(1 << 50, 0))
