"""The search space along the front: which choices its architectures make."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.explorer import layers
from app.explorer.architecture_charts import choose_columns, draw_genomes
from app.explorer.context import Context, linked
from app.explorer.header import show_next_step
from app.explorer.opened import isolated


@linked
def show(context: Context) -> None:
    """Draw the choices of the architectures along the front."""
    front = context.front
    if front is None:
        show_next_step(context.run, context.place)
        return
    space = context.space
    if space is None and context.run.space is not None:
        st.warning("This search was made in another space than space.json holds.")
    with isolated("The architectures along the front"):
        st.caption(
            "Every front architecture is a column, cheapest on the left; darker is a larger value, "
            "empty is a skipped layer. The chosen one is framed."
        )
        digest = context.chosen.digest if context.chosen else None
        known = front.on_front & ~np.isnan(front.column(front.cost.name).best)
        # Those of unknown cost are last.
        members = front.list_front()[: int(known.sum())]
        rows = (
            len(space) if space is not None else max((len(p.choices) for p in members), default=0)
        )
        columns = choose_columns(members, rows, digest)
        if len(columns) < len(members):
            st.caption(f"{len(columns):,} of {len(members):,} are drawn.")
        genome = layers.line_up(space, columns)
        st.altair_chart(draw_genomes(genome, front, digest), key=f"genome {context.key}")
