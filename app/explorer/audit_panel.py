"""The explorer's panel on audits: inherited against stand-alone quality, and what was found."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.explorer import markup
from app.explorer.markup import write_text
from app.records.audit import read_audit
from app.reporting.audit_chart import draw_audit
from app.reporting.audit_text import list_figures, list_findings
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
