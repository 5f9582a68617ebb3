"""Networks side by side: what differs, and what the difference is worth."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.explorer import layers, markup
from app.explorer.context import Context, linked
from app.explorer.markup import write_text
from app.explorer.networks.unit_panel import ask_breakdown, find_breakdown
from app.explorer.networks.why import Explained, explain_latency, explain_quality
from app.explorer.opened import isolated
from app.explorer.panels.header import show_next_step
from app.explorer.panels.widgets import hold
from app.records.numbers import format_items
from app.records.searches import picking
from app.records.searches.front import Front, Point
from app.reporting.markdown import write_code

# A list of more architectures than this is not read by anybody.
MOST_OFFERED = 300


@linked
def show(context: Context) -> None:
    """Draw the chosen network beside others."""
    front, chosen = context.front, context.chosen
    if front is None:
        show_next_step(context.run, context.place)
        return
    if chosen is None:
        st.info("Raise the budget on the screen Front to choose a subnetwork.")
        return
    _select_compared(context, front, chosen)
    if not context.compared:
        _suggest_compared(context, front, chosen)
        return
    with isolated("The figures"):
        header = ["figure", f"chosen {chosen.digest}", *(p.digest for p in context.compared)]
        rows = list_differences(front, chosen, context.compared)
        table = markup.write_table(header, rows, "Figures of the compared networks")
        st.markdown(table, unsafe_allow_html=True)
    for other in context.compared:
        with isolated("This comparison"):
            _show_pair(context, front, chosen, other)


def list_differences(
    front: Front, chosen: Point, compared: Sequence[Point]
) -> list[tuple[str, ...]]:
    """A row for each quantity, with a text for each network; differences are from the chosen."""
    rows: list[tuple[str, ...]] = []
    for axis in front.axes:
        ours = chosen.best(axis.name)
        row = [axis.title, axis.show(ours)]
        for other in compared:
            theirs = other.best(axis.name)
            shown = axis.show(theirs)
            if ours is not None and theirs is not None:
                shown = f"{shown} ({axis.show_difference(theirs, ours)})"
            row.append(shown)
        rows.append(tuple(row))
    return rows


def _select_compared(context: Context, front: Front, chosen: Point) -> None:
    front_points = front.list_front()
    step = max(1, -(-len(front_points) // MOST_OFFERED))
    compared = [point.digest for point in context.compared]
    offered = [point.digest for point in front_points[::step]]
    options = [d for d in dict.fromkeys((*offered, *compared)) if d != chosen.digest]
    key = f"compare {context.key}"
    hold(key, compared)
    st.multiselect(
        write_text(f"Compare the chosen one, {_describe(front, chosen.digest)}, with"),
        options,
        format_func=lambda digest: _describe(front, digest),
        key=key,
        on_change=lambda: context.update(compared=tuple(st.session_state[key])),
        placeholder="Choose networks of the front; any other by a click in its chart",
    )


def _suggest_compared(context: Context, front: Front, chosen: Point) -> None:
    """Offer networks that the chosen one is often held against."""
    space, named = context.space, {}
    if space is not None:
        for title, member in (("the smallest", space.smallest), ("the largest", space.largest)):
            if front.find_places(member.digest):
                named[title] = front.find_point(member.digest)
    knee = picking.pick_knee(front)
    if knee is not None:
        named["the knee"] = knee
    members = front.list_front()
    if members:
        named["the cheapest of the front"] = members[0]
        named["the most expensive of the front"] = members[-1]
    offered = {
        title: point.digest for title, point in named.items() if point.digest != chosen.digest
    }
    st.caption("Nothing is beside it yet. It can be held against:")
    with st.container(horizontal=True):
        for title, digest in offered.items():
            st.button(
                title.capitalize(),
                key=f"against {title} {context.key}",
                on_click=lambda digest=digest: context.update(compared=(digest,)),
            )


def _describe(front: Front, digest: str) -> str:
    point, quality, cost = front.find_point(digest), front.quality, front.cost
    return (
        f"{digest} · {quality.show(point.best(quality.name))} · {cost.show(point.best(cost.name))}"
    )


def _show_pair(context: Context, front: Front, chosen: Point, other: Point) -> None:
    rows = layers.group_layers(context.space, chosen.choices, other.choices)
    changed = layers.list_changes(rows)
    st.markdown(
        f"**{write_code(chosen.digest)}** against **{write_code(other.digest)}**: "
        f"{format_items(len(changed), 'choice differs', 'choices differ')}"
    )
    left, right = st.columns([1.12, 1.2], gap="medium")
    left.markdown(markup.write_layers(rows), unsafe_allow_html=True)
    with right:
        key = f"{context.key} {other.digest}"
        units = [find_breakdown(context, front, point) for point in (chosen, other)]
        _show_explained(explain_latency(front, chosen, other, units), f"why latency {key}")
        for point in (chosen, other):
            ask_breakdown(context, point)
        with isolated("The difference in quality"):
            _show_explained(explain_quality(context, front, chosen, other), f"why quality {key}")


def _show_explained(explained: Explained, key: str) -> None:
    st.markdown(f"**Why {write_text(explained.quantity.title)} differs**, chosen less compared")
    if explained.split is None:
        st.info(write_text(explained.method))
        return
    # Only what is drawn has to wait for the library that draws it.
    from app.reporting.charts.difference_chart import draw_split

    st.altair_chart(draw_split(explained.split, explained.quantity, "rest"), key=key)
    st.caption(write_text(explained.method))
