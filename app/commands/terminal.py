"""What commands print: text for people, JSON for machines."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from app.commands.plain_text import write_line, write_lines


def say(line: str) -> None:
    """One line of progress, on standard error."""
    # Where standard error is closed, `print` would write among the results.
    if not speaks() or sys.stderr is None:
        return
    # In one piece, so that nothing of another process comes between a line and its end.
    print(f"{write_line(line)}\n", end="", file=sys.stderr, flush=True)


def show(result: Any, text: str, as_json: bool) -> None:
    """A result on standard output: the text, or the whole value as JSON."""
    if not speaks():
        return
    # Importing what reads and writes records takes longer than printing a help text.
    from app.records.typed_json.plain import plain

    as_text = write_lines(text)
    print(json.dumps(plain(result), indent=2, allow_nan=False) if as_json else as_text, flush=True)


def speaks() -> bool:
    """Whether this process prints; of those that ``torchrun`` starts, the first one does."""
    return os.environ.get("RANK", "0") == "0"
