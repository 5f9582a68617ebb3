"""The front of a search as a chart: verified and predicted points, intervals, what lies behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import altair as alt
import numpy as np
from numpy.typing import NDArray

from app.records.quantities import Quantity
from app.records.searches.front import Front, Point
from app.reporting.charts import chart_style as style
from app.reporting.charts import palette
from app.reporting.charts.chart_style import MOST_DRAWN, Axis, Mark, Row

BEHIND = Mark("evaluated, not on the front", style.GREY, area=26, opacity=0.6)
CLOSE = Mark("behind by less than noise", style.GREY, area=34, filled=False, opacity=0.8)
PREDICTED = Mark("predicted", style.AMBER, "diamond", area=64, filled=False)
VERIFIED = Mark("verified (measured)", style.BLUE, area=72)
UNVERIFIED = Mark("not verified yet", style.BLUE, area=64, filled=False)
COMPARED = Mark("compared", style.PINK, "square", area=300, filled=False)
CHOSEN = Mark("chosen", style.RED, area=300, filled=False)
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
        every = _Places(front, x, y)
        on_front, close = front.on_front, front.indistinguishable
        self.members = every.only(on_front)
        self.verified = self.members.only(front.verified)
        self.others = [
            (name, _Places(other, x, y).only(other.on_front)) for name, other in emphasis.others
        ]
        # The rest of the verified ones is there as a line alone.
        verified, self.drawn = self._thin_out(VERIFIED, self.verified)
        thinned = [
            self._thin_out(UNVERIFIED, self.members.only(~front.verified)),
            *(
                self._thin_out(Mark(name, _color_other(number), "triangle-up", area=50), others)
                for number, (name, others) in enumerate(self.others)
            ),
            self._thin_out(CLOSE, every.only(~on_front & close)),
            self._thin_out(BEHIND, every.only(~on_front & ~close & emphasis.behind)),
        ]
        (unverified, *rest) = [(mark, found.make_rows()) for mark, found in thinned]
        # In the order of the legend.
        self.groups: list[tuple[Mark, list[Row]]] = [
            (CHOSEN, every.find(emphasis.chosen).make_rows()),
            (COMPARED, every.find(emphasis.compared).make_rows()),
            (verified, self.drawn.make_rows()),
            unverified,
            (PREDICTED, [row for row, _ in self.drawn.make_predictions()]),
            *rest,
        ]
        budgeted = emphasis.budget is not None and x.name == front.cost.name
        self.budget = (emphasis.budget or 0.0) * x.scale if budgeted else None
        self.horizontal, self.vertical = self._make_axes()

    def _thin_out(self, mark: Mark, found: _Places) -> tuple[Mark, _Places]:
        """At most so many points of one kind, and those that matter; the legend says so."""
        count = len(found.places)
        if count <= MOST_DRAWN:
            return mark, found
        # Evenly along the horizontal axis, so that the cloud keeps its shape.
        kept = np.zeros(len(found.front.points), dtype=np.bool_)
        kept[found.places[style.spread_evenly(range(count))]] = True
        if found.only(found.front.verified).places.size <= MOST_DRAWN:
            kept |= found.front.verified
        for digest in (self.emphasis.chosen, self.emphasis.compared):
            kept[found.find(digest).places] = True
        drawn = found.only(kept)
        name = f"{mark.name} ({len(drawn.places):,} of {count:,} drawn)"
        return replace(mark, name=name), drawn

    def _make_axes(self) -> tuple[Axis, Axis]:
        """Axes that reach over every point and interval, but not over the predictions."""
        rows = [row for mark, rows in self.groups if mark is not PREDICTED for row in rows]
        axes = []
        for axis, name in ((self.x, "across"), (self.y, "up")):
            values = [float(row[name] or 0.0) for row in rows]
            for found in (self.members.locate(axis), *self.drawn.find_ends(axis)):
                values += [float(found.min()), float(found.max())] if len(found) else []
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
            rows = self.drawn.make_intervals(axis)
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
        if len(self.verified.places) < 2:
            return []
        return [
            alt.Chart(style.tabulate(self.verified.make_places()))
            .mark_line(
                color=style.SKY, strokeWidth=1.2, opacity=0.7, interpolate="step-after", aria=False
            )
            .encode(x=self.horizontal.place_across("across"), y=self.vertical.place_up("up"))
        ]

    def draw_joins(self) -> list[alt.Chart]:
        """A line from where each verified point was predicted to where it is."""
        rows = [
            {**row, "across_end": place["across"], "up_end": place["up"]}
            for row, place in self.drawn.make_predictions()
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
            alt.Chart(style.tabulate(others.make_places()))
            .mark_line(color=_color_other(number), strokeWidth=1.2, strokeDash=[2, 3], aria=False)
            .encode(x=self.horizontal.place_across("across"), y=self.vertical.place_up("up"))
            for number, (_, others) in enumerate(self.others)
            if len(others.places)
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


@dataclass(frozen=True, eq=False)
class _Places:
    """Points of a front whose place on both axes is known, from left to right."""

    front: Front
    x: Quantity
    y: Quantity
    found: NDArray[np.intp] | None = None

    @cached_property
    def places(self) -> NDArray[np.intp]:
        """Where they are among the points of the front, ``(k,)``; the cheaper of equals first."""
        if self.found is not None:
            return self.found
        across, up = (self.front.column(axis.name).best for axis in (self.x, self.y))
        known = np.flatnonzero(~np.isnan(across) & ~np.isnan(up))
        costs = self.front.column(self.front.cost.name).best
        return known[np.lexsort((costs[known], across[known]))]

    def only(self, wanted: NDArray[np.bool_]) -> _Places:
        """Those that are ``wanted``, ``(n,)`` over all points of the front."""
        return replace(self, found=self.places[wanted[self.places]])

    def find(self, digest: str | None) -> _Places:
        """The one of that digest, if it is among them."""
        there = [i for i in self.front.find_places(digest) if i in self.places]
        return replace(self, found=np.array(there, dtype=np.intp))

    def locate(self, axis: Quantity) -> NDArray[np.float64]:
        """Where they are on an axis, ``(k,)``, in its unit."""
        return self.front.column(axis.name).best[self.places] * axis.scale

    def find_ends(self, axis: Quantity) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper ends of the intervals of verified points; of some of the points."""
        low, high, known = self._find_intervals(axis)
        return low[known], high[known]

    def _find_intervals(
        self, axis: Quantity
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Ends of each interval and whether there is one that contains the point, ``(k,)``."""
        column = self.front.column(axis.name)
        low, best, high = (c[self.places] for c in (column.low, column.best, column.high))
        known = (low <= best) & (best <= high) & self.front.verified[self.places]
        return low * axis.scale, high * axis.scale, known

    def make_places(self) -> list[Row]:
        """Their places alone."""
        pairs = zip(self.locate(self.x).tolist(), self.locate(self.y).tolist(), strict=True)
        return [{"across": across, "up": up} for across, up in pairs]

    def make_rows(self) -> list[Row]:
        """Their places, with what is said of them."""
        points = (self.front.points[i] for i in self.places)
        return [
            {
                "digest": point.digest,
                **place,
                "across_text": _describe(point, self.x),
                "up_text": _describe(point, self.y),
            }
            for point, place in zip(points, self.make_places(), strict=True)
        ]

    def make_intervals(self, axis: Quantity) -> list[Row]:
        """The intervals along one axis, at their places."""
        low, high, known = self._find_intervals(axis)
        return [
            {**place, "low": float(low[k]), "high": float(high[k])}
            for k, place in enumerate(self.make_places())
            if known[k]
        ]

    def make_predictions(self) -> list[tuple[Row, Row]]:
        """Where points were predicted to be, and where they are; exact values stand in where
        nothing is predicted."""
        columns = [self.front.column(axis.name) for axis in (self.x, self.y)]
        predicted = [c.predicted[self.places] for c in columns]
        across, up = (
            np.where(np.isnan(p), c.value[self.places], p)
            for c, p in zip(columns, predicted, strict=True)
        )
        nothing = np.isnan(predicted[0]) & np.isnan(predicted[1])
        known = ~nothing & ~np.isnan(across) & ~np.isnan(up)
        places = self.make_places()
        return [
            (
                {
                    "digest": self.front.points[self.places[k]].digest,
                    "across": float(across[k]) * self.x.scale,
                    "up": float(up[k]) * self.y.scale,
                    "across_text": self.x.show(float(across[k])),
                    "up_text": self.y.show(float(up[k])),
                },
                places[k],
            )
            for k in np.flatnonzero(known)
        ]


def _color_other(number: int) -> str:
    return palette.OTHERS[number % len(palette.OTHERS)]


def _describe(point: Point, axis: Quantity) -> str:
    estimate = point.estimate(axis.name)
    source = f" ({estimate.source})" if estimate.source else ""
    return f"{axis.show(estimate.best)}{source}"
