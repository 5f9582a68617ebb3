"""Plotly figures of how a search went: hypervolume, predictions against reality, learning curve."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from app.explorer.front_chart import set_style
from app.records.front import Front
from app.records.quantities import Quantity
from app.records.trace import Hypervolume
from app.reporting.figures import AMBER, BLUE, GREY


def hypervolume_figure(rows: Sequence[Hypervolume], name: str = "this search") -> go.Figure:
    """Hypervolume of the front against the number of real evaluations, random search beside.

    Args:
        rows: After each number of evaluations.
        name: Of the search, for the legend that a baseline needs.
    """
    figure = go.Figure()
    beside = any(row.baseline is not None for row in rows)
    traces = [(name, BLUE, "solid", [row.value for row in rows])]
    if beside:
        traces.append(("random search", GREY, "dash", [row.baseline for row in rows]))
    for label, color, dash, values in traces:
        known = [(row.evaluations, v) for row, v in zip(rows, values, strict=True) if v is not None]
        figure.add_scatter(
            x=[number for number, _ in known],
            y=[value for _, value in known],
            mode="lines+markers" if len(rows) <= 25 else "lines",
            name=label,
            line={"color": color, "width": 2, "shape": "hv", "dash": dash},
            marker={"size": 6},
            hovertemplate="%{x} evaluations: %{y:.4g}<extra></extra>",
        )
    set_style(figure, "evaluated architectures", "hypervolume", height=320, legend=beside)
    figure.update_layout(showlegend=beside)
    return figure


def parity_figure(front: Front, objective: Quantity) -> go.Figure | None:
    """Predicted against real values of one objective; ``None`` when fewer than two have both."""
    both = [
        (e.predicted * objective.scale, e.value * objective.scale, p.digest)
        for p in front.points
        for e in (p.estimate(objective.name),)
        if e.predicted is not None and e.value is not None
    ]
    if len(both) < 2:
        return None
    low = min(min(a, b) for a, b, _ in both)
    high = max(max(a, b) for a, b, _ in both)
    edge = (high - low or 1.0) * 0.05
    figure = go.Figure()
    figure.add_scatter(
        x=[low - edge, high + edge],
        y=[low - edge, high + edge],
        mode="lines",
        line={"color": GREY, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[b[0] for b in both],
        y=[b[1] for b in both],
        mode="markers",
        marker={"color": BLUE, "size": 7, "opacity": 0.75},
        text=[b[2] for b in both],
        hovertemplate="<b>%{text}</b><br>predicted %{x:.4g}, real %{y:.4g}<extra></extra>",
    )
    unit = f" ({objective.shown_unit})" if objective.shown_unit else ""
    set_style(
        figure, f"predicted {objective.title}{unit}", f"real {objective.title}{unit}", height=320
    )
    figure.update_layout(showlegend=False)
    return figure


def curve_figure(curve: Sequence[tuple[int, float | None]]) -> go.Figure:
    """How well a predictor ranks held-out architectures after so many evaluations.

    Args:
        curve: ``(evaluations, tau)`` pairs.
    """
    figure = go.Figure()
    numbers = [pair[0] for pair in curve]
    figure.add_scatter(
        x=numbers,
        y=[pair[1] for pair in curve],
        mode="lines+markers",
        line={"color": BLUE, "width": 2},
        hovertemplate="fitted on %{x}: tau %{y:.2f}<extra></extra>",
    )
    figure.add_hline(y=0.9, line={"color": AMBER, "width": 1.2, "dash": "dash"})
    set_style(figure, "evaluations fitted on", "Kendall tau, held out", height=260)
    figure.update_layout(showlegend=False)
    return figure
