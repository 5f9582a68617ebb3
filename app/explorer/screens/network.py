"""One network: its layers, its figures, its units, its files."""

from __future__ import annotations

import json

import streamlit as st

from app.explorer import layers, markup
from app.explorer.context import Context, linked
from app.explorer.networks.chosen_card import show_chosen, show_commands
from app.explorer.networks.export_panel import show_export
from app.explorer.networks.figures import HEADER, list_figures
from app.explorer.networks.unit_panel import show_units
from app.explorer.opened import isolated
from app.explorer.panels.header import show_next_step
from app.records.searches.front import Front, Point


@linked
def show(context: Context) -> None:
    """Draw the chosen network and what can be done with it."""
    front, point = context.front, context.chosen
    if front is None:
        show_next_step(context.run, context.place)
        return
    if point is None:
        show_chosen(context, front, actions=False)
        st.info("Raise the budget on the screen Front to choose a subnetwork.")
        return
    left, right = st.columns([1.25, 1], gap="large")
    with left, isolated("The layers"):
        rows = layers.group_layers(context.space, point.choices)
        st.markdown(markup.write_layers(rows), unsafe_allow_html=True)
        st.caption("Darker is larger among the legal values of the choice.")
    with right:
        show_chosen(context, front, actions=False)
        with isolated("The export"):
            show_export(context, point)
        show_commands(context, front, point)
        _offer_json(front, point)
    with isolated("The figures"):
        st.markdown("**Figures**")
        table = markup.write_table(HEADER, list_figures(front, point), "Figures")
        st.markdown(table, unsafe_allow_html=True)
    with isolated("The units"):
        st.markdown("**Units**")
        show_units(context, front, point)


def _offer_json(front: Front, point: Point) -> None:
    record = {
        "version": 1,
        "space": front.space_digest,
        "digest": point.digest,
        "choices": dict(point.choices),
    }
    text = json.dumps(record, indent=2) + "\n"
    st.download_button(
        "Download the architecture (JSON)",
        text,
        file_name=f"{point.digest}.json",
        mime="application/json",
        on_click="ignore",
    )
    with st.expander("The architecture as JSON"):
        st.code(text, language="json")
