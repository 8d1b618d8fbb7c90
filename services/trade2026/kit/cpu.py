"""How much of the processor a process may use, as the kernel's control groups say."""

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def cpu_limit(root: Path = _ROOT) -> float:
    """Cores, e.g. 0.25; 0 where nothing limits it or that can't be read. In a container its own, of either version."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        return max(0.0, round(int(quota) / int(period), 3)) if quota not in ("max", "-1") else 0.0
    except (OSError, ValueError):
        return 0.0
