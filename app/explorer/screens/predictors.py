"""How well the predictors of a search did on architectures that they had not seen."""

from __future__ import annotations

import streamlit as st

from app.explorer import markup
from app.explorer.context import Context, linked
from app.explorer.header import show_next_step
from app.explorer.markup import write_text
from app.reporting.progress_charts import draw_learning_curve, draw_parity


@linked
def show(context: Context) -> None:
    """Draw report cards, learning curves and predicted against evaluated values."""
    front, key = context.front, context.key
    if front is None:
        show_next_step(context.run, context.place)
        return
    st.markdown("**How well the predictor did**")
    for name, report in front.reports.items():
        st.caption(f"Predictor of {write_text(name)}, on architectures it had not seen")
        st.markdown(
            markup.write_facts(markup.list_card(report, front.find_axis(name)), grid=True),
            unsafe_allow_html=True,
        )
        if len(report.curve) > 1:
            st.altair_chart(draw_learning_curve(report.curve), key=f"curve {name} {key}")
    if not front.reports:
        st.info("This search used no predictor, or stored no report of it.")
    chart = draw_parity(front, front.quality)
    if chart is not None:
        st.altair_chart(chart, key=f"parity {key}")
