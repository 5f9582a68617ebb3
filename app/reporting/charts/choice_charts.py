"""What choices do, as charts: their importance, the effect of their values, what a front shares."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np

from app.analysis.common_choices import Prevalence
from app.analysis.importance import ChoiceEffect
from app.records.numbers import format_items, format_percent
from app.records.quantities import Quantity
from app.reporting.charts import chart_style as style
from app.reporting.charts.chart_style import Axis, Row

ON_FRONT, EVALUATED = "on the front", "evaluated"
# Room for the text beside the longest bar, as a share of it.
_TEXT_ROOM = 0.22
_ROW = 24


def draw_importance(effects: Sequence[ChoiceEffect], quantity: Quantity) -> alt.LayerChart:
    """A bar for each choice: the share of the variance of left-out architectures it explains.

    Args:
        effects: From the top; a share below 0, which is chance, has no bar.
        quantity: What the choices act on.
    """
    rows: list[Row] = [
        {
            "choice": effect.name,
            "share": max(100 * effect.share, 0.0),
            "text": format_percent(max(effect.share, 0.0)),
            "span": quantity.show_difference(effect.span, 0.0).lstrip("+"),
        }
        for effect in effects
    ]
    longest = max((float(row["share"] or 0.0) for row in rows), default=0.0) or 1.0
    base = alt.Chart(style.tabulate(rows)).encode(
        y=_name_rows([effect.name for effect in effects], "choice"),
        x=Axis("share of the variance (%)", (0, (1 + _TEXT_ROOM) * longest)).place_across("share"),
        tooltip=[
            alt.Tooltip("choice:N"),
            alt.Tooltip("text:N", title="share of the variance"),
            alt.Tooltip("span:N", title="best to worst value"),
        ],
    )
    bars = base.mark_bar(color=style.BLUE)
    texts = base.mark_text(align="left", dx=4, fontSize=11, color=style.MUTED, aria=False)
    height = 60 + _ROW * max(len(rows), 1)
    return alt.layer(bars, texts.encode(text=alt.Text("text:N"))).properties(height=height)


def draw_effects(effects: Sequence[ChoiceEffect], quantity: Quantity) -> alt.LayerChart:
    """The expected value with each value of some choices, and its 95 % interval.

    Args:
        effects: From the top; the values of each are joined by a line.
        quantity: What the choices act on.
    """
    rows: list[Row] = [
        {
            "choice": effect.name,
            "name": f"{effect.name} = {value}",
            "place": place,
            "mean": float(mean) * quantity.scale,
            "low": float(low) * quantity.scale,
            "high": float(high) * quantity.scale,
            "text": quantity.show(float(mean)),
            "interval": f"{quantity.show(float(low))} to {quantity.show(float(high))}",
            "count": format_items(int(count), "network"),
        }
        for effect in effects
        for place, (value, count, mean, low, high) in enumerate(
            zip(effect.values, effect.counts, effect.means, effect.low, effect.high, strict=True)
        )
        if not np.isnan(mean)
    ]
    names = [str(row["name"]) for row in rows]
    base = alt.Chart(style.tabulate(rows)).encode(y=_name_rows(names, "name"))
    across = Axis(f"expected {quantity.axis_label}")
    lines = base.mark_line(color=style.BLUE, opacity=0.35, aria=False).encode(
        x=across.place_across("mean"), detail=alt.Detail("choice:N"), order=alt.Order("place:Q")
    )
    bars = base.mark_rule(color=style.GREY, strokeWidth=1.5, aria=False).encode(
        x=across.place_across("low"), x2=alt.X2("high:Q")
    )
    marks = base.mark_circle(color=style.BLUE, size=60, opacity=1).encode(
        x=across.place_across("mean"),
        tooltip=[
            alt.Tooltip("name:N", title="value"),
            alt.Tooltip("text:N", title="expected"),
            alt.Tooltip("interval:N", title="95 % interval"),
            alt.Tooltip("count:N", title="evaluated"),
        ],
    )
    return alt.layer(lines, bars, marks).properties(height=60 + _ROW * max(len(rows), 1))


def draw_common(found: Sequence[Prevalence]) -> alt.LayerChart:
    """How frequent values are on the front and among everything evaluated, joined by a line.

    Args:
        found: From the top.
    """
    rows: list[Row] = []
    for one in found:
        name = f"{one.name} = {one.value}"
        shared: Row = {
            "name": name,
            "chance": _write_chance(one.chance),
            "front": f"{one.members:,} of {one.of_members:,}",
            "evaluated": f"{one.population:,} of {one.of_population:,}",
            "from": 100 * one.share_of_population,
            "to": 100 * one.share,
        }
        rows.append({**shared, "kind": EVALUATED, "share": 100 * one.share_of_population})
        rows.append({**shared, "kind": ON_FRONT, "share": 100 * one.share})
    y = _name_rows([f"{one.name} = {one.value}" for one in found], "name")
    across = Axis("networks with the value (%)", (0, 100))
    base = alt.Chart(style.tabulate(rows)).encode(y=y)
    lines = base.mark_rule(color=style.GREY, strokeWidth=1.5, opacity=0.6, aria=False)
    kinds = [ON_FRONT, EVALUATED]
    legend = alt.Legend(orient="top", title=None)
    marks = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=across.place_across("share"),
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=kinds, range=[style.BLUE, style.GREY]),
            legend=legend,
        ),
        shape=alt.Shape(
            "kind:N",
            scale=alt.Scale(domain=kinds, range=["circle", "diamond"]),
            legend=legend,
        ),
        tooltip=[
            alt.Tooltip("name:N", title="value"),
            alt.Tooltip("front:N", title="on the front"),
            alt.Tooltip("evaluated:N"),
            alt.Tooltip("chance:N", title="by chance"),
        ],
    )
    joined = lines.encode(x=across.place_across("from"), x2=alt.X2("to:Q"))
    return alt.layer(joined, marks).properties(height=90 + _ROW * max(len(found), 1))


def _name_rows(names: Sequence[str], field: str) -> alt.Y:
    axis = alt.Axis(title=None, labelLimit=260, labelOverlap=False, grid=False, ticks=False)
    return alt.Y(f"{field}:N", scale=alt.Scale(domain=list(names), paddingInner=0.3), axis=axis)


def _write_chance(chance: float) -> str:
    return "below 0.1 %" if chance < 0.001 else format_percent(chance)
