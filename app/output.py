"""What commands print: tables for people, JSON for machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any


def say(line: str) -> None:
    """One line of progress, on standard error."""
    if not speaks():
        return
    print(line, file=sys.stderr, flush=True)


def show(result: Any, text: str, as_json: bool) -> None:
    """A result on standard output: the text, or the whole value as JSON."""
    if not speaks():
        return
    print(json.dumps(plain(result), indent=2, allow_nan=False) if as_json else text, flush=True)


def speaks() -> bool:
    """Whether this process prints; of those that ``torchrun`` starts, the first one does."""
    return os.environ.get("RANK", "0") == "0"


def plain(value: Any) -> Any:
    """A JSON-able copy; paths as text, numbers that are not finite as ``null``."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned: text to the left, numbers (ready formatted) to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    right = [
        all(row[i][:1] in "0123456789-" and row[i][:1] for row in cells) and bool(cells)
        for i in range(len(header))
    ]

    def line(row: Sequence[str]) -> str:
        parts = (
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        )
        return "  ".join(parts).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, cells)])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def quality(objective: str, value: float | None) -> str:
    """A quality as people read it: ``97.40 %`` or ``1.2345``."""
    if value is None:
        return "failed"
    return f"{100 * value:.2f} %" if objective == "accuracy" else f"{value:.4f}"


def milliseconds(value: float | None) -> str:
    """A latency with three or four digits."""
    return "" if value is None else f"{value:.4g}"


def count(value: float) -> str:
    """A count with thousands separated."""
    return f"{value:,.0f}"
