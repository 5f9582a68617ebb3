"""The interactive chart of a front as a component of a Streamlit page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import streamlit as st

from app.reporting.scatter.script import read_script, read_style
from supernet.errors import InputError

NAME = "supernet_front_scatter"
# A hand draws fewer corners; what a browser sends is not to be relied on.
_MOST_CORNERS = 2000


def show_scatter(
    payload: Mapping[str, object],
    *,
    key: str,
    on_click: Callable[[str], None],
    on_region: Callable[[dict[str, Any] | None], None],
    on_budgets: Callable[[tuple[float, ...]], None],
) -> None:
    """Draw a chart on the page; each callback runs before the rerun that an action causes.

    What the chart reports is a trigger: it holds nothing that the payload of the next run does not
    say again. What a browser sends and no chart would is ignored.

    Args:
        payload: Of :func:`app.reporting.scatter.payload.build_payload`.
        key: Names the chart on the page; the zoom is kept as long as it stays.
        on_click: Told the digest of a point that was clicked or chosen by key.
        on_region: Told a region with the entries of ``ScatterView.region``, or ``None`` when it
            was taken away.
        on_budgets: Told all budgets, in the order of the payload, after one was moved.
    """

    def report(event: str, read: Callable[[object], Any], tell: Callable[[Any], None]) -> None:
        found = st.session_state.get(key)
        value = None if found is None else found.get(event)
        if value is None:
            return
        try:
            meant = read(value)
        except (ValueError, TypeError, KeyError):
            return  # No chart sends this.
        tell(meant)

    _register()(
        key=key,
        # In a mapping Streamlit looks for tables, for which it imports pandas.
        data=[dict(payload)],
        on_clicked_change=lambda: report("clicked", read_click, on_click),
        on_region_change=lambda: report("region", read_region, on_region),
        on_budgets_change=lambda: report("budgets", read_budgets, on_budgets),
    )


def read_click(value: object) -> str:
    """The digest of a clicked point; ValueError for what is none."""
    if not isinstance(value, str) or len(value) > 64:
        raise InputError("a click names a point")
    return value


def read_region(value: object) -> dict[str, Any] | None:
    """A region as a chart reports it, ``None`` for "taken away".

    Raises:
        InputError: It is none: another kind, too few or too many corners, a corner that is not
            finite.
    """
    if not isinstance(value, dict):
        raise InputError("a region is a mapping")
    kind = value.get("kind")
    if kind == "none":
        return None
    if kind not in ("box", "lasso"):
        raise InputError("a region is a box or a lasso")
    names = (value["x"], value["y"])
    if not all(isinstance(name, str) for name in names):
        raise InputError("a region has two quantities")
    corners = tuple((_read_number(x), _read_number(y)) for x, y in value["corners"])
    fits = len(corners) == 2 if kind == "box" else 3 <= len(corners) <= _MOST_CORNERS
    if not fits:
        raise InputError(f"{len(corners)} corners make no {kind}")
    return {
        "kind": kind,
        "x": names[0],
        "y": names[1],
        "corners": corners,
        "x_log": value.get("x_log") is True,
        "y_log": value.get("y_log") is True,
    }


def read_budgets(value: object) -> tuple[float, ...]:
    """Budgets as a chart reports them; ValueError for what is no number."""
    if not isinstance(value, list):
        raise InputError("budgets are a list")
    return tuple(_read_number(part) for part in value)


def _read_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError("a place is a finite number")
    return float(value)


@cache
def _register() -> Callable[..., Any]:
    """The component, registered once in a process."""
    return st.components.v2.component(NAME, css=read_style(), js=read_script())
