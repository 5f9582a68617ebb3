"""An audit as a small SVG picture: inherited against stand-alone quality, without a library."""

from __future__ import annotations

from html import escape

from app.records.audit import AuditRecord, NetworkRecord, QualityRecord
from app.reporting.figures import AMBER, BLUE, GREY, INK, Axis, frame

WIDTH, HEIGHT = 560, 480


def audit_svg(found: AuditRecord, title: str) -> str:
    """One mark per network with its 95 % intervals, larger for more MACs, and the diagonal.

    Args:
        found: What the audit found.
        title: Name of the run.

    Returns:
        A complete SVG document.
    """
    rows = found.networks
    scale = 100.0 if found.unit == "fraction" else 1.0
    unit = "%" if found.unit == "fraction" else found.unit
    across = _axis([row.alone for row in rows], scale, 74, WIDTH - 20)
    up = _axis([row.inherited for row in rows], scale, HEIGHT - 54, 66)
    tau = found.kendall_tau.value
    shown = "undefined" if tau is None else f"{tau:.2f}"
    heading = f"{title}: Kendall tau {shown} over {len(rows)} networks ({found.split})"
    dearest = max(row.macs for row in rows) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="Helvetica,Arial,sans-serif" '
        f'font-size="12" fill="{INK}">',
        f"<title>{escape(heading)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="74" y="24" font-size="15" font-weight="bold">{escape(heading)}</text>',
        f'<text x="74" y="46">larger marks: more MACs; lines: 95 % intervals; '
        f'<tspan fill="{AMBER}">amber</tspan>: equal</text>',
        *frame(across, up, f"{found.objective} when trained alone ({unit})",
                f"{found.objective} with inherited weights ({unit})"),
        *_diagonal(across, up),
    ]  # fmt: skip
    for row in rows:
        parts += _mark(row, scale, across, up, 3 + 5 * (row.macs / dearest) ** 0.5)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axis(values: list[QualityRecord], scale: float, start: float, end: float) -> Axis:
    low = min(value.low for value in values) * scale
    high = max(value.high for value in values) * scale
    edge = 0.05 * (high - low or abs(high) or 1.0)
    return Axis(low - edge, high + edge, start, end)


def _diagonal(across: Axis, up: Axis) -> list[str]:
    """Where both are equal, as far as both axes reach."""
    low, high = max(across.low, up.low), min(across.high, up.high)
    if low >= high:
        return []
    return [
        f'<path d="M{across.at(low):.1f} {up.at(low):.1f}L{across.at(high):.1f} '
        f'{up.at(high):.1f}" stroke="{AMBER}" stroke-width="1.5" stroke-dasharray="5 4"/>'
    ]


def _mark(row: NetworkRecord, scale: float, across: Axis, up: Axis, radius: float) -> list[str]:
    alone, inherited = row.alone, row.inherited
    cx, cy = across.at(alone.value * scale), up.at(inherited.value * scale)
    left, right = (across.at(end * scale) for end in (alone.low, alone.high))
    bottom, top = (up.at(end * scale) for end in (inherited.low, inherited.high))
    return [
        f'<path d="M{left:.1f} {cy:.1f}H{right:.1f}M{cx:.1f} {bottom:.1f}V{top:.1f}" '
        f'stroke="{GREY}" stroke-opacity="0.6"/>',
        f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{radius:.1f}" fill="{BLUE}" fill-opacity="0.8" '
        f'stroke="white"><title>{escape(row.digest)}</title></circle>',
    ]
