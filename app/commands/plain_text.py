"""Text that is safe to show: names and values in it may come from anybody, and be of any length."""

from __future__ import annotations

import re
import sys

MOST_IN_LINE = 600
MOST_IN_WORD = 200
_LONG_WORD = re.compile(rf"\S{{{MOST_IN_WORD + 1},}}")
# Up to the last @ of the word: a password may hold one.
_PASSWORD = re.compile(r"(://[^\s:/@]*):\S*@")
# What ends a line somewhere.
_BREAKS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")


def write_line(text: str) -> str:
    """Write text as one line of at most :data:`MOST_IN_LINE` characters.

    What a terminal would act on is escaped as in Python, passwords of URLs are hidden, and what is
    too long loses its middle: the beginning says what is wrong, the end what would help.
    """
    line = _PASSWORD.sub(r"\1:***@", _escape(" ".join(text.split()), kept=""))
    line = _LONG_WORD.sub(lambda word: _shorten(word[0], MOST_IN_WORD), line)
    return _shorten(line, MOST_IN_LINE)


def write_lines(text: str) -> str:
    """Write a whole text so that a terminal shows it and does nothing else."""
    return _escape(text, kept="\n")


def _escape(text: str, kept: str) -> str:
    shown = "".join(c if c in kept or _is_harmless(c) else ascii(c)[1:-1] for c in text)
    # File names may hold what no encoding has, and terminals may have few characters.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _is_harmless(character: str) -> bool:
    return character.isprintable() or (character.isspace() and character not in _BREAKS)


def _shorten(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    mark = f"[... {len(text):,} characters ...]"
    tail = (most - len(mark)) // 3
    return text[: most - len(mark) - tail] + mark + text[-tail:]
