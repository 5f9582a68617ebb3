"""Plotly figures of the explorer; pure functions from fronts and genomes to figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import plotly.graph_objects as go

from app.explorer.layers import Genome
from app.records.front import Estimate, Front, Point
from app.records.quantities import LATENCY, Quantity
from app.reporting.figures import AMBER, BLUE, GREY, PINK, RED

OVERLAYS = ("#009E73", "#6A3D9A", "#8C6D00", "#5F6B76")
HEIGHT = 440
# Light to dark: readable without colour vision and in print.
SCALE = [[0.0, "#dbe9f6"], [0.5, "#6aaed6"], [1.0, "#08468b"]]


@dataclass(frozen=True)
class Marks:
    """What a front chart emphasises: digests of points, a budget line and other fronts."""

    chosen: str | None = None
    compared: str | None = None
    budget: float | None = None
    dominated: bool = False
    overlays: Sequence[tuple[str, Front]] = field(default_factory=tuple)


def front_figure(front: Front, x: Quantity, y: Quantity, marks: Marks | None = None) -> go.Figure:
    """Predicted and verified points of a front over two axes, joined by thin lines.

    Args:
        front: The front to draw.
        x: Horizontal axis, one of ``front.axes``.
        y: Vertical axis.
        marks: What to emphasise.
    """
    marks = marks or Marks()
    figure = go.Figure()
    members = front.on_front()
    close = [p for p in front.points if p.indistinguishable and not p.on_front]
    _add_points(
        figure,
        close,
        x,
        y,
        "behind within noise only",
        {"color": BLUE, "size": 7, "opacity": 0.45, "symbol": "circle-open"},
    )
    if marks.dominated:
        behind = [p for p in front.points if not p.on_front and not p.indistinguishable]
        _add_points(
            figure,
            behind,
            x,
            y,
            "evaluated, not on the front",
            {"color": GREY, "size": 6, "opacity": 0.65, "symbol": "circle"},
        )
    for number, (name, other) in enumerate(marks.overlays):
        _add_overlay(figure, name, other, x, y, OVERLAYS[number % len(OVERLAYS)])
    _add_steps(figure, front, members, x, y)
    _add_joins(figure, members, x, y)
    _add_predictions(figure, members, x, y)
    _add_points(
        figure,
        [p for p in members if p.verified],
        x,
        y,
        "verified (measured)",
        {"color": BLUE, "size": 10, "symbol": "circle", "line": {"color": "white", "width": 1}},
        bars=True,
    )
    _add_points(
        figure,
        [p for p in members if not p.verified],
        x,
        y,
        "not verified yet",
        {"color": BLUE, "size": 9, "symbol": "circle-open", "line": {"width": 1.5}},
    )
    for digest, name, color, symbol in (
        (marks.compared, "compared", PINK, "square-open"),
        (marks.chosen, "chosen", RED, "circle-open"),
    ):
        ring = [p for p in front.points if p.digest == digest]
        style = {"color": color, "size": 19, "symbol": symbol, "line": {"width": 2.5}}
        _add_points(figure, ring, x, y, name, style)
    if marks.budget is not None and x.name == front.cost.name:
        figure.add_vline(
            x=marks.budget * x.scale,
            line={"color": RED, "width": 1.2, "dash": "dash"},
            annotation_text="budget",
            annotation_position="bottom right",
            annotation_font={"color": RED, "size": 11},
        )
    set_style(figure, x.axis_label, y.axis_label, legend=True)
    # A click selects; the other marks must not fade, as they still mean what they meant.
    figure.update_traces(selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}})
    return figure


def _add_points(
    figure: go.Figure,
    points: Sequence[Point],
    x: Quantity,
    y: Quantity,
    name: str,
    marker: dict[str, object],
    *,
    bars: bool = False,
) -> None:
    placed = [p for p in points if p.best(x.name) is not None and p.best(y.name) is not None]
    if not placed:
        return
    errors = {}
    if bars:
        errors = {
            f"error_{letter}": _error_bar([p.estimate(axis.name) for p in placed], axis.scale)
            for letter, axis in (("x", x), ("y", y))
        }
    figure.add_scatter(
        x=[_scaled(p.best(x.name), x) for p in placed],
        y=[_scaled(p.best(y.name), y) for p in placed],
        mode="markers",
        name=name,
        marker=marker,
        customdata=[[p.digest] for p in placed],
        text=[_hover(p, x, y) for p in placed],
        hovertemplate="%{text}<extra></extra>",
        **errors,
    )


def _error_bar(estimates: Sequence[Estimate], scale: float) -> dict[str, object]:
    around = [e.interval_around(e.value) or (0.0, 0.0) for e in estimates]
    return {
        "type": "data",
        "symmetric": False,
        "array": [above * scale for _, above in around],
        "arrayminus": [below * scale for below, _ in around],
        "color": "rgba(86, 180, 233, 0.85)",
        "thickness": 1.2,
        "width": 3,
    }


def _add_steps(
    figure: go.Figure, front: Front, members: Sequence[Point], x: Quantity, y: Quantity
) -> None:
    """The staircase of the verified front: what is reachable at each budget."""
    if x.maximize or y.name != front.quality.name:
        return
    known = [p for p in members if p.verified and p.best(x.name) is not None]
    known.sort(key=lambda p: p.best(x.name) or 0.0)
    figure.add_scatter(
        x=[_scaled(p.best(x.name), x) for p in known],
        y=[_scaled(p.best(y.name), y) for p in known],
        mode="lines",
        line={"color": "#56B4E9", "width": 1.2, "shape": "hv"},
        opacity=0.7,
        hoverinfo="skip",
        showlegend=False,
    )


def _add_joins(figure: go.Figure, members: Sequence[Point], x: Quantity, y: Quantity) -> None:
    xs: list[float | None] = []
    ys: list[float | None] = []
    for point in members:
        ends = _predicted(point, x, y)
        if ends is not None and point.verified:
            xs += [ends[0], _scaled(point.best(x.name), x), None]
            ys += [ends[1], _scaled(point.best(y.name), y), None]
    if xs:
        figure.add_scatter(
            x=xs,
            y=ys,
            mode="lines",
            line={"color": AMBER, "width": 1},
            opacity=0.8,
            hoverinfo="skip",
            showlegend=False,
        )


def _add_predictions(figure: go.Figure, members: Sequence[Point], x: Quantity, y: Quantity) -> None:
    placed = [(p, _predicted(p, x, y)) for p in members if p.verified]
    found = [(p, ends) for p, ends in placed if ends is not None]
    if found:
        figure.add_scatter(
            x=[ends[0] for _, ends in found],
            y=[ends[1] for _, ends in found],
            mode="markers",
            name="predicted",
            marker={"color": AMBER, "size": 8, "symbol": "diamond-open", "line": {"width": 1.5}},
            customdata=[[p.digest] for p, _ in found],
            text=[f"<b>{p.digest}</b> as predicted" for p, _ in found],
            hovertemplate="%{text}<extra></extra>",
        )


def _add_overlay(
    figure: go.Figure, name: str, front: Front, x: Quantity, y: Quantity, color: str
) -> None:
    members = [
        p for p in front.on_front() if p.best(x.name) is not None and p.best(y.name) is not None
    ]
    members.sort(key=lambda p: p.best(x.name) or 0.0)
    figure.add_scatter(
        x=[_scaled(p.best(x.name), x) for p in members],
        y=[_scaled(p.best(y.name), y) for p in members],
        mode="lines+markers",
        name=name,
        line={"color": color, "width": 1.2, "dash": "dot"},
        marker={"color": color, "size": 7, "symbol": "triangle-up"},
        text=[f"{name}<br>{_hover(p, x, y)}" for p in members],
        hovertemplate="%{text}<extra></extra>",
    )


def _predicted(point: Point, x: Quantity, y: Quantity) -> tuple[float, float] | None:
    """Where the point was predicted to be; exact figures stand in where nothing is predicted."""
    across, up = point.estimate(x.name), point.estimate(y.name)
    if across.predicted is None and up.predicted is None:
        return None
    first = across.value if across.predicted is None else across.predicted
    second = up.value if up.predicted is None else up.predicted
    return None if first is None or second is None else (first * x.scale, second * y.scale)


def _scaled(value: float | None, objective: Quantity) -> float | None:
    return None if value is None else value * objective.scale


def _hover(point: Point, x: Quantity, y: Quantity) -> str:
    lines = [f"<b>{point.digest}</b>"]
    for axis in (x, y):
        estimate = point.estimate(axis.name)
        source = f" ({estimate.source})" if estimate.source else ""
        lines.append(f"{axis.title}: {axis.show(estimate.best)}{source}")
    return "<br>".join(lines)


def breakdown_figure(point: Point, compared: Point | None = None) -> go.Figure:
    """Latency of every unit of one architecture as bars, first unit on top."""
    figure = go.Figure()
    rows = [(point, "chosen", BLUE)]
    if compared is not None and compared.breakdown:
        rows.append((compared, "compared", PINK))
    names = list(dict.fromkeys(name for p, _, _ in rows for name, _ in p.breakdown))
    for member, label, color in rows:
        found = dict(member.breakdown)
        figure.add_bar(
            y=names,
            x=[found.get(name, 0.0) for name in names],
            name=label,
            orientation="h",
            marker={"color": color},
            width=0.34 if len(rows) > 1 else 0.66,
            text=[LATENCY.show(found.get(name)) for name in names],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    set_style(
        figure,
        "latency of the unit (ms)",
        "",
        height=90 + (30 if len(rows) > 1 else 24) * len(names),
        legend=len(rows) > 1,
    )
    figure.update_layout(barmode="group", showlegend=len(rows) > 1)
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    figure.update_xaxes(rangemode="tozero")
    return figure


def genome_figure(genome: Genome, front: Front, chosen: str | None = None) -> go.Figure:
    """Choices (rows) of the architectures along a front (columns, cheapest first)."""
    cost = front.cost
    points = [front.point(digest) for digest in genome.digests]
    numbers = list(range(len(points)))
    hover = [
        [
            f"<b>{points[i].digest}</b><br>{name} = {'skipped' if value is None else value}"
            f"<br>{cost.title}: {cost.show(points[i].best(cost.name))}"
            for i, value in enumerate(row)
        ]
        for name, row in zip(genome.names, genome.values, strict=True)
    ]
    text = [["" if value is None else str(value) for value in row] for row in genome.values]
    figure = go.Figure(
        go.Heatmap(
            z=genome.shares,
            x=numbers,
            y=list(genome.names),
            colorscale=SCALE,
            zmin=0,
            zmax=1,
            xgap=2,
            ygap=2,
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
            text=text,
            texttemplate="%{text}" if len(points) <= 24 else None,
            textfont={"size": 11},
            hoverongaps=False,
            showscale=False,
        )
    )
    labels = [cost.show(point.best(cost.name)) for point in points]
    set_style(
        figure, f"{cost.title}, cheapest on the left", "", height=130 + 21 * len(genome.names)
    )
    figure.update_xaxes(
        tickmode="array", tickvals=numbers, ticktext=labels, tickangle=-50, showgrid=False
    )
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    if chosen in genome.digests:
        column = genome.digests.index(chosen)
        figure.add_shape(
            type="rect",
            x0=column - 0.5,
            x1=column + 0.5,
            y0=-0.5,
            y1=len(genome.names) - 0.5,
            line={"color": RED, "width": 2},
        )
    return figure


def set_style(
    figure: go.Figure, x: str, y: str, height: int = HEIGHT, *, legend: bool = False
) -> None:
    """The look all charts share: no frame, quiet grid, legend above, room for the labels."""
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 24, "t": 36 if legend else 8, "b": 10},
        hovermode="closest",
        dragmode=False,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None},
    )
    figure.update_xaxes(title=x, automargin=True, zeroline=False)
    figure.update_yaxes(title=y, automargin=True, zeroline=False)
