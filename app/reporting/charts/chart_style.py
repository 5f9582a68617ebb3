"""What all charts share: colours, data, axes, legends and the look of a printed picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import altair as alt
import pandas as pd

from app.reporting.charts.palette import AMBER as AMBER
from app.reporting.charts.palette import BLUE as BLUE
from app.reporting.charts.palette import GREEN as GREEN
from app.reporting.charts.palette import GREY as GREY
from app.reporting.charts.palette import PINK as PINK
from app.reporting.charts.palette import RED as RED
from app.reporting.charts.palette import SKY as SKY

# For text that stands in a chart: readable on a light and on a dark page.
MUTED = "#7a828a"
# Light to dark: readable without colour vision and in print.
SHADES = ("#dbe9f6", "#6aaed6", "#08468b")

TICKS = 6
# More points of one kind than this hide each other and only make a chart slow.
MOST_DRAWN = 500
# What these are titles of, Vega's tooltips show as a heading and as a picture to be loaded.
_TOOLTIP_KEYS = ("title", "image")
Row = Mapping[str, str | float | None]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Mark:
    """How one kind of point is drawn and named in the legend.

    Args:
        name: What the legend says.
        color: Colour of fill and outline.
        shape: One of Vega's named shapes.
        area: Area in square pixels.
        filled: Or only outlined.
        opacity: Opacity of the whole mark.
    """

    name: str
    color: str
    shape: str = "circle"
    area: int = 60
    filled: bool = True
    opacity: float = 1.0


def draw_marks(
    rows: Sequence[Row],
    marks: Sequence[Mark],
    *,
    x: alt.X,
    y: alt.Y,
    tooltip: Sequence[alt.Tooltip],
) -> alt.Chart:
    """Points of several kinds with one legend for all that makes them different.

    Args:
        rows: What to draw, in this order; ``kind`` is the name of a mark, and a ``digest`` is
            what screen readers say.
        marks: The kinds among ``rows``, in the order of the legend.
        x: The horizontal position.
        y: The vertical position.
        tooltip: What is shown under the pointer.
    """
    names = [mark.name for mark in marks]
    # Two lines of entries at most: the legend has to fit beside a column of the explorer.
    columns = len(names) if len(names) <= 3 else (len(names) + 1) // 2
    # A name says, too, how many of its points are drawn.
    legend = alt.Legend(
        orient="top", title=None, columns=columns, symbolStrokeWidth=1.5, labelLimit=280
    )

    def scale(values: Sequence[str | float]) -> alt.Scale:
        return alt.Scale(type="ordinal", domain=names, range=list(values))

    fills = scale([mark.color if mark.filled else "transparent" for mark in marks])
    colors = scale([mark.color for mark in marks])
    shapes = scale([mark.shape for mark in marks])
    areas = scale([mark.area for mark in marks])
    opacities = scale([mark.opacity for mark in marks])
    return (
        alt.Chart(tabulate(rows))
        .mark_point(strokeWidth=1.5, opacity=1)
        .encode(
            x=x,
            y=y,
            fill=alt.Fill("kind:N", sort=names, scale=fills, legend=legend),
            stroke=alt.Stroke("kind:N", sort=names, scale=colors, legend=legend),
            shape=alt.Shape("kind:N", sort=names, scale=shapes, legend=legend),
            size=alt.Size("kind:N", sort=names, scale=areas, legend=legend),
            opacity=alt.Opacity("kind:N", sort=names, scale=opacities, legend=legend),
            tooltip=list(tooltip),
            description=alt.Description("digest:N"),
        )
    )


def tabulate(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as the data of a chart; Altair wants a table."""
    return pd.DataFrame(list(rows))


def spread_evenly(items: Sequence[Item], most: int = MOST_DRAWN) -> list[Item]:
    """At most so many of a sequence, evenly spread over it; the first one is always among them."""
    if len(items) <= most:
        return list(items)
    return [items[number * len(items) // most] for number in range(most)]


def describe_in_tooltip(field: str, title: str) -> alt.Tooltip:
    """A line of a tooltip, whose title may be a name out of a file."""
    return alt.Tooltip(f"{field}:N", title=f"{title} " if title in _TOOLTIP_KEYS else title)


@dataclass(frozen=True)
class Axis:
    """An axis that the layers of a chart share.

    Args:
        title: Title with the unit.
        domain: What it reaches over; from the data without one.
        zero: Whether it includes 0 where it has no domain.
        clamp: Whether values outside the domain are drawn at its edge.
    """

    title: str
    domain: tuple[float, float] | None = None
    zero: bool = False
    clamp: bool = False

    def place_across(self, field: str) -> alt.X:
        """The horizontal axis, for a layer that places ``field`` on it; without a grid."""
        axis = alt.Axis(title=self.title, tickCount=TICKS, grid=False)
        return alt.X(f"{field}:Q", scale=self._scale(), axis=axis)

    def place_up(self, field: str) -> alt.Y:
        """The vertical axis, for a layer that places ``field`` on it."""
        axis = alt.Axis(title=self.title, tickCount=TICKS)
        return alt.Y(f"{field}:Q", scale=self._scale(), axis=axis)

    def _scale(self) -> alt.Scale:
        if self.domain is None:
            return alt.Scale(zero=self.zero)
        return alt.Scale(domain=list(self.domain), nice=False, zero=False, clamp=self.clamp)


def padded_domain(values: Sequence[float], share: float = 0.05) -> tuple[float, float]:
    """From the least to the largest value with some room at both ends; (0, 1) for no values."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    edge = share * (high - low or abs(high) or 1.0)
    return low - edge, high + edge


def draw_diagonal(ends: tuple[float, float], x: Axis, y: Axis) -> alt.Chart:
    """A dashed line from ``(ends[0], ends[0])`` to ``(ends[1], ends[1])``: where both are equal."""
    return (
        alt.Chart(tabulate([{"low": ends[0], "high": ends[1]}]))
        .mark_rule(color=AMBER, strokeWidth=1.5, strokeDash=[5, 4], aria=False)
        .encode(
            x=x.place_across("low"), x2=alt.X2("high:Q"), y=y.place_up("low"), y2=alt.Y2("high:Q")
        )
    )
