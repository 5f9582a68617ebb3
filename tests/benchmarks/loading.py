"""Scripts of the benchmarks folder as modules; they belong to no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def find_benchmark(name: str) -> Path:
    """Find a script; the test is skipped where the folder is not there."""
    path = FOLDER / f"{name}.py"
    if not path.is_file():
        pytest.skip("benchmarks folder is not part of this installation")
    return path


def load_benchmark(name: str) -> ModuleType:
    """Run a script as a module, which dataclasses find by its name."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", find_benchmark(name))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
