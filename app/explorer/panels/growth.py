"""A run that grows while it is looked at: the page says so, and reads it again when asked."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.explorer.opened import State, observe_run

SECONDS = 5


def watch_run(path: Path) -> None:
    """Look every few seconds whether a run is still as it is shown, and offer to read it again."""
    _watch(path, observe_run(path))


@st.fragment(run_every=SECONDS)
def _watch(path: Path, shown: State) -> None:
    if observe_run(path) == shown:
        return
    said, again = st.columns([4, 1], vertical_alignment="center")
    said.info("This run has grown or changed since it was read.")
    if again.button("Show what is new", key=f"read again {path}"):
        st.rerun()
