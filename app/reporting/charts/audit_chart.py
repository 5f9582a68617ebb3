"""An audit as a chart: inherited against stand-alone quality of every network."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from app.records.audit import AuditRecord, QualityRecord
from app.records.quantities import MACS
from app.reporting.charts import chart_style as style
from app.reporting.charts.chart_style import Axis, Row


def draw_audit(found: AuditRecord) -> alt.LayerChart:
    """One mark per network with its 95 % intervals, larger for more MACs, and the diagonal.

    Args:
        found: What the audit found.
    """
    scale = 100.0 if found.unit == "fraction" else 1.0
    unit = "%" if found.unit == "fraction" else found.unit
    name = found.objective
    alone = [_scale_ends(network.alone, scale) for network in found.networks]
    inherited = [_scale_ends(network.inherited, scale) for network in found.networks]
    x = _make_axis(alone, f"{name} when trained alone ({unit})")
    y = _make_axis(inherited, f"{name} with inherited weights ({unit})")
    rows: list[Row] = [
        {
            "digest": network.digest,
            "macs": network.macs,
            "macs_text": MACS.show(network.macs),
            **dict(zip(("left", "x", "right"), across, strict=True)),
            **dict(zip(("bottom", "y", "top"), up, strict=True)),
        }
        for network, across, up in zip(found.networks, alone, inherited, strict=True)
    ]
    base = alt.Chart(style.tabulate(rows))
    bars = base.mark_rule(color=style.GREY, opacity=0.6, aria=False)
    layers = [
        bars.encode(x=x.place_across("left"), x2="right:Q", y=y.place_up("y")),
        bars.encode(x=x.place_across("x"), y=y.place_up("bottom"), y2="top:Q"),
        base.mark_circle(color=style.BLUE, opacity=0.85, stroke="white", strokeWidth=0.8).encode(
            x=x.place_across("x"),
            y=y.place_up("y"),
            size=_encode_macs([network.macs for network in found.networks]),
            tooltip=[
                alt.Tooltip("digest:N", title="architecture"),
                alt.Tooltip("macs_text:N", title="multiply-adds"),
                alt.Tooltip("x:Q", title="trained alone", format=".4~g"),
                alt.Tooltip("y:Q", title="inherited", format=".4~g"),
            ],
            description="digest:N",
        ),
    ]
    equal = _intersect(alone, inherited)
    if equal is not None:
        layers.insert(0, style.draw_diagonal(equal, x, y))
    return alt.layer(*layers).properties(height=380)


def _scale_ends(quality: QualityRecord, scale: float) -> tuple[float, float, float]:
    """The interval around a quality: its lower end, the value, its upper end."""
    return quality.low * scale, quality.value * scale, quality.high * scale


def _make_axis(intervals: Sequence[tuple[float, float, float]], title: str) -> Axis:
    return Axis(title, style.padded_domain([end for interval in intervals for end in interval]))


def _encode_macs(macs: Sequence[float]) -> alt.Size:
    """Larger marks for more MACs; the legend shows the smallest and the largest."""
    legend = alt.Legend(
        orient="top",
        title="multiply-adds",
        titleOrient="left",
        format=".3~s",
        values=sorted({min(macs), max(macs)}),
        symbolFillColor=style.BLUE,
        symbolStrokeWidth=0,
    )
    return alt.Size("macs:Q", scale=alt.Scale(range=[30, 260], zero=False), legend=legend)


def _intersect(
    first: Sequence[tuple[float, float, float]], second: Sequence[tuple[float, float, float]]
) -> tuple[float, float] | None:
    """What two axes have in common, or ``None``."""
    low = max(min(interval[0] for interval in found) for found in (first, second))
    high = min(max(interval[2] for interval in found) for found in (first, second))
    return (low, high) if low < high else None
