"""How a search went, as charts: hypervolume, predictions against reality, learning curve."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np

from app.records.quantities import Quantity
from app.records.searches.front import Front
from app.records.searches.trace import Hypervolume
from app.reporting.charts import chart_style as style
from app.reporting.charts.chart_style import Axis, Row

THIS_SEARCH, RANDOM_SEARCH = "this search", "random search"
# The rank correlation from which on a predictor's ranking can be relied on.
AIM = 0.9
# More steps of a staircase than this are narrower than a pixel or two.
MOST_STEPS = 250


def draw_hypervolume(trace: Sequence[Hypervolume]) -> alt.LayerChart:
    """Hypervolume of the front after so many evaluations, random search dashed beside it.

    Args:
        trace: May be empty, and one of the two may be shorter than the other.
    """
    ours = _list_steps(THIS_SEARCH, [(row.evaluations, row.value) for row in trace])
    beside = _list_steps(RANDOM_SEARCH, [(row.evaluations, row.baseline) for row in trace])
    # One line alone needs no legend: the axis names it.
    legend = alt.Legend(
        orient="top", title=None, symbolType="stroke", symbolStrokeWidth=2, symbolSize=500
    )
    shown_legend = legend if ours and beside else None
    last = max((row.evaluations for row in trace), default=1)
    top = max((float(row["hypervolume"] or 0.0) for row in (*ours, *beside)), default=1.0)
    colors = alt.Scale(domain=[THIS_SEARCH, RANDOM_SEARCH], range=[style.BLUE, style.GREY])
    base = alt.Chart(style.tabulate([*ours, *beside])).encode(
        x=Axis("evaluated architectures", (0, last)).place_across("evaluations"),
        y=Axis("hypervolume", (0, 1.05 * (top or 1.0))).place_up("hypervolume"),
        color=alt.Color("kind:N", scale=colors, legend=shown_legend),
    )
    dashes = alt.Scale(domain=[THIS_SEARCH, RANDOM_SEARCH], range=[[1, 0], [5, 4]])
    lines = base.mark_line(interpolate="step-after", strokeWidth=2).encode(
        strokeDash=alt.StrokeDash("kind:N", scale=dashes, legend=shown_legend)
    )
    marks = base.transform_filter("datum.improved").mark_circle(size=26, opacity=1, aria=False)
    tooltip = [
        alt.Tooltip("kind:N", title="trace"),
        alt.Tooltip("evaluations:Q", format=","),
        alt.Tooltip("hypervolume:Q", format=".4~g"),
    ]
    return alt.layer(lines, marks.encode(tooltip=tooltip)).properties(height=320)


def _list_steps(kind: str, trace: Sequence[tuple[int, float | None]]) -> list[Row]:
    """A staircase of limited length without the rows that change nothing."""
    known = [(number, value) for number, value in trace if value is not None]
    rows: list[Row] = []
    for place, (number, value) in enumerate(known):
        improved = not rows or value != rows[-1]["hypervolume"]
        if improved or place == len(known) - 1:
            rows.append(
                {"kind": kind, "evaluations": number, "hypervolume": value, "improved": improved}
            )
    # The last step is where the search ended; the one before it may be any.
    return rows if len(rows) <= MOST_STEPS else [*style.spread_evenly(rows, MOST_STEPS), rows[-1]]


def draw_parity(front: Front, axis: Quantity) -> alt.LayerChart | None:
    """Predicted against evaluated values of one quantity; ``None`` when fewer than two."""
    column = front.column(axis.name)
    predicted, evaluated = column.predicted * axis.scale, column.value * axis.scale
    places = np.flatnonzero(~np.isnan(predicted) & ~np.isnan(evaluated))
    if len(places) < 2:
        return None
    ends = style.padded_domain(np.concatenate([predicted[places], evaluated[places]]).tolist())
    rows: list[Row] = [
        {
            "digest": front.points[i].digest,
            "x": float(predicted[i]),
            "y": float(evaluated[i]),
            "predicted": axis.show(float(column.predicted[i])),
            "evaluated": axis.show(float(column.value[i])),
        }
        for i in style.spread_evenly(places[np.argsort(predicted[places], kind="stable")].tolist())
    ]
    x, y = (Axis(f"{kind} {axis.axis_label}", ends) for kind in ("predicted", "evaluated"))
    marks = (
        alt.Chart(style.tabulate(rows))
        .mark_circle(color=style.BLUE, size=46, opacity=0.75)
        .encode(
            x=x.place_across("x"),
            y=y.place_up("y"),
            tooltip=[
                alt.Tooltip("digest:N", title="architecture"),
                alt.Tooltip("predicted:N"),
                alt.Tooltip("evaluated:N"),
            ],
            description=alt.Description("digest:N"),
        )
    )
    chart = alt.layer(style.draw_diagonal(ends, x, y), marks).properties(height=320)
    if len(rows) == len(places):
        return chart
    return chart.properties(title=f"{len(rows):,} of {len(places):,} points drawn")


def draw_learning_curve(curve: Sequence[tuple[int, float | None]]) -> alt.LayerChart:
    """How well a predictor ranks held-out architectures after so many evaluations.

    Args:
        curve: ``(evaluations, tau)`` pairs.
    """
    rows: list[Row] = [{"evaluations": number, "tau": tau} for number, tau in curve]
    vertical = Axis("Kendall tau, held out")
    lines = (
        alt.Chart(style.tabulate(rows))
        .mark_line(
            color=style.BLUE, strokeWidth=2, point=alt.OverlayMarkDef(size=46, color=style.BLUE)
        )
        .encode(
            x=Axis("evaluations fitted on").place_across("evaluations"),
            y=vertical.place_up("tau"),
            tooltip=[
                alt.Tooltip("evaluations:Q", title="fitted on"),
                alt.Tooltip("tau:Q", title="Kendall tau", format=".2f"),
            ],
        )
    )
    aim = (
        alt.Chart(style.tabulate([{"tau": AIM}]))
        .mark_rule(color=style.AMBER, strokeWidth=1.2, strokeDash=[5, 4])
        .encode(y=vertical.place_up("tau"))
    )
    return alt.layer(aim, lines).properties(height=260)
