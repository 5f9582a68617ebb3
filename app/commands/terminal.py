"""What commands print: text for people, JSON for machines."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from app.records.plain import plain


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
