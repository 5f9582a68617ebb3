"""The front of a search as a chart: verified and predicted points, intervals, what lies behind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import altair as alt
import numpy as np
from numpy.typing import NDArray

from app.records.front import Front, Point
from app.records.quantities import Quantity
from app.reporting import chart_style as style
from app.reporting.chart_style import MOST_DRAWN, Axis, Mark, Row

BEHIND = Mark("evaluated, not on the front", style.GREY, area=26, opacity=0.6)
CLOSE = Mark("behind by less than noise", style.GREY, area=34, filled=False, opacity=0.8)
PREDICTED = Mark("predicted", style.AMBER, "diamond", area=64, filled=False)
VERIFIED = Mark("verified (measured)", style.BLUE, area=72)
UNVERIFIED = Mark("not verified yet", style.BLUE, area=64, filled=False)
COMPARED = Mark("compared", style.PINK, "square", area=300, filled=False)
CHOSEN = Mark("chosen", style.RED, area=300, filled=False)
OTHER_COLORS = (style.GREEN, "#6A3D9A", "#8C6D00", "#5F6B76")
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
        self.named = (emphasis.chosen, emphasis.compared)
        points = _list_placed(front, x, y)
        self.members = _list_placed(front, x, y, only=front.on_front)
        self.verified = [p for p in self.members if p.verified]
        self.others = [
            (name, _list_placed(other, x, y, only=other.on_front))
            for name, other in emphasis.others
        ]
        hidden = [p for p in points if not p.on_front]
        close = [p for p in hidden if p.indistinguishable]
        far = [p for p in hidden if not p.indistinguishable] if emphasis.behind else []
        # The rest of the verified ones is there as a line alone.
        verified, self.drawn = self._thin_out(VERIFIED, self.verified)
        thinned = [
            self._thin_out(UNVERIFIED, [p for p in self.members if not p.verified]),
            *(
                self._thin_out(Mark(name, _color_other(number), "triangle-up", area=50), others)
                for number, (name, others) in enumerate(self.others)
            ),
            self._thin_out(CLOSE, close),
            self._thin_out(BEHIND, far),
        ]
        (unverified, *rest) = [(mark, self._make_rows(found)) for mark, found in thinned]
        # In the order of the legend.
        self.groups: list[tuple[Mark, list[Row]]] = [
            (CHOSEN, self._make_rows(p for p in points if p.digest == emphasis.chosen)),
            (COMPARED, self._make_rows(p for p in points if p.digest == emphasis.compared)),
            (verified, self._make_rows(self.drawn)),
            unverified,
            (PREDICTED, [row for p in self.drawn for row in self._make_prediction(p)]),
            *rest,
        ]
        budgeted = emphasis.budget is not None and x.name == front.cost.name
        self.budget = (emphasis.budget or 0.0) * x.scale if budgeted else None
        self.horizontal, self.vertical = self._make_axes()

    def _thin_out(self, mark: Mark, points: list[Point]) -> tuple[Mark, list[Point]]:
        """At most so many points of one kind, and those that matter; the legend says so."""
        if len(points) <= MOST_DRAWN:
            return mark, points
        # Evenly along the horizontal axis, so that the cloud keeps its shape.
        kept = set(style.spread_evenly(range(len(points))))
        few = sum(p.verified for p in points) <= MOST_DRAWN
        drawn = [
            point
            for number, point in enumerate(points)
            if number in kept or point.digest in self.named or (few and point.verified)
        ]
        name = f"{mark.name} ({len(drawn):,} of {len(points):,} drawn)"
        return replace(mark, name=name), drawn

    def _make_axes(self) -> tuple[Axis, Axis]:
        """Axes that reach over every point and interval, but not over the predictions."""
        rows = [row for mark, rows in self.groups if mark is not PREDICTED for row in rows]
        axes = []
        for axis, name in ((self.x, "across"), (self.y, "up")):
            values = [float(row[name] or 0.0) for row in rows]
            values += [_locate(p, axis) for p in self.members]
            values += [end for p in self.drawn for end in _find_ends(p, axis) or ()]
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
            style.describe_in_tooltip("across_text", self.x.title),
            style.describe_in_tooltip("up_text", self.y.title),
            alt.Tooltip("kind:N", title="mark"),
        ]
        click = alt.selection_point(name=CLICKED, fields=["digest"], on="click", toggle=False)
        return style.draw_marks(
            rows,
            [mark for mark, _ in groups],
            x=self.horizontal.place_across("across"),
            y=self.vertical.place_up("up"),
            tooltip=tooltip,
        ).add_params(click)

    def draw_intervals(self) -> list[alt.Chart]:
        """The 95 % intervals of verified front points, along both axes."""
        layers = []
        for axis in (self.x, self.y):
            rows = [
                {
                    "across": _locate(p, self.x),
                    "up": _locate(p, self.y),
                    "low": ends[0],
                    "high": ends[1],
                }
                for p in self.drawn
                if (ends := _find_ends(p, axis)) is not None
            ]
            if not rows:
                continue
            chart = alt.Chart(style.tabulate(rows)).mark_rule(
                color=style.SKY, strokeWidth=1.2, aria=False
            )
            layers.append(
                chart.encode(
                    x=self.horizontal.place_across("low"),
                    x2="high:Q",
                    y=self.vertical.place_up("up"),
                )
                if axis is self.x
                else chart.encode(
                    x=self.horizontal.place_across("across"),
                    y=self.vertical.place_up("low"),
                    y2="high:Q",
                )
            )
        return layers

    def draw_stairs(self) -> list[alt.Chart]:
        """The staircase of the verified front: what is reachable at each budget."""
        if self.x.maximize or self.y.name != self.front.quality.name:
            return []
        if len(self.verified) < 2:
            return []
        return [
            alt.Chart(style.tabulate(self._make_places(self.verified)))
            .mark_line(
                color=style.SKY, strokeWidth=1.2, opacity=0.7, interpolate="step-after", aria=False
            )
            .encode(x=self.horizontal.place_across("across"), y=self.vertical.place_up("up"))
        ]

    def draw_joins(self) -> list[alt.Chart]:
        """A line from where each verified point was predicted to where it is."""
        rows = [
            {**row, "across_end": _locate(p, self.x), "up_end": _locate(p, self.y)}
            for p in self.drawn
            for row in self._make_prediction(p)
        ]
        if not rows:
            return []
        return [
            alt.Chart(style.tabulate(rows))
            .mark_rule(color=style.AMBER, strokeWidth=1, opacity=0.8, aria=False)
            .encode(
                x=self.horizontal.place_across("across"),
                x2="across_end:Q",
                y=self.vertical.place_up("up"),
                y2="up_end:Q",
            )
        ]

    def draw_others(self) -> list[alt.Chart]:
        """A dotted line through each of the other fronts."""
        return [
            alt.Chart(style.tabulate(self._make_places(others)))
            .mark_line(color=_color_other(number), strokeWidth=1.2, strokeDash=[2, 3], aria=False)
            .encode(x=self.horizontal.place_across("across"), y=self.vertical.place_up("up"))
            for number, (_, others) in enumerate(self.others)
            if others
        ]

    def draw_budget(self) -> list[alt.Chart]:
        """A dashed line at the budget, with its name."""
        if self.budget is None:
            return []
        base = alt.Chart(style.tabulate([{"across": self.budget, "label": "budget"}])).encode(
            x=self.horizontal.place_across("across")
        )
        return [
            base.mark_rule(color=style.RED, strokeWidth=1.2, strokeDash=[5, 4], aria=False),
            base.mark_text(
                color=style.RED, align="left", baseline="bottom", dx=5, dy=-5, fontSize=11
            ).encode(y=alt.value("height"), text="label:N"),
        ]

    # -- rows --------------------------------------------------------------------------------------

    def _make_rows(self, points: Iterable[Point]) -> list[Row]:
        return [self._make_row(point) for point in points]

    def _make_places(self, points: Iterable[Point]) -> list[Row]:
        return [{"across": _locate(p, self.x), "up": _locate(p, self.y)} for p in points]

    def _make_row(self, point: Point) -> Row:
        return {
            "digest": point.digest,
            "across": _locate(point, self.x),
            "up": _locate(point, self.y),
            "across_text": _describe(point, self.x),
            "up_text": _describe(point, self.y),
        }

    def _make_prediction(self, point: Point) -> list[Row]:
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


def _color_other(number: int) -> str:
    return OTHER_COLORS[number % len(OTHER_COLORS)]


def _list_placed(
    front: Front, x: Quantity, y: Quantity, *, only: NDArray[np.bool_] | None = None
) -> list[Point]:
    """Those whose place on both axes is known, from left to right, the cheaper of equals first."""
    across, up = front.column(x.name).best, front.column(y.name).best
    known = ~np.isnan(across) & ~np.isnan(up)
    places = np.flatnonzero(known if only is None else known & only)
    order = np.lexsort((front.column(front.cost.name).best[places], across[places]))
    return [front.points[i] for i in places[order]]


def _locate(point: Point, axis: Quantity) -> float:
    return (point.best(axis.name) or 0.0) * axis.scale


def _find_ends(point: Point, axis: Quantity) -> tuple[float, float] | None:
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
