"""The fronts of several searches in one chart."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np

from app.records.quantities import Quantity
from app.records.searches.front import Front
from app.reporting.charts import chart_style as style
from app.reporting.charts.chart_style import Axis, Row

_COLORS = (
    *(style.BLUE, style.RED, style.GREEN, style.PINK, style.AMBER, style.SKY),
    *("#7B4EA3", "#5F6B76"),
)
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
MOST_FRONTS = len(_COLORS)
_MOST_MARKS = 200


def draw_fronts(fronts: Sequence[tuple[str, Front]], x: Quantity, y: Quantity) -> alt.LayerChart:
    """The front of each search as marks and, where it is one, the staircase through them.

    Args:
        fronts: By what the legend calls them; at most :data:`MOST_FRONTS`.
        x: The horizontal quantity.
        y: The vertical one.
    """
    rows = [row for label, front in fronts for row in _list_members(label, front, x, y)]
    labels = [label for label, _ in fronts]
    across = Axis(x.axis_label, style.padded_domain([float(row["x"] or 0.0) for row in rows]))
    up = Axis(y.axis_label, style.padded_domain([float(row["y"] or 0.0) for row in rows]))
    legend = alt.Legend(orient="top", title=None, columns=1, labelLimit=320, symbolOpacity=1)
    colors = alt.Scale(domain=labels, range=list(_COLORS[: len(labels)]))
    shapes = alt.Scale(domain=labels, range=[_SHAPES[i % len(_SHAPES)] for i in range(len(labels))])
    base = alt.Chart(style.tabulate(rows)).encode(
        x=across.place_across("x"),
        y=up.place_up("y"),
        color=alt.Color("search:N", scale=colors, legend=legend, sort=labels),
    )
    marks = base.mark_point(filled=True, size=50, opacity=0.9).encode(
        shape=alt.Shape("search:N", scale=shapes, legend=legend, sort=labels),
        tooltip=[
            alt.Tooltip("search:N"),
            alt.Tooltip("digest:N", title="architecture"),
            style.describe_in_tooltip("x_text", x.title),
            style.describe_in_tooltip("y_text", y.title),
        ],
        description=alt.Description("digest:N"),
    )
    # What more of a cost buys is a staircase; two qualities or two costs have none.
    interpolate = "step-after" if y.maximize and not x.maximize else "linear"
    lines = base.mark_line(interpolate=interpolate, strokeWidth=1.5, opacity=0.6, aria=False)
    return alt.layer(lines, marks).properties(height=380)


def _list_members(label: str, front: Front, x: Quantity, y: Quantity) -> list[Row]:
    across, up = front.column(x.name).best, front.column(y.name).best
    places = np.flatnonzero(front.on_front & ~np.isnan(across) & ~np.isnan(up))
    places = places[np.argsort(across[places], kind="stable")]
    return [
        {
            "search": label,
            "digest": str(front.digests[i]),
            "x": float(across[i]) * x.scale,
            "y": float(up[i]) * y.scale,
            "x_text": x.show(float(across[i])),
            "y_text": y.show(float(up[i])),
        }
        for i in style.spread_evenly(places.tolist(), _MOST_MARKS)
    ]
