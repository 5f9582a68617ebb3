"""The progress of a search as a small SVG picture: hypervolume against evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from app.records.trace import Hypervolume
from app.reporting.figures import BLUE, GREY, INK, Axis, frame

WIDTH, HEIGHT = 640, 380


def progress_svg(rows: Sequence[Hypervolume], title: str) -> str:
    """Hypervolume after each evaluation, random search dashed beside where there is one.

    Args:
        rows: The trace; may be empty.
        title: A line above the picture.

    Returns:
        A complete SVG document.
    """
    ours = [(row.evaluations, row.value) for row in rows if row.value is not None]
    beside = [(row.evaluations, row.baseline) for row in rows if row.baseline is not None]
    most = max((number for number, _ in (*ours, *beside)), default=1)
    top = max((value for _, value in (*ours, *beside)), default=1.0) or 1.0
    across = Axis(0.0, float(most), 74, WIDTH - 20)
    up = Axis(0.0, 1.05 * top, HEIGHT - 54, 66)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="Helvetica,Arial,sans-serif" '
        f'font-size="12" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="74" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
        *frame(across, up, "evaluated architectures", "hypervolume"),
        *_entry(74, BLUE, "", "this search"),
        *_steps(ours, across, up, BLUE, ""),
    ]
    if beside:
        dash = ' stroke-dasharray="5 4"'
        parts += _entry(190, GREY, dash, "random search")
        parts += _steps(beside, across, up, GREY, dash)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _steps(
    points: Sequence[tuple[int, float]], across: Axis, up: Axis, color: str, dash: str
) -> list[str]:
    if not points:
        return []
    number, value = points[0]
    path = [f"M{across.at(number):.1f} {up.at(value):.1f}"]
    path += [f"H{across.at(number):.1f}V{up.at(value):.1f}" for number, value in points[1:]]
    return [f'<path d="{"".join(path)}" fill="none" stroke="{color}" stroke-width="1.8"{dash}/>']


def _entry(left: int, color: str, dash: str, label: str) -> list[str]:
    return [
        f'<path d="M{left} 44h24" stroke="{color}" stroke-width="1.8"{dash}/>'
        f'<text x="{left + 30}" y="48">{escape(label)}</text>'
    ]
