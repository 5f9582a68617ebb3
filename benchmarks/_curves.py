"""Curves of hypervolume over evaluations: over seeds, and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import numpy as np
from numpy.typing import NDArray

from app.reporting.charts.chart_style import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    PINK,
    RED,
    SKY,
    Axis,
    tabulate,
)
from app.reporting.charts.svg import render_svg
from supernet.files import write_text

Values = NDArray[np.float64]
_COLORS = (BLUE, RED, GREEN, AMBER, PINK, SKY, "#000000", GREY)


@dataclass(frozen=True)
class Curve:
    """One method's traces over seeds, ``(seeds, evaluations)``."""

    name: str
    traces: Values


def over_seeds(
    method: Callable[[int, int], Values], evaluations: int, seeds: int
) -> NDArray[np.float64]:
    """Traces ``(seeds, evaluations)``; a search that ended early keeps its last value."""
    rows = []
    for seed in range(seeds):
        trace = method(evaluations, seed)
        short = evaluations - len(trace)
        rows.append(np.concatenate((trace, np.full(max(short, 0), trace[-1])))[:evaluations])
    return np.stack(rows)


def draw(
    path: Path, curves: Sequence[Curve], x_title: str, y_title: str, ceiling: float | None = None
) -> None:
    """Write an SVG of the mean and the range over seeds of every curve; published ones are dashed.

    Args:
        path: The file.
        curves: In the order of the legend.
        x_title: Of the horizontal axis.
        y_title: Of the vertical one; what leaves most curves flat at its lower end is cut off.
        ceiling: What a method could reach at most, as a dotted line.
    """
    rows = [row for curve in curves for row in _tabulate(curve)]
    tops = [float(row["mean"]) for row in rows]
    top = max(*tops, ceiling or 0.0)
    bottom = float(np.quantile(tops, 0.02))
    x = Axis(x_title, (0, max(float(row["evaluations"]) for row in rows))).place_across(
        "evaluations"
    )
    y = Axis(y_title, (bottom, top + 0.02 * (top - min(tops))), clamp=True)
    names = [curve.name for curve in curves]
    colors = alt.Scale(domain=names, range=[_COLORS[i % len(_COLORS)] for i in range(len(names))])
    dashes = alt.Scale(
        domain=names, range=[[5, 4] if "published" in name else [1, 0] for name in names]
    )
    legend = alt.Legend(
        orient="top",
        title=None,
        columns=3,
        symbolType="stroke",
        symbolStrokeWidth=2,
        symbolSize=500,
        symbolOpacity=1,
    )
    color = alt.Color("name:N", sort=names, scale=colors, legend=legend)
    base = alt.Chart(tabulate(rows)).encode(x=x, color=color)
    layers = [
        base.mark_area(opacity=0.15, aria=False).encode(y=y.place_up("low"), y2="high:Q"),
        base.mark_line(strokeWidth=1.6).encode(
            y=y.place_up("mean"),
            strokeDash=alt.StrokeDash("name:N", sort=names, scale=dashes, legend=legend),
        ),
    ]
    if ceiling is not None:
        ideal = alt.Chart(tabulate([{"mean": ceiling, "label": "long-run ideal"}]))
        layers += [
            ideal.mark_rule(color=GREY, strokeDash=[1, 3], aria=False).encode(y=y.place_up("mean")),
            ideal.mark_text(color=GREY, align="right", baseline="bottom", dx=-4, dy=-2).encode(
                x=alt.value("width"), y=y.place_up("mean"), text="label:N"
            ),
        ]
    write_text(
        path, render_svg(alt.layer(*layers), f"{y_title} over {x_title}", width=760, height=460)
    )


def _tabulate(curve: Curve) -> list[dict[str, str | float]]:
    """Mean and range over seeds; every fourth evaluation keeps the file small."""
    steps = np.arange(0, curve.traces.shape[1], 4)
    traces = curve.traces[:, steps]
    return [
        {"name": curve.name, "evaluations": int(step) + 1, "mean": mean, "low": low, "high": high}
        for step, mean, low, high in zip(
            steps,
            traces.mean(0).tolist(),
            traces.min(0).tolist(),
            traces.max(0).tolist(),
            strict=True,
        )
    ]
