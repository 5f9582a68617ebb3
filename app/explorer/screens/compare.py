"""Networks side by side: what differs, and what the difference is worth."""

from __future__ import annotations

import streamlit as st

from app.explorer import layers, markup
from app.explorer.architecture_charts import draw_breakdown
from app.explorer.context import Context, linked
from app.explorer.header import show_next_step
from app.explorer.markup import write_text
from app.explorer.opened import isolated
from app.records.front import Front, Point
from app.records.numbers import format_items
from app.reporting.chart_style import spread_evenly
from app.reporting.markdown import write_code

# A list of more architectures than this is not read by anybody.
MOST_OFFERED = 300


@linked
def show(context: Context) -> None:
    """Draw the chosen network beside others."""
    front, chosen = context.front, context.chosen
    if front is None:
        show_next_step(context.run)
        return
    if chosen is None:
        st.info("Raise the budget on the screen Front to choose a subnetwork.")
        return
    _select_compared(context, front)
    for other in context.compared:
        with isolated("This comparison"):
            _show_pair(context, front, chosen, other)


def _select_compared(context: Context, front: Front) -> None:
    offered = [p.digest for p in spread_evenly(front.list_front(), MOST_OFFERED)]
    compared = [p.digest for p in context.compared]
    mine = context.chosen.digest if context.chosen else ""
    options = [d for d in dict.fromkeys((*offered, *compared)) if d != mine]
    key = f"compare {context.key}"
    st.session_state[key] = compared
    quality, cost = front.quality, front.cost

    def describe(digest: str) -> str:
        point = front.find_point(digest)
        return (
            f"{digest} · {quality.show(point.best(quality.name))} · "
            f"{cost.show(point.best(cost.name))}"
        )

    st.multiselect(
        "Compare the chosen one with",
        options,
        format_func=describe,
        key=key,
        on_change=lambda: context.update(compared=tuple(st.session_state[key])),
    )


def _show_pair(context: Context, front: Front, chosen: Point, compared: Point) -> None:
    rows = layers.group_layers(context.space, chosen.choices, compared.choices)
    left, right = st.columns([1.4, 1], gap="large")
    left.markdown(markup.write_layers(rows), unsafe_allow_html=True)
    with right:
        changed = layers.list_changes(rows)
        st.markdown(
            f"**{write_code(chosen.digest)}** against **{write_code(compared.digest)}**: "
            f"{format_items(len(changed), 'choice differs', 'choices differ')}"
        )
        st.table(
            [
                {
                    # Cells of a table are Markdown, too.
                    "": write_text(axis.title),
                    "chosen": write_text(axis.show(ours)),
                    "compared": write_text(axis.show(theirs)),
                    "difference": write_text(axis.show_difference(ours, theirs)),
                }
                for axis in front.axes
                for ours, theirs in [(chosen.best(axis.name), compared.best(axis.name))]
            ]
        )
        if chosen.breakdown:
            key = f"breakdown {context.key} {compared.digest}"
            st.altair_chart(draw_breakdown(chosen, compared), key=key)
