"""The explorer's panel on audits: inherited against stand-alone quality, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
import streamlit as st

from app.explorer import markup
from app.explorer.front_chart import SCALE, set_style
from app.records import numbers
from app.records.audit import AuditRecord, QualityRecord, read_audit
from app.reporting.figures import AMBER
from app.runs.directory import Run

PLOT = {"displaylogo": False, "displayModeBar": False}


def panel(path: Path) -> None:
    """Draw the audits of a run, if it has any."""
    run = Run(path)
    names = run.audits
    if not names:
        return
    with st.expander("Audit: do inherited weights rank networks as training alone does?"):
        name = str(st.selectbox("Audit", names, key=f"audit {path}")) if names[1:] else names[0]
        try:
            found = read_audit(run.audit(name))
        except (OSError, ValueError) as error:
            st.warning(markup.sentence(error))
            return
        left, right = st.columns([1.4, 1], gap="large")
        with left:
            st.plotly_chart(audit_figure(found), key=f"audit {path} {name}", config=PLOT)
        with right:
            st.markdown(markup.facts(figures(found), grid=True), unsafe_allow_html=True)
            st.caption(found.verdict)
            for line in findings(found):
                st.caption(line)


def audit_figure(found: AuditRecord) -> go.Figure:
    """One mark per network with its 95 % intervals, darker for more MACs, and the diagonal."""
    rows = found.networks
    scale = 100.0 if found.unit == "fraction" else 1.0
    unit = "%" if found.unit == "fraction" else found.unit
    both = [quality for row in rows for quality in (row.alone, row.inherited)]
    ends = [end * scale for quality in both for end in (quality.low, quality.high)]
    figure = go.Figure()
    figure.add_scatter(
        x=[min(ends), max(ends)], y=[min(ends), max(ends)], mode="lines", name="equal",
        line={"color": AMBER, "width": 1.5, "dash": "dash"}, hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=[row.alone.value * scale for row in rows],
        y=[row.inherited.value * scale for row in rows],
        error_x=_bars([row.alone for row in rows], scale),
        error_y=_bars([row.inherited for row in rows], scale),
        mode="markers",
        name="networks",
        marker={
            "size": 10, "color": [row.macs for row in rows], "colorscale": SCALE,
            "colorbar": {"title": "MACs"}, "line": {"color": "#24292f", "width": 0.5},
        },
        text=[f"{row.digest}, {numbers.write_count(row.macs)} MACs" for row in rows],
        hovertemplate="<b>%{text}</b><br>alone %{x:.4g}, inherited %{y:.4g}<extra></extra>",
    )  # fmt: skip
    name = found.objective
    set_style(
        figure, f"{name} when trained alone ({unit})", f"inherited {name} ({unit})", height=380
    )
    figure.update_layout(showlegend=False)
    return figure


def figures(found: AuditRecord) -> list[tuple[str, str, str]]:
    """Name, value and interval of every correlation and of the mean gap."""
    rows = []
    sparse = f"Sparse Kendall tau ({found.sparse_kendall_tau.bin:g})"
    for statistic, title in (
        (found.kendall_tau, "Kendall tau"),
        (found.sparse_kendall_tau, sparse),
        (found.spearman, "Spearman"),
        (found.kendall_tau_of_macs, "Kendall tau of MACs alone"),
    ):
        value, low, high = statistic.value, statistic.low, statistic.high
        interval = "" if low is None else f"{low:.2f} to {high:.2f}"
        rows.append((title, numbers.MISSING if value is None else f"{value:.2f}", interval))
    gap = found.gap.value
    shown = f"{100 * gap:+.2f} points" if found.unit == "fraction" else f"{gap:+.4f}"
    rows.append(("Mean gap", shown, "inherited less alone"))
    return rows


def findings(found: AuditRecord) -> list[str]:
    """What was found about the inherited weights, in a sentence each."""
    lines = []
    nested = found.monotonicity
    if nested is not None:
        lines.append(
            f"{nested.violations} of {nested.pairs} larger networks are worse than one "
            "inside them, beyond noise."
        )
    idle = [effect.name for effect in found.choices if effect.without_effect]
    if idle:
        lines.append(f"Choices without any effect: {', '.join(idle)}.")
    return lines


def _bars(qualities: Sequence[QualityRecord], scale: float) -> dict[str, object]:
    return {
        "array": [(quality.high - quality.value) * scale for quality in qualities],
        "arrayminus": [(quality.value - quality.low) * scale for quality in qualities],
        "color": "#8A9096", "thickness": 1, "width": 0,
    }  # fmt: skip
