"""The training of the supernet, and what audits found about its weights."""

from __future__ import annotations

import streamlit as st

from app.explorer import audit_panel
from app.explorer.context import Context, linked
from app.explorer.opened import isolated
from app.runs.directory import Run


@linked
def show(context: Context) -> None:
    """Draw the audits of the run."""
    if not Run(context.run.path).audits:
        st.info("No audit was made of this run.")
    with isolated("The audits of this run"):
        audit_panel.show_audits(context.run.path)
