"""How many processors this process may use, which can be fewer than the machine has."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def count_allowed_processors() -> int:
    """Count the processors that threads of this process can run on at the same time.

    The smallest of what the machine has, what the process is bound to (``taskset``, a container's
    cpuset) and the quota of its control groups (``docker run --cpus``), at least 1.
    """
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = min(count, len(os.sched_getaffinity(0)))
    quota = read_quota()
    return count if quota is None else max(1, min(count, int(quota)))


def read_quota(own: Path = _OWN, root: Path = _CGROUPS) -> float | None:
    """Read how many processors' time the control groups of this process grant.

    Args:
        own: Lists the groups of the process, as in ``/proc/self/cgroup``.
        root: Where the groups' files lie.

    Returns:
        The least of all its groups, those around them included; ``None`` without a limit.
    """
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found += [_read_share(folder / "cpu.max") for folder in _climb(root, path)]
        elif "cpu" in controllers.split(","):
            for base in (root / controllers, root / "cpu"):
                found += [_read_old_share(folder) for folder in _climb(base, path)]
    limits = [share for share in found if share is not None]
    return min(limits, default=None)


def _climb(base: Path, path: str) -> list[Path]:
    """A group's folder and those around it; in a container only the outermost may be visible."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [base.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _read_share(file: Path) -> float | None:
    """``"150000 100000"`` is one and a half processors, ``"max 100000"`` no limit."""
    try:
        quota, period = file.read_text(encoding="utf-8").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _read_old_share(folder: Path) -> float | None:
    """The same of a group of the first kind; -1 is no limit."""
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="utf-8"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
