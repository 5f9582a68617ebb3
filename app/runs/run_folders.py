"""Which folders are run directories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Run directories among ``paths`` and, for a path that is none, directly inside it."""
    found: list[Path] = []
    for path in paths:
        if (path / "run.json").is_file():
            found.append(path)
        elif path.is_dir():
            found += sorted(child.parent for child in path.glob("*/run.json"))
    unique: dict[Path, Path] = {}
    for path in found:
        unique.setdefault(path.resolve(), path)
    return list(unique.values())
