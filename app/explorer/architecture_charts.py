"""Single architectures as charts: latency of their units, and choices along a front."""

from __future__ import annotations

import json
from collections.abc import Sequence

import altair as alt

from app.explorer.layers import Genome
from app.records.quantities import LATENCY
from app.records.searches.front import Front, Point
from app.reporting.charts import chart_style as style
from app.reporting.charts.chart_style import Row

CHOSEN, COMPARED = "chosen", "compared"
# With more columns than this the values no longer fit into their cells.
MOST_WRITTEN = 24
# More cells than this are too small to be told apart and only make a chart slow.
MOST_CELLS = 5000


def draw_breakdown(point: Point, compared: Point | None = None) -> alt.LayerChart:
    """Latency of every unit of one architecture as bars, first unit on top.

    Args:
        point: A point with a breakdown.
        compared: Drawn beside it where it has a breakdown too.
    """
    members = [(CHOSEN, point)]
    if compared is not None and compared.breakdown:
        members.append((COMPARED, compared))
    rows: list[Row] = [
        {"unit": unit, "kind": kind, "latency": latency, "text": LATENCY.show(latency)}
        for kind, member in members
        for unit, latency in member.breakdown
    ]
    names = merge_units([[unit for unit, _ in member.breakdown] for _, member in members])
    both = len(members) > 1
    # Every value stands to the right of its bar and needs room there.
    longest = max((float(row["latency"] or 0.0) for row in rows), default=0.0) or 1.0
    across = style.Axis("latency of the unit (ms)", (0.0, 1.3 * longest))
    base = alt.Chart(style.tabulate(rows)).encode(
        y=alt.Y(
            "unit:N",
            sort=names,
            scale=alt.Scale(paddingInner=0.3),
            axis=alt.Axis(title=None, labelLimit=260, labelOverlap=False, grid=False),
        ),
        x=across.place_across("latency"),
        tooltip=[
            alt.Tooltip("unit:N"),
            alt.Tooltip("text:N", title="latency"),
            alt.Tooltip("kind:N"),
        ],
    )
    if both:
        base = base.encode(yOffset=alt.YOffset("kind:N", sort=[CHOSEN, COMPARED]))
    colors = alt.Scale(domain=[CHOSEN, COMPARED], range=[style.BLUE, style.PINK])
    legend = alt.Legend(orient="top", title=None) if both else None
    bars = base.mark_bar().encode(color=alt.Color("kind:N", scale=colors, legend=legend))
    values = base.mark_text(align="left", dx=4, fontSize=11, color=style.MUTED, aria=False)
    layers = [bars, values.encode(text=alt.Text("text:N"))]
    return alt.layer(*layers).properties(height=110 + (38 if both else 26) * len(names))


def merge_units(breakdowns: Sequence[Sequence[str]]) -> list[str]:
    """All units in one order: one that only a later network has follows what it follows there."""
    merged: list[str] = []
    for units in breakdowns:
        place = 0
        for unit in units:
            if unit not in merged:
                merged.insert(place, unit)
            place = merged.index(unit) + 1
    return merged


def choose_columns(points: Sequence[Point], rows: int, chosen: str | None = None) -> list[Point]:
    """Points for the columns of a genome chart: all of them, or a part evenly spread.

    Args:
        points: In the order of the columns.
        rows: How many choices each has.
        chosen: Digest of one that stays in any case.
    """
    most = max(MOST_WRITTEN, MOST_CELLS // max(rows, 1))
    kept = {point.digest for point in style.spread_evenly(points, most)} | {chosen}
    return [point for point in points if point.digest in kept]


def draw_genomes(genome: Genome, front: Front, chosen: str | None = None) -> alt.LayerChart:
    """Choices (rows) of the architectures along a front (columns, cheapest first).

    Args:
        genome: What to draw; choices without an effect stay empty.
        front: The front that the architectures are on.
        chosen: Digest of the one whose column is framed.
    """
    cost = front.cost
    labels = [cost.show(front.find_point(digest).best(cost.name)) for digest in genome.digests]
    rows: list[Row] = [
        {
            "column": column,
            "choice": name,
            "share": share,
            "value": str(value),
            "digest": genome.digests[column],
            "cost": labels[column],
        }
        for name, shares, values in zip(genome.names, genome.shares, genome.values, strict=True)
        for column, (share, value) in enumerate(zip(shares, values, strict=True))
        if value is not None
    ]
    columns = list(range(len(genome.digests)))
    x = alt.X(
        "column:O",
        scale=alt.Scale(domain=columns, paddingInner=0.05),
        axis=alt.Axis(
            title=f"{cost.title}, cheapest on the left",
            # Two architectures may cost the same, so a column is a number with its cost as label.
            labelExpr=f"{json.dumps(labels)}[datum.value]",
            labelAngle=-50,
            labelOverlap="greedy",
            ticks=False,
        ),
    )
    y = alt.Y(
        "choice:N",
        scale=alt.Scale(domain=list(genome.names), paddingInner=0.1),
        axis=alt.Axis(title=None, labelLimit=260, labelOverlap=False, ticks=False),
    )
    shades = alt.Scale(domain=[0, 0.5, 1], range=list(style.SHADES))
    base = alt.Chart(style.tabulate(rows)).encode(x=x, y=y)
    layers = [
        base.mark_rect(cornerRadius=2).encode(
            color=alt.Color("share:Q", scale=shades, legend=None),
            tooltip=[
                alt.Tooltip("digest:N", title="architecture"),
                alt.Tooltip("choice:N"),
                alt.Tooltip("value:N"),
                alt.Tooltip("cost:N", title=cost.title),
            ],
        )
    ]
    if len(columns) <= MOST_WRITTEN:
        dark = alt.condition("datum.share > 0.6", alt.value("white"), alt.value("#10202e"))
        layers.append(
            base.mark_text(fontSize=11, aria=False).encode(text=alt.Text("value:N"), color=dark)
        )
    if chosen in genome.digests:
        framed = style.tabulate([{"column": genome.digests.index(chosen)}])
        frame = alt.Chart(framed).mark_rect(
            fill=None, stroke=style.RED, strokeWidth=2.5, tooltip=None, aria=False
        )
        layers.append(frame.encode(x=x))
    return alt.layer(*layers).properties(height=140 + 24 * len(genome.names))
