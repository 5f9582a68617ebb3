"""What this machine can do, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from app.records.numbers import format_items
from app.reporting.tables import align_table
from app.runs import plugins
from hardware.processors import count_allowed_processors

EXTRAS = {"transformers": "hf", "playwright": "browser"}
NEEDED = (
    "torch",
    "numpy",
    "onnx",
    "onnxruntime",
    "pymoo",
    "scikit-learn",
    "streamlit",
    "altair",
    "vl-convert-python",
    "pandas",
    "pyarrow",
    "pydantic",
    "safetensors",
    "typer",
)


@dataclass(frozen=True)
class Health:
    """The findings; sizes in gigabytes.

    ``backends`` are the device backends by name, with what keeps one from being used here.
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
    extras: dict[str, bool]
    backends: dict[str, str | None]
    problems: tuple[str, ...]


def examine(folder: Path) -> Health:
    """Look at this machine; ``folder`` is where runs would be written."""
    import onnxruntime
    import torch

    from supernet import __version__

    packages = {name: _version(name) for name in NEEDED}
    free = shutil.disk_usage(folder).free / 1e9
    problems = [f"{name} is not installed" for name, found in packages.items() if found is None]
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
        packages=packages,
        torch_threads=torch.get_num_threads(),
        cuda=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        providers=tuple(onnxruntime.get_available_providers()),
        extras={extra: find_spec(module) is not None for module, extra in EXTRAS.items()},
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


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def format_health(health: Health) -> str:
    """Show everything found, problems last."""
    memory = "unknown" if health.memory_gb is None else f"{health.memory_gb:g} GB"
    rows = [
        ("supernet", health.supernet),
        ("python", f"{health.python} on {health.system}"),
        ("processor", f"{health.processor}, {format_items(health.cores, 'core')}"),
        ("memory", f"{memory}, {health.free_disk_gb:g} GB of disk free"),
        ("gpu", health.cuda or "none that torch can use"),
        ("onnxruntime", ", ".join(health.providers)),
        *((name, found or "missing") for name, found in health.packages.items()),
        *(
            (f"extra {name}", "present" if here else f"missing: pip install 'supernet[{name}]'")
            for name, here in health.extras.items()
        ),
        *((f"backend {name}", why or "usable") for name, why in health.backends.items()),
    ]
    verdict = "; ".join(health.problems) or "Everything that is needed is there."
    return f"{align_table(('what', 'found'), rows)}\n{verdict}"
