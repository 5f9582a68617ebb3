"""Every run and search that the page was given."""

from __future__ import annotations

import streamlit as st

from app.explorer.context import Context, linked
from app.explorer.markup import write_text
from app.explorer.opened import Unreadable, outline_run
from app.explorer.sidebar import shorten


@linked
def show(context: Context) -> None:
    """List the searches of all runs."""
    rows = []
    for path in context.runs:
        found = outline_run(path)
        if isinstance(found, Unreadable):
            continue
        rows += [
            {
                "run": write_text(shorten(path, list(context.runs))),
                "search": write_text(search.name),
                "device": write_text(search.device),
            }
            for search in found
        ]
    if rows:
        st.table(rows)
    else:
        st.info("No run has a search yet.")
