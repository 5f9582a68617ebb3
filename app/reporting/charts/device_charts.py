"""Devices as charts: tables against measurements, units of a network, and how devices agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from app.analysis.devices import Agreement
from app.records.device import ComparedNetwork
from app.records.numbers import MISSING, format_items, format_percent
from app.records.quantities import LATENCY
from app.reporting.charts import chart_style as style
from app.reporting.charts.chart_style import Axis, Row

HELD_OUT, CALIBRATED = "judges the table", "the table was fitted to it"
MEASURED, PREDICTED = "measured", "predicted by the table"
CHOSEN, ALONG_FRONT = "chosen", "mean along the front"
# Room for the text beside the longest bar, as a share of it.
_TEXT_ROOM = 0.3


@dataclass(frozen=True)
class OnDevice:
    """The latency of one network on one device, in milliseconds; ``None`` is "not known".

    Args:
        device: Name of the device.
        predicted_ms: By its table.
        measured_ms: On the device.
        low_ms: Lower end of the 95 % interval of the measurement.
        high_ms: Upper end.
    """

    device: str
    predicted_ms: float | None
    measured_ms: float | None
    low_ms: float | None = None
    high_ms: float | None = None


def draw_table_parity(points: Sequence[ComparedNetwork]) -> alt.LayerChart:
    """Measured against predicted latency of whole networks, with the 95 % interval of each.

    Args:
        points: At least one.
    """
    ends = style.padded_domain(
        [end for point in points for end in (point.predicted_ms, point.measured_ms)]
    )
    rows: list[Row] = [
        {
            "digest": point.digest,
            "kind": CALIBRATED if point.calibration else HELD_OUT,
            "x": point.predicted_ms,
            "y": point.measured_ms,
            "low": point.low_ms,
            "high": point.high_ms,
            "predicted": LATENCY.show(point.predicted_ms),
            "measured": LATENCY.show(point.measured_ms),
            "error": _write_error(point),
        }
        for point in style.spread_evenly(points)
    ]
    x, y = Axis("predicted latency (ms)", ends), Axis("measured latency (ms)", ends)
    base = alt.Chart(style.tabulate(rows))
    bars = base.mark_rule(color=style.GREY, opacity=0.6, aria=False).encode(
        x=x.place_across("x"), y=y.place_up("low"), y2=alt.Y2("high:Q")
    )
    kinds = [kind for kind in (HELD_OUT, CALIBRATED) if any(row["kind"] == kind for row in rows)]
    looks = {HELD_OUT: (style.BLUE, "circle"), CALIBRATED: (style.GREY, "diamond")}
    legend = alt.Legend(orient="top", title=None, labelLimit=280, columns=1)
    marks = base.mark_point(filled=True, size=55, opacity=0.85).encode(
        x=x.place_across("x"),
        y=y.place_up("y"),
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=kinds, range=[looks[kind][0] for kind in kinds]),
            legend=legend,
        ),
        shape=alt.Shape(
            "kind:N",
            scale=alt.Scale(domain=kinds, range=[looks[kind][1] for kind in kinds]),
            legend=legend,
        ),
        tooltip=[
            alt.Tooltip("digest:N", title="architecture"),
            alt.Tooltip("predicted:N"),
            alt.Tooltip("measured:N"),
            alt.Tooltip("error:N", title="prediction off by"),
        ],
        description=alt.Description("digest:N"),
    )
    return alt.layer(style.draw_diagonal(ends, x, y), bars, marks).properties(height=340)


def _write_error(point: ComparedNetwork) -> str:
    if not point.measured_ms:
        return ""
    return f"{100 * (point.predicted_ms / point.measured_ms - 1):+.1f} %"


def draw_agreement(devices: Sequence[str], found: Sequence[Agreement]) -> alt.LayerChart:
    """The rank correlation of every two devices as a matrix, darker for more.

    Args:
        devices: In the order of rows and columns.
        found: Every pair of them.
    """
    rows: list[Row] = []
    for one in found:
        interval = "" if one.low is None else f"{one.low:.2f} to {one.high:.2f}"
        text = MISSING if one.spearman is None else _write_correlation(one.spearman)
        common: Row = {
            "spearman": one.spearman,
            "text": text,
            "interval": interval,
            "networks": format_items(one.networks, "network"),
        }
        rows.append({"row": one.first, "column": one.second, **common})
        rows.append({"row": one.second, "column": one.first, **common})
    whole: Row = {"spearman": 1.0, "text": "1", "interval": "", "networks": "itself"}
    rows += [{"row": device, "column": device, **whole} for device in devices]
    scale = alt.Scale(domain=list(devices), paddingInner=0.04)
    known = [float(one.spearman) for one in found if one.spearman is not None]
    least = min([0.0, *known])
    shades = alt.Scale(domain=[least, (1 + least) / 2, 1], range=list(style.SHADES))
    base = alt.Chart(style.tabulate(rows)).encode(
        x=alt.X(
            "column:N",
            scale=scale,
            axis=alt.Axis(title=None, labelAngle=-50, labelLimit=120, ticks=False),
        ),
        y=alt.Y("row:N", scale=scale, axis=alt.Axis(title=None, labelLimit=120, ticks=False)),
        tooltip=[
            alt.Tooltip("row:N", title="device"),
            alt.Tooltip("column:N", title="and"),
            alt.Tooltip("text:N", title="Spearman"),
            alt.Tooltip("interval:N", title="95 % interval"),
            alt.Tooltip("networks:N", title="over"),
        ],
    )
    cells = base.mark_rect(cornerRadius=2).encode(
        color=alt.Color("spearman:Q", scale=shades, legend=None)
    )
    edge = least + 0.6 * (1 - least)
    dark = alt.condition(f"datum.spearman > {edge}", alt.value("white"), alt.value("#10202e"))
    texts = base.mark_text(fontSize=11, aria=False).encode(text=alt.Text("text:N"), color=dark)
    return alt.layer(cells, texts).properties(height=120 + 34 * len(devices))


def _write_correlation(rho: float) -> str:
    """A correlation with as many digits as tell it from 1."""
    return f"{rho:.3f}" if 0.99 < abs(rho) < 1 else f"{rho:.2f}"


def draw_on_devices(found: Sequence[OnDevice]) -> alt.LayerChart:
    """One network on every device: predicted and, with its interval, measured.

    Args:
        found: A device each, from the top.
    """
    rows: list[Row] = []
    for one in found:
        for kind, value in ((MEASURED, one.measured_ms), (PREDICTED, one.predicted_ms)):
            if value is not None:
                ends = (one.low_ms, one.high_ms) if kind == MEASURED else (None, None)
                rows.append(
                    {
                        "device": one.device,
                        "kind": kind,
                        "latency": value,
                        "text": LATENCY.show(value),
                        "low": ends[0],
                        "high": ends[1],
                    }
                )
    longest = max((float(row["latency"] or 0.0) for row in rows), default=1.0) or 1.0
    across = Axis("latency (ms)", (0, (1 + _TEXT_ROOM) * longest))
    kinds = [MEASURED, PREDICTED]
    base = alt.Chart(style.tabulate(rows)).encode(
        y=alt.Y(
            "device:N",
            scale=alt.Scale(domain=[one.device for one in found], paddingInner=0.3),
            axis=alt.Axis(title=None, labelLimit=160, labelOverlap=False, grid=False),
        ),
        yOffset=alt.YOffset("kind:N", sort=kinds),
        tooltip=[
            alt.Tooltip("device:N"),
            alt.Tooltip("kind:N", title="latency is"),
            alt.Tooltip("text:N", title="latency"),
        ],
    )
    colors = alt.Scale(domain=kinds, range=[style.BLUE, style.GREY])
    bars = base.mark_bar().encode(
        x=across.place_across("latency"),
        color=alt.Color("kind:N", scale=colors, legend=alt.Legend(orient="top", title=None)),
    )
    texts = base.mark_text(align="left", dx=6, fontSize=11, color=style.MUTED, aria=False)
    intervals = base.mark_rule(color=style.AMBER, strokeWidth=1.5, aria=False)
    layers = [
        bars,
        intervals.encode(x=across.place_across("low"), x2=alt.X2("high:Q")),
        texts.encode(x=across.place_across("latency"), text=alt.Text("text:N")),
    ]
    return alt.layer(*layers).properties(height=110 + 48 * max(len(found), 1))


def draw_unit_shares(
    chosen: Mapping[str, float], along_front: Mapping[str, float], order: Sequence[str]
) -> alt.LayerChart:
    """What each unit takes of the latency of a network, and on average along the front.

    Args:
        chosen: Share of the latency by unit, as a fraction; empty without a network.
        along_front: The mean share over the front, where a unit that is skipped takes nothing.
        order: Units from the top.
    """
    members = [(kind, shares) for kind, shares in ((CHOSEN, chosen), (ALONG_FRONT, along_front))
               if shares]  # fmt: skip
    rows: list[Row] = [
        {
            "unit": unit,
            "kind": kind,
            "share": 100 * shares[unit],
            "text": format_percent(shares[unit]),
        }
        for kind, shares in members
        for unit in order
        if unit in shares
    ]
    longest = max((float(row["share"] or 0.0) for row in rows), default=1.0) or 1.0
    kinds = [kind for kind, _ in members]
    looks = {CHOSEN: style.BLUE, ALONG_FRONT: style.GREY}
    base = alt.Chart(style.tabulate(rows)).encode(
        y=alt.Y(
            "unit:N",
            scale=alt.Scale(domain=list(order), paddingInner=0.3),
            axis=alt.Axis(title=None, labelLimit=260, labelOverlap=False, grid=False),
        ),
        yOffset=alt.YOffset("kind:N", sort=kinds),
        x=Axis("share of the latency (%)", (0, (1 + _TEXT_ROOM) * longest)).place_across("share"),
        tooltip=[
            alt.Tooltip("unit:N"),
            alt.Tooltip("kind:N", title="of"),
            alt.Tooltip("text:N", title="share"),
        ],
    )
    colors = alt.Scale(domain=kinds, range=[looks[kind] for kind in kinds])
    bars = base.mark_bar().encode(
        color=alt.Color("kind:N", scale=colors, legend=alt.Legend(orient="top", title=None))
    )
    texts = base.mark_text(align="left", dx=4, fontSize=11, color=style.MUTED, aria=False)
    height = 100 + 19 * max(len(kinds), 1) * max(len(order), 1)
    return alt.layer(bars, texts.encode(text=alt.Text("text:N"))).properties(height=height)
