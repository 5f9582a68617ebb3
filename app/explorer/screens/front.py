"""The front: what each budget buys, and what lies behind."""

from __future__ import annotations

import streamlit as st

from app.explorer.budgets import make_scale
from app.explorer.chosen_card import show_chosen
from app.explorer.context import Context, linked
from app.explorer.header import show_next_step
from app.explorer.markup import write_text
from app.explorer.opened import Unreadable, isolated, open_run, outline_run
from app.explorer.sidebar import shorten
from app.records.front import Front
from app.records.quantities import Quantity
from app.reporting.front_chart import CLICKED, Emphasis, draw_front


@linked
def show(context: Context) -> None:
    """Draw the front of the search, the budget and what is best within it."""
    front = context.front
    if front is None:
        show_next_step(context.run)
        return
    if not front.points:
        st.info("This search has not evaluated anything yet; run its command again to go on.")
        return
    with isolated("This search"):
        _show_front(context, front)


def _show_front(context: Context, front: Front) -> None:
    left, right = st.columns([1.75, 1], gap="large")
    with right:
        _ask_budget(context, front)
        show_chosen(context, front)
        beside = _select_beside(context, front)
    with left:
        first, second, third = st.columns([1, 1, 1.1], vertical_alignment="bottom")
        with first:
            x = _ask_axis(context, front, "Horizontal", "x", front.cost)
        with second:
            y = _ask_axis(context, front, "Vertical", "y", front.quality)
        key = f"behind {context.key}"
        st.session_state[key] = "dominated" in context.state.shown
        third.checkbox(
            "Show other evaluated points",
            key=key,
            on_change=lambda: context.update(shown=context.state.shown ^ {"dominated"}),
        )
        emphasis = Emphasis(
            chosen=context.chosen.digest if context.chosen else None,
            compared=context.compared[0].digest if context.compared else None,
            budget=context.budgets[0] if context.budgets else None,
            behind="dominated" in context.state.shown,
            others=beside,
        )
        st.altair_chart(
            draw_front(front, x, y, emphasis),
            key=f"front {context.key}",
            on_select=lambda: compare_clicked(context, front),
            selection_mode=CLICKED,
        )
        method = front.latency_method
        st.caption(
            "Bars are 95 % intervals. Click a point to compare it with the chosen one.",
            help=f"Latency: {write_text(method)}" if method else None,
        )


def _ask_axis(context: Context, front: Front, label: str, name: str, default: Quantity) -> Quantity:
    axes = {axis.name: axis for axis in front.axes}
    key = f"{name} {context.key}"
    st.session_state[key] = getattr(context.state, name) or default.name
    st.selectbox(
        label,
        list(axes),
        format_func=lambda found: axes[found].axis_label,
        key=key,
        on_change=lambda: context.update(**{name: st.session_state[key]}),
    )
    return axes[st.session_state[key]]


def _ask_budget(context: Context, front: Front) -> None:
    scale = make_scale(front)
    if scale is None:
        st.warning(
            "No point of this search was verified by measurement yet. "
            "Running the search command again finishes the verification."
        )
        return
    cost = front.cost
    key = f"budget {context.key}"
    st.session_state[key] = min(max(context.budgets[0] * cost.scale, scale.low), scale.high)
    label = f"{cost.title.capitalize()} budget ({cost.shown_unit})"
    st.slider(
        write_text(label + describe_place(front)),
        scale.low,
        scale.high,
        step=scale.step,
        format=f"%.{scale.decimals}f",
        key=key,
        on_change=lambda: context.update(
            budgets=(st.session_state[key] / cost.scale, *context.state.budgets[1:]), chosen=""
        ),
    )


def describe_place(front: Front) -> str:
    """On which device a latency budget is spent, and whether latencies were measured there."""
    if not front.cost.per_device:
        return ""
    device = front.cost.device or front.device
    return f", {'by the table of' if device in front.unmeasured else 'measured on'} {device}"


def _select_beside(context: Context, front: Front) -> list[tuple[str, Front]]:
    """Fronts of other searches with the same two figures, as chosen by the user."""
    runs = list(context.runs)
    wanted = (front.quality.name, front.cost.name)
    found = {}
    for path in runs:
        searches = outline_run(path)
        if isinstance(searches, Unreadable):
            continue  # It is named below, with the reason.
        for search in searches:
            here = path == context.run.path and search.name == front.search
            if not here and (search.quality, search.cost) == wanted:
                name = f"{shorten(path, runs)} / {search.name} ({search.device})"
                found[name] = (path, search.name)
    if not found:
        return []
    key = f"beside {context.key}"
    st.session_state[key] = [label for label in context.state.beside if label in found]
    st.multiselect(
        "Draw beside it",
        list(found),
        key=key,
        on_change=lambda: context.update(beside=tuple(st.session_state[key])),
    )
    overlays = []
    for label in st.session_state[key]:
        path, search_name = found[label]
        other = open_run(path)
        if not isinstance(other, Unreadable) and search_name in other.fronts:
            overlays.append((label, other.fronts[search_name]))
    return overlays


def compare_clicked(context: Context, front: Front) -> None:
    """Compare with the point of this front that was clicked; a click elsewhere changes nothing."""
    event = st.session_state.get(f"front {context.key}") or {}
    found = event.get("selection", {}).get(CLICKED, [])
    if found and front.find_places(found[0].get("digest")):
        context.update(compared=(found[0]["digest"],))
