"""How much memory data need, and how much the machine, its containers and limits leave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from supernet.errors import InputError


def check_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse what would not fit, before it is read.

    Args:
        needed: Bytes that it will take.
        what: Subject of the sentence, in the plural.
        remedy: What would help.

    Raises:
        InputError: More is needed than is available.
    """
    available = measure_available_memory()
    if available is not None and needed > available:
        raise InputError(
            f"{what} need {_write_bytes(needed)} of memory, and {_write_bytes(available)} are "
            f"available; {remedy}, or use a machine with more memory"
        )


def measure_available_memory(root: Path = Path("/")) -> int | None:
    """Measure how many bytes this process can still take; ``None`` where nothing says so.

    The least of what the machine has to give, what the control groups (containers) of this
    process have left, and what its own limit (``ulimit -v``) leaves.

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    found = [_read_machine(root), *_read_groups(root), _read_own_limit(root)]
    known = [number for number in found if number is not None]
    return max(0, min(known)) if known else None


def split_by_bytes(tensor: Tensor, most: int, itemsize: int | None = None) -> Iterator[Tensor]:
    """Cut a tensor along its first dimension into blocks of a bounded size, one sample at least.

    Args:
        tensor: ``(samples, ...)``.
        most: Bytes of a block.
        itemsize: Bytes of a number, if other than the tensor's own.
    """
    yield from tensor.split(count_in_bytes(tensor, most, itemsize))


def count_in_bytes(tensor: Tensor, most: int, itemsize: int | None = None) -> int:
    """Count the samples that fit in a number of bytes, at least one; see :func:`split_by_bytes`."""
    sample = tensor[:1].numel() * (itemsize or tensor.element_size())
    return max(1, most // max(1, sample))


def _read_machine(root: Path) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    # Without /proc (macOS, say) only the whole memory is known; Windows says neither.
    names = getattr(os, "sysconf_names", {})
    if root != Path("/") or "SC_PHYS_PAGES" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _read_groups(root: Path) -> Iterator[int | None]:
    """What is left in every control group that this process is in, the outer ones included."""
    base = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            place, names = base, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            place = base / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inner = Path(path.lstrip("/"))
        for folder in (inner, *inner.parents):
            yield _read_group(place / folder, *names)


def _read_group(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    allowed, used = _read(folder / limit).strip(), _read(folder / usage).strip()
    if not (allowed.isdigit() and used.isdigit()):
        return None
    # Files that were read long ago count as used, and make room when memory is asked for.
    statistics = dict(line.split()[:2] for line in _read(folder / "memory.stat").splitlines())
    return int(allowed) - int(used) + int(statistics.get(cache, "0"))


def _read_own_limit(root: Path) -> int | None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    pages = _read(root / "proc/self/statm").split()
    if limit == resource.RLIM_INFINITY or not pages:
        return None
    return limit - int(pages[0]) * os.sysconf("SC_PAGE_SIZE")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write_bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
