"""The explorer's panel on audits: inherited against stand-alone quality, and what was found."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.explorer import markup
from app.explorer.drawn import show_chart
from app.explorer.markup import write_text
from app.progress import WARNING
from app.records.audit import AuditRecord, read_audit
from app.records.numbers import MISSING, format_items, format_percent
from app.records.quantities import MACS, find_stored_quantity
from app.reporting.audit_text import RECIPE_HEADER, list_figures, list_findings, list_recipes
from app.reporting.audit_verdict import (
    describe_intervals,
    describe_worth,
    judge_recipes,
    list_advice,
)
from app.reporting.charts.audit_chart import draw_audit
from app.runs.directory import Run
from supernet.errors import InputError


def show_audits(path: Path) -> None:
    """Draw the audits of a run, if it has any."""
    run = Run(path)
    names = run.audits
    if not names:
        return
    st.markdown("**Audit: do inherited weights rank networks as training alone does?**")
    name = str(st.selectbox("Audit", names, key=f"audit {path}")) if names[1:] else names[0]
    try:
        found = read_audit(run.audit(name))
    except (OSError, InputError) as error:
        st.warning(write_text(error))
        return
    st.markdown(write_text(describe_worth(found)))
    for line in list_advice(found):
        if line.startswith(WARNING):
            said = line.removeprefix(WARNING)
            st.warning(write_text(f"{said[:1].upper()}{said[1:]}"))
        else:
            st.caption(write_text(line))
    left, right = st.columns([1.4, 1], gap="large")
    with left:
        key = f"audit chart {path} {name}"
        show_chart(key, (found.at, str(found.networks)), lambda: draw_audit(found))
    with right:
        st.markdown(markup.write_facts(list_figures(found), grid=True), unsafe_allow_html=True)
        for line in (describe_intervals(found), *list_findings(found)):
            st.caption(write_text(line))
    _show_recipes(found)
    _show_details(found)


def _show_recipes(found: AuditRecord) -> None:
    """Supernets of other recipes beside that of the run, if any were trained."""
    if not found.recipes:
        return
    st.caption("Supernets trained by other recipes, at equal passes")
    rows = [dict(zip(RECIPE_HEADER, row, strict=True)) for row in list_recipes(found)]
    st.dataframe(rows, hide_index=True)
    for line in judge_recipes(found):
        st.caption(write_text(line))


def _show_details(found: AuditRecord) -> None:
    """What the audit found by the size of networks, and for each choice."""
    left, right = st.columns(2, gap="large")
    if found.by_size:
        with left:
            st.caption("By the size of the networks")
            st.dataframe(list_sizes(found), hide_index=True)
    if found.choices:
        with right:
            st.caption("What a larger value of each choice changes, with inherited weights")
            st.dataframe(list_effects(found), hide_index=True)


def list_sizes(found: AuditRecord) -> list[dict[str, str]]:
    """The gap between both qualities among networks of similar size, the smallest first."""
    quality = find_stored_quantity(found.objective, found.unit, "maximize")
    return [
        {
            "multiply-adds": " to ".join(MACS.show(end) for end in part.macs),
            "networks": f"{part.networks:,}",
            "mean gap": quality.show_difference(part.gap.value, 0.0),
            "95 % interval": f"{quality.show_difference(part.gap.low, 0.0)} to "
            f"{quality.show_difference(part.gap.high, 0.0)}",
            "Kendall tau": MISSING if part.kendall_tau is None else f"{part.kendall_tau:.2f}",
        }
        for part in found.by_size
    ]


def list_effects(found: AuditRecord) -> list[dict[str, str]]:
    """What each choice changes, the largest change first; the text is shown as it is."""
    quality = find_stored_quantity(found.objective, found.unit, "maximize")
    return [
        {
            "choice": effect.name,
            "mean change": quality.show_difference(effect.change, 0.0),
            "mean size": quality.show_difference(effect.absolute_change, 0.0).lstrip("+"),
            "probability moved": format_percent(effect.output_change),
            "over": format_items(effect.probes, "pair"),
        }
        for effect in sorted(found.choices, key=lambda effect: -effect.absolute_change)
    ]
