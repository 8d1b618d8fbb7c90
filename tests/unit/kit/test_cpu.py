"""How much of the processor a process may use, on either version of control groups."""

from pathlib import Path

import pytest

from trade2026.kit.cpu import cpu_limit


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "25000 100000\n"}, 0.25),
        ({"cpu.max": "max 100000\n"}, 0.0),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.0),
        ({"cpu.max": "nonsense"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_limit_is_read_where_there_is_one(tmp_path: Path, files: dict[str, str], cores: float) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_limit(tmp_path) == cores
