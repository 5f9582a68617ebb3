"""How a search went: its progress, and why it ended."""

from __future__ import annotations

import streamlit as st

from app.explorer.context import Context, linked
from app.explorer.header import show_next_step
from app.explorer.markup import write_text
from app.explorer.opened import open_trace
from app.records.front import Front
from app.records.numbers import format_items
from app.reporting.progress_charts import draw_hypervolume
from supernet.errors import InputError


@linked
def show(context: Context) -> None:
    """Draw the progress of the search."""
    front = context.front
    if front is None:
        show_next_step(context.run, context.place)
        return
    st.markdown("**Progress of the search**")
    try:
        rows = open_trace(context.run.path / "searches" / front.search, front.trace_digests)
    except (OSError, InputError) as error:
        st.warning(write_text(error))
        rows = ()
    if rows:
        st.altair_chart(draw_hypervolume(rows), key=f"progress {context.key}")
    else:
        st.info("No progress was recorded for this search.")
    volume = front.hypervolume
    if volume.predicted is not None and volume.verified is not None:
        st.caption(
            f"Hypervolume of the front: {volume.predicted:.4g} as predicted, "
            f"{volume.verified:.4g} verified."
        )
    if _describe_end(front):
        st.caption(_describe_end(front))


def _describe_end(front: Front) -> str:
    """Why a search ended, what failed, and how far noise blurs its front."""
    reasons = {
        "time": "its time limit",
        "stagnation": "a front that stood still",
        "exhausted": "a space that was used up",
    }
    parts = []
    if front.stopped in reasons:
        parts.append(f"The search ended by {reasons[front.stopped]}.")
    if front.failed:
        failed = format_items(
            front.failed, "evaluation failed and is", "evaluations failed and are"
        )
        parts.append(f"{failed} left out.")
    close = int(front.indistinguishable.sum())
    if close:
        parts.append(
            f"{format_items(close, 'further point is', 'further points are')} behind the front by "
            "less than the noise of their evaluations."
        )
    return " ".join(parts)
