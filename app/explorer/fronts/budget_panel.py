"""The budgets of a front as widgets: one that chooses, and others to look at beside it."""

from __future__ import annotations

import streamlit as st

from app.explorer.context import Context
from app.explorer.fronts.budgets import Scale, make_scale
from app.explorer.markup import write_text
from app.explorer.panels.widgets import hold
from app.explorer.views.fitted_state import MOST_BUDGETS
from app.records.searches import picking
from app.records.searches.front import Front
from app.reporting.markdown import write_code


def ask_budgets(context: Context, front: Front) -> None:
    """Draw a slider for the budget that chooses, and a number for each of the others."""
    scale = make_scale(front)
    if scale is None or not context.budgets:
        st.warning(
            "No point of this search was verified by measurement yet. "
            "Running the search command again finishes the verification."
        )
        return
    _ask_first(context, front, scale)
    for place in range(1, len(context.budgets)):
        _ask_other(context, front, scale, place)
    if len(context.budgets) < MOST_BUDGETS:
        st.button(
            "Add a budget",
            key=f"add {context.key}",
            on_click=lambda: context.update(budgets=(*context.budgets, _halve(context.budgets))),
            help="Each budget is a line in the chart that can be moved; the first one chooses.",
        )


def describe_place(front: Front) -> str:
    """On which device a latency budget is spent, and whether latencies were measured there."""
    if not front.cost.per_device:
        return ""
    device = front.cost.device or front.device
    return f", {'by the table of' if device in front.unmeasured else 'measured on'} {device}"


def _ask_first(context: Context, front: Front, scale: Scale) -> None:
    cost = front.cost
    key = f"budget {context.key}"
    hold(key, min(max(context.budgets[0] * cost.scale, scale.low), scale.high))
    # On which device is said at the end.
    title = cost.title.removesuffix(f" on {cost.device}").capitalize()
    label = f"{title} budget ({cost.shown_unit})"
    st.slider(
        write_text(label + describe_place(front)),
        scale.low,
        scale.high,
        step=scale.step,
        format=f"%.{scale.decimals}f",
        key=key,
        on_change=lambda: context.update(
            budgets=(st.session_state[key] / cost.scale, *context.budgets[1:]), chosen=""
        ),
    )


def _ask_other(context: Context, front: Front, scale: Scale, place: int) -> None:
    cost, quality = front.cost, front.quality
    key = f"budget {place} {context.key}"
    before, after = context.budgets[:place], context.budgets[place + 1 :]

    def change() -> None:
        value = st.session_state[key] / cost.scale
        # Nothing can be had for nothing: such a budget is one that is taken away.
        context.update(budgets=(*before, *((value,) if value > 0 else ()), *after))

    hold(key, context.budgets[place] * cost.scale)
    number, bought, remove = st.columns([1.1, 1.4, 0.35], vertical_alignment="bottom")
    number.number_input(
        write_text(f"Budget {place + 1} ({cost.shown_unit})"),
        min_value=0.0,
        step=scale.step,
        format=f"%.{scale.decimals}f",
        key=key,
        on_change=change,
    )
    point = picking.pick(front, context.budgets[place]).point
    if point is None:
        bought.caption("buys nothing that was verified")
    else:
        shown = f"{quality.show(point.best(quality.name))} {quality.title}"
        bought.caption(f"{write_code(point.digest)}  \n{write_text(shown)}")
    remove.button(
        "Remove this budget",
        icon=":material/close:",
        key=f"remove {place} {context.key}",
        on_click=lambda: context.update(budgets=(*before, *after)),
    )


def _halve(budgets: tuple[float, ...]) -> float:
    """A further budget that differs from those that are there."""
    return 0.75 * min(budgets)
