"""One network: its layers, the latency of its units, its files."""

from __future__ import annotations

import json
from pathlib import Path

import streamlit as st

from app.explorer import layers, markup
from app.explorer.architecture_charts import draw_breakdown
from app.explorer.chosen_card import show_chosen, show_commands
from app.explorer.context import Context, linked
from app.explorer.exporting import export
from app.explorer.header import show_next_step
from app.explorer.markup import write_text
from app.explorer.opened import isolated
from app.records.front import Front, Point
from app.records.quantities import LATENCY
from app.reporting.markdown import write_code
from app.runs.command_lines import export_command
from app.runs.run_view import RunView


@linked
def show(context: Context) -> None:
    """Draw the chosen network and what can be done with it."""
    front, point = context.front, context.chosen
    if front is None:
        show_next_step(context.run)
        return
    if point is None:
        st.info("Raise the budget on the screen Front to choose a subnetwork.")
        return
    left, right = st.columns([1.4, 1], gap="large")
    with left, isolated("The layers"):
        rows = layers.group_layers(context.space, point.choices)
        st.markdown(markup.write_layers(rows), unsafe_allow_html=True)
        st.caption("Darker is larger among the legal values of the choice.")
    with right:
        show_chosen(context, front, actions=False)
        show_commands(context, front, point)
    with isolated("The breakdown"):
        _show_breakdown(front, point, context.key)
    with isolated("The export"):
        _show_export(context.run, front, point)


def _show_breakdown(front: Front, chosen: Point, key: str) -> None:
    if not chosen.breakdown:
        st.info("This search stored no latency of single units.")
        return
    total = sum(cost for _, cost in chosen.breakdown)
    latency = front.cost if front.cost.per_device else LATENCY
    real = chosen.estimate(latency.name)
    sentence = (
        f"The units add up to {latency.show(total)} in the table; the whole network is "
        f"predicted at {latency.show(real.predicted)} after calibration and measured at "
        f"{latency.show(real.value)} on {front.device}."
    )
    st.caption(write_text(sentence))
    st.altair_chart(draw_breakdown(chosen), key=f"breakdown {key}")


def _show_export(run: RunView, front: Front, point: Point) -> None:
    record = {
        "version": 1,
        "space": front.space_digest,
        "digest": point.digest,
        "choices": dict(point.choices),
    }
    st.markdown(f"Chosen: **{write_code(point.digest)}**")
    st.download_button(
        "Download the architecture (JSON)",
        json.dumps(record, indent=2) + "\n",
        file_name=f"{point.digest}.json",
        mime="application/json",
    )
    folder = st.text_input(
        "Folder for the export (ONNX, safetensors, card, parity proof)",
        str(run.path / "exports" / point.digest),
        key=f"out {run.path} {point.digest}",
    )
    st.code(
        export_command(run.path, point.digest, Path(folder)),
        language="bash",
        wrap_lines=True,
    )
    if st.button("Export now", type="primary"):
        with st.spinner("Extracting, recalibrating and checking the subnetwork"):
            done = export(run.path, point.digest, folder)
        (st.error if done.folder is None else st.success)(write_text(done.message))
