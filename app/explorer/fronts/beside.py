"""Fronts of other searches that can be drawn beside the one that is looked at."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.explorer.context import Context, leave_out
from app.explorer.opened import Unreadable, open_run, outline_run
from app.explorer.panels.sidebar import shorten
from app.explorer.panels.widgets import hold
from app.records.searches.front import Front

# A run and the name of one of its searches.
Place = tuple[Path, str]


def leave_out_unknown(context: Context) -> None:
    """Look at no front beside this one that the runs do not have."""
    beside = context.state.beside
    if beside:
        found = {} if context.front is None else list_others(context, context.front)
        known = tuple(label for label in beside if label in found)
        if known != beside:
            leave_out("beside", known)


def select_beside(
    context: Context, front: Front, label: str = "Draw beside it", most: int | None = None
) -> tuple[tuple[str, Front], ...]:
    """Draw the selector of other fronts; those that are chosen, by their labels.

    Args:
        context: What is looked at.
        front: The front that they are drawn beside.
        label: Of the selector, which also tells one selector from another.
        most: How many can be chosen at most, if not all.
    """
    found = list_others(context, front)
    if not found:
        return ()
    key = f"{label} {context.key}"
    hold(key, [name for name in context.state.beside if name in found][:most])
    st.multiselect(
        label,
        list(found),
        key=key,
        max_selections=most,
        on_change=lambda: context.update(beside=tuple(st.session_state[key])),
    )
    fronts = []
    for place in st.session_state[key]:
        path, name = found[place]
        other = open_run(path)
        if not isinstance(other, Unreadable) and name in other.fronts:
            fronts.append((place, other.fronts[name]))
    return tuple(fronts)


def list_others(context: Context, front: Front) -> dict[str, Place]:
    """Searches with the same two figures, by their labels."""
    runs = list(context.runs)
    wanted = (front.quality.name, front.cost.name)
    found = {}
    for path in runs:
        searches = outline_run(path)
        if isinstance(searches, Unreadable):
            continue  # The page names it, with the reason.
        for search in searches:
            here = path == context.run.path and search.name == front.search
            if not here and (search.quality, search.cost) == wanted:
                name = f"{shorten(path, runs)} / {search.name} ({search.device})"
                found[name] = (path, search.name)
    return found
