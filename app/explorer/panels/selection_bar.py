"""What is selected, on every screen that it filters: how much, by what, and a way to clear it."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.explorer.context import Context
from app.explorer.markup import write_text
from app.records.numbers import format_items
from app.records.searches.front import Front, Point


def show_selection(context: Context) -> None:
    """Say how many points pass region and filters; nothing where there are neither."""
    front, state = context.front, context.state
    if front is None or (state.region is None and not state.filters):
        return
    parts = []
    if state.region is not None:
        names = [front.find_axis(name).title for name in (state.region.x, state.region.y)]
        parts.append(f"a {state.region.kind} over {names[0]} and {names[1]}")
    if state.filters:
        parts.append(format_items(len(state.filters), "choice"))
    kept = int(context.kept.sum())
    sentence = f"{kept:,} of {len(front.points):,} points are selected, by {' and '.join(parts)}."
    best = find_best(context, front)
    st.markdown(write_text(sentence))
    with st.container(horizontal=True):
        if best is not None:
            st.button(
                "Choose the best of them",
                key=f"choose selected {context.key}",
                on_click=lambda: context.update(chosen=best.digest),
                help="The verified one of the highest expected quality within the first budget.",
            )
        st.button(
            "Clear selection",
            key=f"clear {context.key}",
            on_click=lambda: context.update(region=None, filters={}),
        )


def find_best(context: Context, front: Front) -> Point | None:
    """The verified point of the selection within the first budget that has the best expected
    quality; the cheaper of equals."""
    places = front.measured[context.kept[front.measured]]
    if context.budgets:
        costs = front.column(front.cost.name).best[places]
        places = places[costs <= context.budgets[0]]
    if not len(places):
        return None
    qualities = front.column(front.quality.name).best[places]
    # They are in the order of their cost, and the first of equals is taken.
    best = np.argmax(qualities) if front.quality.maximize else np.argmin(qualities)
    return front.points[places[best]]
