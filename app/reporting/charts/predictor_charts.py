"""How far a predictor is off, and how often its intervals hold, as charts."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np

from app.analysis.coverage import Coverage, Part, Predicted
from app.records.numbers import format_items, format_percent
from app.records.quantities import Quantity
from app.records.searches.front import Front
from app.reporting.charts import chart_style as style
from app.reporting.charts.chart_style import Axis, Row


def draw_predictions(front: Front, axis: Quantity, found: Predicted) -> alt.LayerChart:
    """Evaluated against predicted values, with the interval of each prediction.

    Args:
        front: Whose points they are.
        axis: The quantity.
        found: Predictions and values; at least one.
    """
    scale = axis.scale
    ends = style.padded_domain((scale * np.concatenate([found.mean, found.value])).tolist())
    rows = [
        {
            **_name_point(front, axis, found, i),
            "x": scale * float(found.mean[i]),
            "y": scale * float(found.value[i]),
            "low": _bound(scale * float(found.low[i]), ends),
            "high": _bound(scale * float(found.high[i]), ends),
        }
        for i in _spread(found)
    ]
    x, y = (Axis(f"{kind} {axis.axis_label}", ends) for kind in ("predicted", "evaluated"))
    base = alt.Chart(style.tabulate(rows))
    intervals = base.mark_rule(color=style.GREY, opacity=0.3, aria=False).encode(
        x=x.place_across("low"), x2=alt.X2("high:Q"), y=y.place_up("y")
    )
    marks = base.mark_circle(color=style.BLUE, size=40, opacity=0.75).encode(
        x=x.place_across("x"),
        y=y.place_up("y"),
        tooltip=_TOOLTIP,
        description=alt.Description("digest:N"),
    )
    return _count_drawn(
        alt.layer(intervals, style.draw_diagonal(ends, x, y), marks).properties(height=300),
        len(rows),
        len(found.mean),
    )


def draw_residuals(
    front: Front, axis: Quantity, found: Predicted, parts: Sequence[Part]
) -> alt.LayerChart:
    """What is left of each value when its prediction is taken away, against the prediction.

    Args:
        front: Whose points they are.
        axis: The quantity.
        found: Predictions and values; at least one.
        parts: Medians along the predictions, drawn as a line; may be empty.
    """
    scale = axis.scale
    unit = "points" if axis.unit == "fraction" else axis.shown_unit
    left = scale * found.residuals
    rows = [
        {
            **_name_point(front, axis, found, i),
            "x": scale * float(found.mean[i]),
            "y": float(left[i]),
        }
        for i in _spread(found)
    ]
    x = Axis(f"predicted {axis.axis_label}", style.padded_domain((scale * found.mean).tolist()))
    title = "evaluated less predicted"
    y = Axis(f"{title} ({unit})" if unit else title, style.padded_domain([*left.tolist(), 0.0]))
    marks = (
        alt.Chart(style.tabulate(rows))
        .mark_circle(color=style.BLUE, size=40, opacity=0.6)
        .encode(
            x=x.place_across("x"),
            y=y.place_up("y"),
            tooltip=_TOOLTIP,
            description=alt.Description("digest:N"),
        )
    )
    level = (
        alt.Chart(style.tabulate([{"y": 0.0}]))
        .mark_rule(color=style.AMBER, strokeWidth=1.5, strokeDash=[5, 4], aria=False)
        .encode(y=y.place_up("y"))
    )
    layers = [level, marks]
    if parts:
        medians: list[Row] = [
            {"x": scale * part.mean, "y": scale * part.residual} for part in parts
        ]
        line = (
            alt.Chart(style.tabulate(medians))
            .mark_line(color=style.RED, strokeWidth=2, aria=False)
            .encode(x=x.place_across("x"), y=y.place_up("y"))
        )
        layers.append(line)
    return _count_drawn(alt.layer(*layers).properties(height=300), len(rows), len(found.mean))


def draw_coverage(judged: Sequence[Coverage]) -> alt.LayerChart:
    """The share of values inside intervals against the share that is wanted.

    Args:
        judged: At least one.
    """
    rows: list[Row] = [
        {
            "wanted": 100 * one.wanted,
            "share": 100 * one.share,
            "low": 100 * one.low,
            "high": 100 * one.high,
            "wanted_text": format_percent(one.wanted, 0),
            "share_text": format_percent(one.share),
            "interval": f"{format_percent(one.low)} to {format_percent(one.high)}",
            "values": format_items(one.values, "network"),
        }
        for one in judged
    ]
    least = min(min(float(row["low"] or 0.0), float(row["wanted"] or 0.0)) for row in rows)
    ends = (max(least - 5, 0.0), 101.0)
    x, y = Axis("share that is wanted (%)", ends), Axis("share inside (%)", ends)
    base = alt.Chart(style.tabulate(rows)).encode(x=x.place_across("wanted"))
    bars = base.mark_rule(color=style.GREY, strokeWidth=1.5, aria=False).encode(
        y=y.place_up("low"), y2=alt.Y2("high:Q")
    )
    marks = base.mark_circle(color=style.BLUE, size=70, opacity=1).encode(
        y=y.place_up("share"),
        tooltip=[
            alt.Tooltip("wanted_text:N", title="wanted"),
            alt.Tooltip("share_text:N", title="inside"),
            alt.Tooltip("interval:N", title="95 % interval"),
            alt.Tooltip("values:N", title="over"),
        ],
    )
    return alt.layer(style.draw_diagonal(ends, x, y), bars, marks).properties(height=300)


_TOOLTIP = [
    alt.Tooltip("digest:N", title="architecture"),
    alt.Tooltip("predicted:N"),
    alt.Tooltip("evaluated:N"),
    alt.Tooltip("difference:N", title="off by"),
]


def _name_point(front: Front, axis: Quantity, found: Predicted, place: int) -> Row:
    value, mean = float(found.value[place]), float(found.mean[place])
    return {
        "digest": str(front.digests[found.places[place]]),
        "predicted": axis.show(mean),
        "evaluated": axis.show(value),
        "difference": axis.show_difference(value, mean),
    }


def _spread(found: Predicted) -> list[int]:
    order = np.argsort(found.mean, kind="stable").tolist()
    return style.spread_evenly(order)


def _bound(value: float, ends: tuple[float, float]) -> float | None:
    return None if np.isnan(value) else min(max(value, ends[0]), ends[1])


def _count_drawn(chart: alt.LayerChart, drawn: int, total: int) -> alt.LayerChart:
    if drawn == total:
        return chart
    return chart.properties(title=f"{drawn:,} of {total:,} points drawn")
