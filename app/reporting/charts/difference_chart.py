"""A difference of two networks as a chart: its parts, one after the other, and the rest."""

from __future__ import annotations

import altair as alt

from app.analysis.contributions import Split
from app.records.quantities import Quantity
from app.reporting.charts import chart_style as style
from app.reporting.charts.chart_style import Row

MORE, LESS, REST, WHOLE = "adds", "takes away", "rest", "difference"
# More parts than this are summed up: the smallest of them.
MOST_PARTS = 16


def draw_split(split: Split, quantity: Quantity, rest: str) -> alt.LayerChart:
    """Parts of a difference as bars that begin where the one before ended.

    Args:
        split: What is drawn.
        quantity: What the difference is of.
        rest: What the rest is made of, as its label.
    """
    rows = list_bars(split, quantity, rest)
    ends = [float(row[key] or 0.0) for row in rows for key in ("from", "to")]
    span = max(ends) - min(ends) or 1.0
    # Texts stand to the right of their bars.
    domain = (min(ends) - 0.04 * span, max(ends) + 0.3 * span)
    names = [str(row["part"]) for row in rows]
    unit = "points" if quantity.unit == "fraction" else quantity.shown_unit
    axis = style.Axis(f"difference of {quantity.title} ({unit})", domain)
    base = alt.Chart(style.tabulate(rows)).encode(
        y=alt.Y(
            "part:N",
            sort=names,
            scale=alt.Scale(domain=names, paddingInner=0.3),
            axis=alt.Axis(title=None, labelLimit=240, labelOverlap=False, grid=False),
        ),
        x=axis.place_across("from"),
        x2="to:Q",
        tooltip=["part:N", alt.Tooltip("text:N", title="difference")],
    )
    colors = alt.Scale(
        domain=[MORE, LESS, REST, WHOLE],
        range=[style.AMBER, style.SKY, style.GREY, style.BLUE],
    )
    bars = base.mark_bar().encode(
        color=alt.Color(
            "kind:N", scale=colors, legend=alt.Legend(orient="top", title=None, columns=2)
        )
    )
    values = (
        alt.Chart(style.tabulate(rows))
        .mark_text(align="left", dx=4, fontSize=11, color=style.MUTED, aria=False)
        .encode(y=alt.Y("part:N", sort=names), x=axis.place_across("right"), text="text:N")
    )
    return alt.layer(bars, values).properties(height=110 + 26 * len(rows))


def list_bars(split: Split, quantity: Quantity, rest: str) -> list[Row]:
    """The bars from top to bottom, in the unit of the axis.

    Args:
        split: What is drawn.
        quantity: What the difference is of.
        rest: The label of the rest.
    """
    shown = list(split.parts[:MOST_PARTS])
    others = split.parts[MOST_PARTS:]
    if others:
        shown.append((f"{len(others)} smaller parts", sum(share for _, share in others)))
    bars = [(name, share, MORE if share > 0 else LESS) for name, share in shown]
    if split.rest is not None:
        bars.append((rest, split.rest, REST))
    rows: list[Row] = []
    reached = 0.0
    for name, share, kind in bars:
        rows.append(_make_row(name, reached, reached + share, share, kind, quantity))
        reached += share
    rows.append(_make_row("together", 0.0, reached, reached, WHOLE, quantity))
    return rows


def _make_row(
    name: str, begin: float, end: float, share: float, kind: str, quantity: Quantity
) -> Row:
    scale = quantity.scale
    return {
        "part": name,
        "from": begin * scale,
        "to": end * scale,
        "right": max(begin, end) * scale,
        "kind": kind,
        "text": quantity.show_difference(share, 0.0),
    }
