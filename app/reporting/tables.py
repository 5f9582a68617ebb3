"""Tables of text for terminals."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A ready formatted number, with a unit or without, or the dash that stands for a missing one. A
# digest may begin with a digit.
_NUMBER = re.compile("[-+\N{MINUS SIGN}]?[0-9][0-9.,]*(e[+-]?[0-9]+)?( [^0-9]+)?|[-\N{EN DASH}]")


def align_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned: text to the left, numbers (ready formatted) to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    right = [
        all(_NUMBER.fullmatch(row[i]) for row in cells) and bool(cells) for i in range(len(header))
    ]

    def line(row: Sequence[str]) -> str:
        parts = (
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        )
        return "  ".join(parts).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, cells)])
