"""A front as a small SVG picture, drawn without a plotting library, for reports and the README."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from app.records.front import Front, Point
from app.records.quantities import Quantity

# Okabe and Ito's palette: distinguishable with every common colour vision.
BLUE, AMBER, RED, PINK, GREY = "#0072B2", "#E69F00", "#D55E00", "#CC79A7", "#8A9096"
INK, GRID = "#24292f", "#e4e7ea"


@dataclass(frozen=True)
class Axis:
    """A linear map from shown values to pixels, with round tick marks."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Pixel position of a shown value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About six round values inside the axis."""
        step = nice_step(self.high - self.low)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def nice_step(span: float, wanted: int = 6) -> float:
    """A step of 1, 2 or 5 times a power of ten that cuts ``span`` into about ``wanted``."""
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    return power * min((1, 2, 5, 10), key=lambda m: abs(math.log(m * power / raw)))


def front_svg(
    front: Front,
    *,
    width: int = 760,
    height: int = 440,
    chosen: str | None = None,
    title: str = "",
) -> str:
    """The quality of a front against its cost, predicted and verified marks joined by lines.

    Args:
        front: The front to draw.
        width: Width in pixels.
        height: Height in pixels.
        chosen: Digest of a point to ring and to name in the legend.
        title: A line above the picture; made from the search without one.

    Returns:
        A complete SVG document.

    Raises:
        ValueError: No point of the front has both figures.
    """
    x, y = front.cost, front.quality
    drawn = [p for p in front.points if p.best(x.name) is not None and p.best(y.name) is not None]
    if not any(p.on_front for p in drawn):
        raise ValueError(
            f"search {front.search} has no front point with {x.name} and {y.name}; nothing to draw"
        )
    across = _axis([v for p in drawn for v in _extent(p, x)], 74, width - 20)
    up = _axis([v for p in drawn for v in _extent(p, y)], height - 54, 66)
    heading = title or f"Search {front.search} on device {front.device}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" font-family="Helvetica,Arial,sans-serif" '
        f'font-size="12" fill="{INK}">',
        f"<title>{escape(heading)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="74" y="24" font-size="15" font-weight="bold">{escape(heading)}</text>',
        *frame(across, up, x.axis_label, y.axis_label),
        *_legend(front, drawn, chosen),
    ]
    parts += [
        f'<circle cx="{across.at(_shown(p, x)):.1f}" cy="{up.at(_shown(p, y)):.1f}" r="2.4" '
        f'fill="{GREY}" fill-opacity="0.55"/>'
        for p in drawn
        if not p.on_front
    ]
    members = [p for p in front.on_front() if p in drawn]
    parts += [mark for p in members for mark in _prediction(p, x, y, across, up)]
    parts += [mark for p in members for mark in _verified(p, x, y, across, up)]
    parts += [
        _circle(across.at(_shown(p, x)), up.at(_shown(p, y))) for p in drawn if p.digest == chosen
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axis(values: list[float], start: float, end: float) -> Axis:
    low, high = min(values), max(values)
    edge = 0.06 * (high - low or abs(high) or 1.0)
    return Axis(low - edge, high + edge, start, end)


def _extent(point: Point, objective: Quantity) -> list[float]:
    """What an axis must reach for this point: its value and, on the front, its interval."""
    estimate, centre = point.estimate(objective.name), _shown(point, objective)
    interval = estimate.interval_around(estimate.value)
    if interval is None or not (point.on_front and point.verified):
        return [centre]
    return [centre - interval[0] * objective.scale, centre + interval[1] * objective.scale]


def _shown(point: Point, objective: Quantity) -> float:
    return (point.best(objective.name) or 0.0) * objective.scale


def frame(across: Axis, up: Axis, below: str, beside: str) -> list[str]:
    """Grid, ticks and the names of both axes."""
    parts = []
    for value in up.ticks():
        level = up.at(value)
        parts.append(
            f'<path d="M{across.start:.1f} {level:.1f}H{across.end:.1f}" stroke="{GRID}"/>'
            f'<text x="{across.start - 8:.1f}" y="{level + 4:.1f}" text-anchor="end">'
            f"{value:.6g}</text>"
        )
    for value in across.ticks():
        place = across.at(value)
        parts.append(
            f'<path d="M{place:.1f} {up.start:.1f}v5" stroke="{INK}"/>'
            f'<text x="{place:.1f}" y="{up.start + 19:.1f}" text-anchor="middle">{value:.6g}</text>'
        )
    middle = (across.start + across.end) / 2
    centre = (up.start + up.end) / 2
    parts.append(f'<path d="M{across.start:.1f} {up.start:.1f}H{across.end:.1f}" stroke="{INK}"/>')
    parts.append(
        f'<text x="{middle:.1f}" y="{up.start + 42:.1f}" text-anchor="middle">'
        f"{escape(below)}</text>"
        f'<text transform="translate(22 {centre:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(beside)}</text>"
    )
    return parts


def _legend(front: Front, drawn: list[Point], chosen: str | None) -> list[str]:
    names = {front.quality.name, front.cost.name}
    entries = [(f'<circle cx="0" cy="0" r="4.5" fill="{BLUE}"/>', "verified")]
    if any(p.verified and p.estimate(n).predicted is not None for p in drawn for n in names):
        entries.append((_diamond(0, 0), "predicted"))
    if any(not p.on_front for p in drawn):
        entries.append(
            (f'<circle cx="0" cy="0" r="3" fill="{GREY}"/>', "evaluated, not on the front")
        )
    for point in drawn:
        if point.digest == chosen:
            x, y = front.cost, front.quality
            label = f"{y.show(point.best(y.name))} at {x.show(point.best(x.name))}"
            entries.append((_circle(0, 0), label))
    parts, left = [], 80
    for mark, label in entries:
        parts.append(
            f'<g transform="translate({left} 44)">{mark}'
            f'<text x="13" y="4">{escape(label)}</text></g>'
        )
        left += 34 + 7 * len(label)
    return parts


def _diamond(x: float, y: float) -> str:
    return (
        f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z" fill="white" stroke="{AMBER}" '
        'stroke-width="1.5"/>'
    )


def _prediction(p: Point, x: Quantity, y: Quantity, across: Axis, up: Axis) -> list[str]:
    first, second = p.estimate(x.name), p.estimate(y.name)
    if not p.verified or (first.predicted is None and second.predicted is None):
        return []
    ends = [e.value if e.predicted is None else e.predicted for e in (first, second)]
    if ends[0] is None or ends[1] is None:
        return []
    # A prediction may lie outside the measured range: it is drawn at the edge.
    px = min(max(across.at(ends[0] * x.scale), across.start), across.end)
    py = max(min(up.at(ends[1] * y.scale), up.start), up.end)
    return [
        f'<path d="M{px:.1f} {py:.1f}L{across.at(_shown(p, x)):.1f} {up.at(_shown(p, y)):.1f}" '
        f'stroke="{AMBER}"/>',
        _diamond(px, py),
    ]


def _verified(p: Point, x: Quantity, y: Quantity, across: Axis, up: Axis) -> list[str]:
    cx, cy = across.at(_shown(p, x)), up.at(_shown(p, y))
    parts = []
    for objective, axis in ((x, across), (y, up)):
        estimate = p.estimate(objective.name)
        interval = estimate.interval_around(estimate.value)
        if interval is None or not p.verified:
            continue
        ends = [(estimate.best or 0.0) - interval[0], (estimate.best or 0.0) + interval[1]]
        low, high = (
            min(
                max(axis.at(end * objective.scale), min(axis.start, axis.end)),
                max(axis.start, axis.end),
            )
            for end in ends
        )
        line = (
            f"M{low:.1f} {cy:.1f}H{high:.1f}"
            if axis is across
            else f"M{cx:.1f} {low:.1f}V{high:.1f}"
        )
        parts.append(f'<path d="{line}" stroke="{BLUE}"/>')
    fill = BLUE if p.verified else "white"
    parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="4.5" fill="{fill}" stroke="{BLUE}"/>')
    return parts


def _circle(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="{RED}" stroke-width="2"/>'
