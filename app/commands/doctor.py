"""What this machine can do, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from app.commands.requirements import explain_misfits, find_version, read_declared
from app.reporting.tables import align_table
from app.runs import plugins
from hardware.processors import count_allowed_processors


@dataclass(frozen=True)
class Health:
    """The findings; sizes in gigabytes.

    ``packages`` are the versions of what every command may need, ``None`` without one. ``extras``
    and ``backends`` are there by name, with what keeps one from being used here.
    """

    supernet: str
    python: str
    system: str
    processor: str
    cores: int
    memory_gb: float | None
    free_disk_gb: float
    packages: dict[str, str | None]
    torch_threads: int
    cuda: str | None
    providers: tuple[str, ...]
    extras: dict[str, str | None]
    backends: dict[str, str | None]
    problems: tuple[str, ...]


def examine(folder: Path) -> Health:
    """Look at this machine; ``folder`` is where runs would be written."""
    from supernet import __version__

    declared = read_declared()
    torch, onnxruntime = _import("torch"), _import("onnxruntime")
    free = shutil.disk_usage(folder).free / 1e9
    problems = list(explain_misfits(declared.needed))
    if free < 1:
        problems.append(f"only {free:.1f} GB are free in {folder.resolve()}; a run needs about 1")
    if not os.access(folder, os.W_OK):
        problems.append(f"{folder.resolve()} cannot be written to")
    return Health(
        supernet=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        processor=_processor(),
        cores=count_allowed_processors(),
        memory_gb=_memory_gb(),
        free_disk_gb=round(free, 1),
        packages={part.name: find_version(part.name) for part in declared.needed},
        torch_threads=torch.get_num_threads() if torch else 0,
        cuda=torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None,
        providers=tuple(onnxruntime.get_available_providers()) if onnxruntime else (),
        extras={
            extra: "; ".join(explain_misfits(parts)) or None
            for extra, parts in declared.extras.items()
        },
        backends={
            name: plugins.load_backend(name).explain_absence()
            for name in plugins.list_names(plugins.BACKEND)
        },
        problems=tuple(problems),
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)


def _import(name: str) -> ModuleType | None:
    """A package that may be missing or broken here, which is said elsewhere."""
    try:
        return import_module(name)
    except (ImportError, OSError):
        return None


def format_health(health: Health) -> str:
    """Show everything found, problems last."""
    memory = "unknown" if health.memory_gb is None else f"{health.memory_gb:g} GB"
    rows = [
        ("supernet", health.supernet),
        ("python", f"{health.python} on {health.system}"),
        ("processor", f"{health.processor}, {health.cores} cores"),
        ("memory", f"{memory}, {health.free_disk_gb:g} GB of disk free"),
        ("gpu", health.cuda or "none that torch can use"),
        ("providers", ", ".join(health.providers) or "none"),
        *((name, found or "missing") for name, found in health.packages.items()),
        *((f"extra {name}", why or "usable") for name, why in health.extras.items()),
        *((f"backend {name}", why or "usable") for name, why in health.backends.items()),
    ]
    verdict = "; ".join(health.problems) or "Everything that is needed is there."
    return f"{align_table(('what', 'found'), rows)}\n{verdict}"
