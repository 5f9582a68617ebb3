"""Charts of screens, each made once for every browser that looks at the same thing.

Making a chart costs Altair a multiple of what everything else on a screen costs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

# A specification with its data is tens of kilobytes.
_MOST_KEPT = 256


def show_chart(key: str, shown: tuple[str, ...], draw: Callable[[], alt.TopLevelMixin]) -> None:
    """Show a chart; the light or dark theme is applied by the browser.

    Args:
        key: Names its place on the page.
        shown: Everything that decides what it shows: two charts with one key and equal texts here
            are the same.
        draw: Makes it, where it is not kept.
    """
    kept = _make_specification(key, shown, draw)
    # Streamlit takes apart what it is given; the tables it only reads.
    bare = copy.deepcopy({name: part for name, part in kept.items() if name != "datasets"})
    st.vega_lite_chart(spec={**bare, "datasets": dict(kept["datasets"])}, key=key)


@st.cache_resource(max_entries=_MOST_KEPT, show_spinner=False)
def _make_specification(
    key: str, shown: tuple[str, ...], _draw: Callable[[], alt.TopLevelMixin]
) -> dict[str, Any]:
    # Tests check charts against the schema, which takes longer than to draw them.
    found: dict[str, Any] = _draw().to_dict(validate=False)
    tables = {name: pd.DataFrame(rows) for name, rows in found.get("datasets", {}).items()}
    return {**found, "datasets": tables}
