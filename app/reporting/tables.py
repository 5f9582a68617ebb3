"""Tables of text for terminals."""

from __future__ import annotations

from collections.abc import Sequence

# What a ready formatted number begins with, or what stands for a missing one.
_NUMERIC = "0123456789+-\N{MINUS SIGN}\N{EN DASH}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned: text to the left, numbers (ready formatted) to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    right = [
        all(row[i] and row[i][0] in _NUMERIC for row in cells) and bool(cells)
        for i in range(len(header))
    ]

    def line(row: Sequence[str]) -> str:
        parts = (
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        )
        return "  ".join(parts).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, cells)])
