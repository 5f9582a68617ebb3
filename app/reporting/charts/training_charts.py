"""How a training went, as charts: the losses of its networks, and its learning rate."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np

from app.records.training_log import MetricsRecord
from app.reporting.charts import chart_style as style
from app.reporting.charts.chart_style import Axis, Row

LARGEST, SMALLEST, SAMPLED = "largest network", "smallest network", "sampled networks"
# Of the reports of each network; a line through more of them looks the same.
_MOST_STEPS = 1200
# The median is taken over so large a part of the reports around each.
_WINDOW = 0.03


def draw_losses(rows: Sequence[MetricsRecord]) -> alt.LayerChart:
    """The losses of the largest, the smallest and sampled networks after so many steps.

    Args:
        rows: Reports of a training, by rising step.
    """
    points: list[Row] = []
    for kind, losses in (
        (LARGEST, [(row.step, row.loss_largest) for row in rows]),
        (SMALLEST, [(row.step, row.loss_smallest) for row in rows]),
        (SAMPLED, [(row.step, row.loss_sampled) for row in rows]),
    ):
        points += _smooth(kind, [(step, loss) for step, loss in losses if loss is not None])
    looks = {LARGEST: style.BLUE, SMALLEST: style.AMBER, SAMPLED: style.GREEN}
    kinds = [kind for kind in looks if any(row["kind"] == kind for row in points)]
    legend = alt.Legend(
        orient="top", title=None, symbolType="stroke", symbolStrokeWidth=2, symbolSize=500
    )
    # A first loss far above all others would leave no room for them.
    highest = float(np.quantile([float(row["loss"] or 0.0) for row in points] or [1.0], 0.99))
    up = Axis("training loss (nats)", style.padded_domain([0.0, highest]), clamp=True)
    base = alt.Chart(style.tabulate(points)).encode(
        x=Axis("training steps", (0, max((row.steps for row in rows), default=1))).place_across(
            "step"
        ),
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=kinds, range=[looks[kind] for kind in kinds]),
            legend=legend,
        ),
    )
    marks = base.mark_circle(size=12, opacity=0.35).encode(
        y=up.place_up("loss"),
        tooltip=[
            alt.Tooltip("kind:N", title="loss of the"),
            alt.Tooltip("step:Q", format=","),
            alt.Tooltip("loss:Q", title="in this step", format=".4~g"),
            alt.Tooltip("median:Q", title="median around it", format=".4~g"),
        ],
    )
    lines = base.mark_line(strokeWidth=2, aria=False).encode(y=up.place_up("median"))
    return alt.layer(marks, lines).properties(height=320)


def _smooth(kind: str, losses: Sequence[tuple[int, float]]) -> list[Row]:
    """Losses with the median around each; some of many."""
    values = np.array([loss for _, loss in losses], dtype=np.float64)
    half = int(_WINDOW * len(values) / 2)
    rows: list[Row] = []
    for place in style.spread_evenly(range(len(values)), _MOST_STEPS):
        around = values[max(place - half, 0) : place + half + 1]
        rows.append(
            {
                "kind": kind,
                "step": losses[place][0],
                "loss": float(values[place]),
                "median": float(np.median(around)),
            }
        )
    return rows


def draw_rate(rows: Sequence[MetricsRecord]) -> alt.LayerChart:
    """The learning rate after so many steps.

    Args:
        rows: Reports of a training, by rising step.
    """
    known = [row for row in rows if row.learning_rate is not None]
    points: list[Row] = [
        {"step": row.step, "rate": row.learning_rate}
        for row in style.spread_evenly(known, _MOST_STEPS)
    ]
    last = max((row.steps for row in rows), default=1)
    line = (
        alt.Chart(style.tabulate(points))
        .mark_line(color=style.BLUE, strokeWidth=2)
        .encode(
            x=Axis("training steps", (0, last)).place_across("step"),
            y=Axis("learning rate", zero=True).place_up("rate"),
            tooltip=[
                alt.Tooltip("step:Q", format=","),
                alt.Tooltip("rate:Q", title="learning rate", format=".4~g"),
            ],
        )
    )
    return alt.layer(line).properties(height=200)
