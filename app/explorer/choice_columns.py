"""The choices of all points of a front, a column each, made once for every session."""

from __future__ import annotations

import streamlit as st
from numpy.typing import NDArray

from app.records.front import Front

_MOST_COLUMNS = 256


def read_choice(front: Front, key: str, name: str) -> NDArray:
    """The value of one choice of every point of a front, ``(n,)``.

    Numbers come as ``float64`` with NaN where the choice is inert, anything else as objects with
    ``None`` there.

    Args:
        front: The front.
        key: Names the front and its content, unique among those that are open.
        name: Of the choice.
    """
    return _read_choice(key, name, front)


@st.cache_resource(max_entries=_MOST_COLUMNS, show_spinner=False)
def _read_choice(key: str, name: str, _front: Front) -> NDArray:
    return _front.choices.column(name)
