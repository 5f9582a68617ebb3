"""Widgets that show what is looked at, whoever changed it."""

from __future__ import annotations

from typing import Any

import streamlit as st


def hold(key: str, value: Any) -> None:
    """Make the widget that is drawn next show a value; it must have this key and no default.

    A widget keeps what its user did. What is looked at may change elsewhere, too: by a click in a
    chart, by another widget, by the address.
    """
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value
