"""What the chart of a front shows: its axes, its colours and the layers besides the front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from app.explorer.context import Context
from app.explorer.panels.widgets import hold
from app.explorer.views.view_state import LAYERS
from app.records.quantities import Quantity
from app.records.searches.front import Front
from app.reporting.scatter import view

_NO_COLOR = "by kind"


@dataclass(frozen=True)
class Axes:
    """Which quantities a chart is drawn over; ``color`` is ``None`` for colours of kinds."""

    x: Quantity
    y: Quantity
    color: Quantity | None


def find_axes(context: Context, front: Front) -> Axes:
    """The axes that are looked at: by default what a budget limits, and what it is spent on."""
    named = {axis.name: axis for axis in front.axes}
    state = context.state
    return Axes(
        named.get(state.x, front.cost), named.get(state.y, front.quality), named.get(state.color)
    )


def ask_axes(context: Context, front: Front, axes: Axes) -> None:
    """Draw the selectors of both axes and of the colour."""
    names = {axis.name: axis.axis_label for axis in front.axes}
    chosen = axes.color.name if axes.color else ""
    left, right = st.columns(2)
    with left:
        _ask(context, "Across", "x", names, axes.x.name)
        _ask(context, "Colour", "color", {"": _NO_COLOR, **names}, chosen)
    with right:
        _ask(context, "Up", "y", names, axes.y.name)
        _ask_log(context, "Logarithmic across", "x_log")
        _ask_log(context, "Logarithmic up", "y_log")


def ask_layers(context: Context, front: Front) -> None:
    """Draw a switch for everything that can be shown besides the front."""
    st.caption("Besides the verified front")
    with st.container(horizontal=True, gap="medium"):
        for name in list_layers(front):
            _ask_layer(context, name)


def list_layers(front: Front) -> list[str]:
    """The layers that can show something of a front."""
    quality = front.column(front.quality.name)
    there = {
        view.PREDICTED: bool((~np.isnan(quality.predicted[front.on_front])).any()),
        view.EVALUATED: bool((~np.isnan(quality.posterior[front.on_front])).any()),
        view.CLOSE: bool(front.indistinguishable.any()),
        view.DOMINATED: not front.on_front.all(),
        view.OUTSIDE: bool(front.limits) or len(front.constraints) > 0,
        view.RANDOM_SEARCH: front.baseline is not None and bool(front.baseline.front),
        view.FAILED: front.failed > 0,
    }
    return [name for name in LAYERS if there.get(name, True)]


def _ask_layer(context: Context, name: str) -> None:
    key = f"shown {name} {context.key}"
    hold(key, name in context.state.shown)
    st.checkbox(
        name.capitalize(),
        key=key,
        on_change=lambda: context.update(shown=context.state.shown ^ {name}),
    )


def _ask(context: Context, label: str, name: str, options: dict[str, str], value: str) -> None:
    key = f"{name} {context.key}"
    hold(key, value)
    st.selectbox(
        label,
        list(options),
        format_func=lambda found: options.get(found, found),
        key=key,
        on_change=lambda: context.update(**{name: st.session_state[key]}),
    )


def _ask_log(context: Context, label: str, name: str) -> None:
    key = f"{name} {context.key}"
    hold(key, getattr(context.state, name))
    st.checkbox(label, key=key, on_change=lambda: context.update(**{name: st.session_state[key]}))
