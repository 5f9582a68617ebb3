"""The explorer's panel on audits: inherited against stand-alone quality, and what was found."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.explorer import markup
from app.explorer.markup import write_text
from app.records import numbers
from app.records.audit import AuditRecord, read_audit
from app.reporting.audit_chart import draw_audit
from app.runs.directory import Run
from supernet.errors import InputError


def show_audits(path: Path) -> None:
    """Draw the audits of a run, if it has any."""
    run = Run(path)
    names = run.audits
    if not names:
        return
    with st.expander("Audit: do inherited weights rank networks as training alone does?"):
        name = str(st.selectbox("Audit", names, key=f"audit {path}")) if names[1:] else names[0]
        try:
            found = read_audit(run.audit(name))
        except (OSError, InputError) as error:
            st.warning(write_text(error))
            return
        left, right = st.columns([1.4, 1], gap="large")
        with left:
            st.altair_chart(draw_audit(found), key=f"audit {path} {name}")
        with right:
            st.markdown(markup.write_facts(list_figures(found), grid=True), unsafe_allow_html=True)
            st.caption(write_text(found.verdict))
            for line in list_findings(found):
                st.caption(write_text(line))


def list_figures(found: AuditRecord) -> list[tuple[str, str, str]]:
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


def list_findings(found: AuditRecord) -> list[str]:
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
