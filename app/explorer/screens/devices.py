"""The devices of a run: how well their latency tables did."""

from __future__ import annotations

import streamlit as st

from app.explorer import markup
from app.explorer.context import Context, linked
from app.explorer.markup import write_text


@linked
def show(context: Context) -> None:
    """List the devices of the run with the validation of their tables."""
    if not context.run.devices:
        st.info("No device has been profiled for this run.")
    for name, device in context.run.devices.items():
        st.markdown(f"**{write_text(name)}** {write_text(device.description)}")
        if device.report is not None:
            st.caption(markup.describe_table(device.report))
