"""The front of a search as a chart: verified and predicted points, intervals, what lies behind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import altair as alt

from app.records.front import Front, Point
from app.records.quantities import Quantity
from app.reporting import chart_style as style
from app.reporting.chart_style import Axis, Mark, Row

BEHIND = Mark("evaluated, not on the front", style.GREY, area=26, opacity=0.6)
CLOSE = Mark("behind within noise only", style.GREY, area=34, filled=False, opacity=0.8)
PREDICTED = Mark("predicted", style.AMBER, "diamond", area=64, filled=False)
VERIFIED = Mark("verified (measured)", style.BLUE, area=72)
UNVERIFIED = Mark("not verified yet", style.BLUE, area=64, filled=False)
COMPARED = Mark("compared", style.PINK, "square", area=300, filled=False)
CHOSEN = Mark("chosen", style.RED, area=300, filled=False)
OTHER_COLORS = (style.GREEN, "#6A3D9A", "#8C6D00", "#5F6B76")
# More of the points behind the front than this hide each other and only make a chart slow.
MOST_BEHIND = 500
HEIGHT = 480
# Name of the selection that a click on a point makes; its field is ``digest``.
CLICKED = "clicked"


@dataclass(frozen=True)
class Emphasis:
    """What a chart of a front shows besides the front.

    Args:
        chosen: Digest of the point that is ringed.
        compared: Digest of the point that is framed.
        budget: A limit of the front's cost, in its stored unit.
        behind: Whether the evaluated points behind the front are drawn.
        others: Fronts of other searches, by their names.
    """

    chosen: str | None = None
    compared: str | None = None
    budget: float | None = None
    behind: bool = False
    others: Sequence[tuple[str, Front]] = field(default_factory=tuple)


def draw_front(
    front: Front, x: Quantity, y: Quantity, emphasis: Emphasis | None = None
) -> alt.LayerChart:
    """Predicted and verified points of a front over two axes, joined by thin lines.

    A point that was clicked is in the selection :data:`CLICKED`. A prediction that lies outside
    what was found is drawn at the edge, so that one bad prediction does not squeeze the rest.

    Args:
        front: The front to draw.
        x: Horizontal axis, one of ``front.axes``.
        y: Vertical axis.
        emphasis: What to show besides.
    """
    drawing = _Drawing(front, x, y, emphasis or Emphasis())
    return alt.layer(
        *drawing.draw_others(),
        *drawing.draw_stairs(),
        *drawing.draw_joins(),
        *drawing.draw_intervals(),
        *drawing.draw_budget(),
        drawing.draw_points(),
    ).properties(height=HEIGHT)


class _Drawing:
    """One chart while it is made: what is drawn and the axes that all layers share."""

    def __init__(self, front: Front, x: Quantity, y: Quantity, emphasis: Emphasis) -> None:
        self.front, self.x, self.y, self.emphasis = front, x, y, emphasis
        points = _placed(front.points, x, y)
        self.members = _placed(front.list_front(), x, y)
        self.verified = [p for p in self.members if p.verified]
        self.others = [(name, _placed(other.list_front(), x, y)) for name, other in emphasis.others]
        hidden = [p for p in points if not p.on_front]
        close = [p for p in hidden if p.indistinguishable]
        far = [p for p in hidden if not p.indistinguishable] if emphasis.behind else []
        # In the order of the legend.
        self.groups: list[tuple[Mark, list[Row]]] = [
            (CHOSEN, self._rows(p for p in points if p.digest == emphasis.chosen)),
            (COMPARED, self._rows(p for p in points if p.digest == emphasis.compared)),
            (VERIFIED, self._rows(self.verified)),
            (UNVERIFIED, self._rows(p for p in self.members if not p.verified)),
            (PREDICTED, [row for p in self.verified for row in self._prediction(p)]),
            *(
                (Mark(name, _other_color(number), "triangle-up", area=50), self._rows(others))
                for number, (name, others) in enumerate(self.others)
            ),
            self._thin_out(CLOSE, close),
            self._thin_out(BEHIND, far),
        ]
        budgeted = emphasis.budget is not None and x.name == front.cost.name
        self.budget = (emphasis.budget or 0.0) * x.scale if budgeted else None
        self.horizontal, self.vertical = self._axes()

    def _thin_out(self, mark: Mark, points: Sequence[Point]) -> tuple[Mark, list[Row]]:
        """At most so many points behind the front, and those that matter; the legend says so."""
        if len(points) <= MOST_BEHIND:
            return mark, self._rows(points)
        # Evenly along the horizontal axis, so that the cloud keeps its shape.
        ordered = sorted(points, key=lambda p: (_shown(p, self.x), p.digest))
        kept = {number * len(ordered) // MOST_BEHIND for number in range(MOST_BEHIND)}
        named = (self.emphasis.chosen, self.emphasis.compared)
        drawn = [p for n, p in enumerate(ordered) if n in kept or p.verified or p.digest in named]
        name = f"{mark.name} ({len(drawn):,} of {len(ordered):,} drawn)"
        return replace(mark, name=name), self._rows(drawn)

    def _axes(self) -> tuple[Axis, Axis]:
        """Axes that reach over every point and interval, but not over the predictions."""
        rows = [row for mark, rows in self.groups if mark is not PREDICTED for row in rows]
        axes = []
        for axis, name in ((self.x, "across"), (self.y, "up")):
            values = [float(row[name] or 0.0) for row in rows]
            values += [end for p in self.members for end in _interval(p, axis) or ()]
            if axis is self.x and self.budget is not None:
                values.append(self.budget)
            axes.append(Axis(axis.axis_label, style.padded_domain(values), clamp=True))
        return axes[0], axes[1]

    # -- layers ------------------------------------------------------------------------------------

    def draw_points(self) -> alt.Chart:
        """Every point as a mark that can be pointed at and clicked."""
        groups = [(mark, rows) for mark, rows in self.groups if rows]
        # What is named last in the legend is drawn first, below everything else.
        rows = [{**row, "kind": mark.name} for mark, found in reversed(groups) for row in found]
        tooltip = [
            alt.Tooltip("digest:N", title="architecture"),
            alt.Tooltip("across_text:N", title=self.x.title),
            alt.Tooltip("up_text:N", title=self.y.title),
            alt.Tooltip("kind:N", title="mark"),
        ]
        click = alt.selection_point(name=CLICKED, fields=["digest"], on="click", toggle=False)
        return style.draw_marks(
            rows,
            [mark for mark, _ in groups],
            x=self.horizontal.across("across"),
            y=self.vertical.up("up"),
            tooltip=tooltip,
        ).add_params(click)

    def draw_intervals(self) -> list[alt.Chart]:
        """The 95 % intervals of verified front points, along both axes."""
        layers = []
        for axis in (self.x, self.y):
            rows = [
                {
                    "across": _shown(p, self.x),
                    "up": _shown(p, self.y),
                    "low": ends[0],
                    "high": ends[1],
                }
                for p in self.members
                if (ends := _interval(p, axis)) is not None
            ]
            if not rows:
                continue
            chart = alt.Chart(style.tabulate(rows)).mark_rule(
                color=style.SKY, strokeWidth=1.2, aria=False
            )
            layers.append(
                chart.encode(x=self.horizontal.across("low"), x2="high:Q", y=self.vertical.up("up"))
                if axis is self.x
                else chart.encode(
                    x=self.horizontal.across("across"), y=self.vertical.up("low"), y2="high:Q"
                )
            )
        return layers

    def draw_stairs(self) -> list[alt.Chart]:
        """The staircase of the verified front: what is reachable at each budget."""
        if self.x.maximize or self.y.name != self.front.quality.name:
            return []
        known = self.verified
        if len(known) < 2:
            return []
        return [
            alt.Chart(style.tabulate([self._row(p) for p in known]))
            .mark_line(
                color=style.SKY, strokeWidth=1.2, opacity=0.7, interpolate="step-after", aria=False
            )
            .encode(x=self.horizontal.across("across"), y=self.vertical.up("up"))
        ]

    def draw_joins(self) -> list[alt.Chart]:
        """A line from where each verified point was predicted to where it is."""
        rows = [
            {**row, "across_end": _shown(p, self.x), "up_end": _shown(p, self.y)}
            for p in self.verified
            for row in self._prediction(p)
        ]
        if not rows:
            return []
        return [
            alt.Chart(style.tabulate(rows))
            .mark_rule(color=style.AMBER, strokeWidth=1, opacity=0.8, aria=False)
            .encode(
                x=self.horizontal.across("across"),
                x2="across_end:Q",
                y=self.vertical.up("up"),
                y2="up_end:Q",
            )
        ]

    def draw_others(self) -> list[alt.Chart]:
        """A dotted line through each of the other fronts."""
        return [
            alt.Chart(style.tabulate([self._row(p) for p in others]))
            .mark_line(color=_other_color(number), strokeWidth=1.2, strokeDash=[2, 3], aria=False)
            .encode(x=self.horizontal.across("across"), y=self.vertical.up("up"))
            for number, (_, others) in enumerate(self.others)
            if others
        ]

    def draw_budget(self) -> list[alt.Chart]:
        """A dashed line at the budget, with its name."""
        if self.budget is None:
            return []
        base = alt.Chart(style.tabulate([{"across": self.budget, "label": "budget"}])).encode(
            x=self.horizontal.across("across")
        )
        return [
            base.mark_rule(color=style.RED, strokeWidth=1.2, strokeDash=[5, 4], aria=False),
            base.mark_text(
                color=style.RED, align="left", baseline="bottom", dx=5, dy=-5, fontSize=11
            ).encode(y=alt.value("height"), text="label:N"),
        ]

    # -- rows --------------------------------------------------------------------------------------

    def _rows(self, points: Iterable[Point]) -> list[Row]:
        return [self._row(point) for point in points]

    def _row(self, point: Point) -> Row:
        return {
            "digest": point.digest,
            "across": _shown(point, self.x),
            "up": _shown(point, self.y),
            "across_text": _describe(point, self.x),
            "up_text": _describe(point, self.y),
        }

    def _prediction(self, point: Point) -> list[Row]:
        """Where a point was predicted to be; exact values stand in where nothing is predicted."""
        across, up = point.estimate(self.x.name), point.estimate(self.y.name)
        first = across.value if across.predicted is None else across.predicted
        second = up.value if up.predicted is None else up.predicted
        nothing = across.predicted is None and up.predicted is None
        if nothing or first is None or second is None:
            return []
        return [
            {
                "digest": point.digest,
                "across": first * self.x.scale,
                "up": second * self.y.scale,
                "across_text": self.x.show(first),
                "up_text": self.y.show(second),
            }
        ]


def _other_color(number: int) -> str:
    return OTHER_COLORS[number % len(OTHER_COLORS)]


def _placed(points: Sequence[Point], x: Quantity, y: Quantity) -> list[Point]:
    """Those whose place on both axes is known, from left to right."""
    known = [p for p in points if p.best(x.name) is not None and p.best(y.name) is not None]
    return sorted(known, key=lambda p: _shown(p, x))


def _shown(point: Point, axis: Quantity) -> float:
    return (point.best(axis.name) or 0.0) * axis.scale


def _interval(point: Point, axis: Quantity) -> tuple[float, float] | None:
    """Ends of the interval around a verified value, in the unit of the axis."""
    estimate = point.estimate(axis.name)
    around = estimate.interval_around(estimate.value)
    if around is None or estimate.value is None or not point.verified:
        return None
    return (estimate.value - around[0]) * axis.scale, (estimate.value + around[1]) * axis.scale


def _describe(point: Point, axis: Quantity) -> str:
    estimate = point.estimate(axis.name)
    source = f" ({estimate.source})" if estimate.source else ""
    return f"{axis.show(estimate.best)}{source}"
