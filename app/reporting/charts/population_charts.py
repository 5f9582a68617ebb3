"""What a search evaluated and when, as charts: values found, and values of a choice tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
from numpy.typing import NDArray

from app.analysis.progress import find_records
from app.records.numbers import format_percent
from app.records.quantities import Quantity
from app.reporting.charts import chart_style as style
from app.reporting.charts.chart_style import Axis, Row

EVALUATED, ON_FRONT = "evaluated", "on the front"
INERT = "not in the network"
# Of points that are not on the front.
_MOST_MARKS = 700
# Colours that stay apart on light and dark pages, from the smallest value on.
_VALUES = ("#c6dbef", "#9ecae1", "#6baed6", "#3182bd", "#08519c", "#08306b")


@dataclass(frozen=True)
class Population:
    """Evaluated architectures in the order of their evaluation.

    Args:
        numbers: Of the evaluations, ``(n,)`` from 1 on and rising.
        digests: Of the architectures, ``n``.
        values: Found, ``(n,)`` in the stored unit; NaN for an evaluation that failed.
        members: Which are on the front, ``(n,)``.
    """

    numbers: NDArray[np.intp]
    digests: Sequence[str]
    values: NDArray[np.float64]
    members: NDArray[np.bool_]


def draw_population(population: Population, axis: Quantity) -> alt.LayerChart:
    """Every evaluated value in the order of evaluation, the best so far as a line.

    Args:
        population: What was evaluated.
        axis: What the values are of.
    """
    values, members = population.values, population.members
    known = np.flatnonzero(~np.isnan(values))
    others = known[~members[known]].tolist()
    # The front is drawn above the rest.
    drawn = [*style.spread_evenly(others, _MOST_MARKS), *known[members[known]].tolist()]
    rows: list[Row] = [
        {
            "digest": population.digests[i],
            "kind": ON_FRONT if members[i] else EVALUATED,
            "number": int(population.numbers[i]),
            "value": float(values[i]) * axis.scale,
            "text": axis.show(float(values[i])),
        }
        for i in drawn
    ]
    steps: list[Row] = [
        {"number": int(population.numbers[i]), "value": float(values[i]) * axis.scale}
        for i in find_records(values, maximize=axis.maximize)
    ]
    last = int(population.numbers.max(initial=0))
    if steps:
        steps.append({**steps[-1], "number": last})
    across = Axis("evaluated architectures", (0, last + 1))
    up = Axis(axis.axis_label, _domain(rows))
    kinds = [kind for kind in (ON_FRONT, EVALUATED) if any(row["kind"] == kind for row in rows)]
    looks = {ON_FRONT: style.BLUE, EVALUATED: style.GREY}
    marks = (
        alt.Chart(style.tabulate(rows))
        .mark_circle(size=28)
        .encode(
            x=across.place_across("number"),
            y=up.place_up("value"),
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=kinds, range=[looks[kind] for kind in kinds]),
                legend=alt.Legend(orient="top", title=None, symbolOpacity=1) if kinds[1:] else None,
            ),
            opacity=alt.condition(f"datum.kind === '{ON_FRONT}'", alt.value(1), alt.value(0.3)),
            tooltip=[
                alt.Tooltip("digest:N", title="architecture"),
                alt.Tooltip("number:Q", title="evaluation", format=","),
                style.describe_in_tooltip("text", axis.title),
            ],
            description=alt.Description("digest:N"),
        )
    )
    line = (
        alt.Chart(style.tabulate(steps or [{"number": 0, "value": None}]))
        .mark_line(interpolate="step-after", color=style.AMBER, strokeWidth=2, aria=False)
        .encode(x=across.place_across("number"), y=up.place_up("value"))
    )
    chart = alt.layer(marks, line).properties(height=300)
    if len(drawn) == len(known):
        return chart
    return chart.properties(title=f"{len(drawn):,} of {len(known):,} points drawn")


def _domain(rows: Sequence[Row]) -> tuple[float, float]:
    return style.padded_domain([float(row["value"] or 0.0) for row in rows])


def draw_values_over_time(
    name: str, labels: Sequence[str], ends: NDArray[np.intp], shares: NDArray[np.float64]
) -> alt.LayerChart:
    """Which values of a choice a search tried when, as shares stacked over the evaluations.

    Args:
        name: Of the choice.
        labels: Its values, the smallest first.
        ends: How many evaluations there were at the end of each part, ``(parts,)``.
        shares: Of each value and, last, of networks without the choice, ``(parts, values + 1)``.
    """
    # A column that nothing fills has no entry in the legend.
    kinds = [*labels, INERT] if shares[:, -1].any() else list(labels)
    starts = np.concatenate(([0], ends[:-1]))
    tops = 100 * np.cumsum(shares, axis=1)
    rows: list[Row] = [
        {
            "kind": kind,
            "start": start,
            "end": end,
            "low": float(top[place]) - 100 * float(part[place]),
            "high": float(top[place]),
            "text": format_percent(float(part[place])),
            "evaluations": f"{start + 1:,} to {end:,}",
        }
        for start, end, part, top in zip(starts.tolist(), ends.tolist(), shares, tops, strict=True)
        for place, kind in enumerate(kinds)
        if part[place]
    ]
    count = len(labels)
    colors = [_VALUES[i * (len(_VALUES) - 1) // max(count - 1, 1)] for i in range(count)]
    scale = alt.Scale(domain=kinds, range=[*colors, "#b8bec4"][: len(kinds)])
    legend = alt.Legend(orient="top", title=name, titleLimit=260, columns=6)
    bars = (
        alt.Chart(style.tabulate(rows))
        .mark_rect()
        .encode(
            x=Axis("evaluated architectures", (0, int(ends[-1]))).place_across("start"),
            x2=alt.X2("end:Q"),
            y=Axis("share of the evaluated (%)", (0, 100)).place_up("low"),
            y2=alt.Y2("high:Q"),
            color=alt.Color("kind:N", scale=scale, legend=legend, sort=kinds),
            tooltip=[
                alt.Tooltip("kind:N", title="value"),
                alt.Tooltip("text:N", title="share"),
                alt.Tooltip("evaluations:N", title="evaluations"),
            ],
        )
    )
    return alt.layer(bars).properties(height=260)
