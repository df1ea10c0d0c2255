"""How many CPUs this container may use."""

import math
from pathlib import Path

from serving.system import usable_cpus


def cpu_limit(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Whole CPUs within the cgroup's quota (version 2 or 1) and the affinity mask, at least 1."""
    usable = usable_cpus()
    quota = _quota(cgroup)
    return max(1, min(usable, math.ceil(quota))) if quota else usable


def _quota(cgroup: Path) -> float | None:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not quota.isdecimal() or not int(period):  # "max", or -1: no limit
        return None
    return int(quota) / int(period)
