"""The front: what each budget buys, and what lies behind."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import streamlit as st

from app.analysis.regions import Region, thin_corners
from app.explorer.context import Context, linked
from app.explorer.fronts.beside import select_beside
from app.explorer.fronts.budget_panel import ask_budgets
from app.explorer.fronts.front_controls import ask_axes, ask_layers, find_axes
from app.explorer.fronts.references import list_references
from app.explorer.markup import write_text
from app.explorer.networks.chosen_card import show_chosen
from app.explorer.panels.header import describe_tables, show_next_step
from app.explorer.panels.selection_bar import show_selection
from app.records.searches.front import Front
from app.reporting.calibration import describe_calibration
from app.reporting.scatter.component import show_scatter
from app.reporting.scatter.payload import build_payload
from app.reporting.scatter.view import ScatterView


@linked
def show(context: Context) -> None:
    """Draw the front of the search, the budgets and what is best within them."""
    front = context.front
    if front is None:
        show_next_step(context.run, context.place)
        return
    if not front.points:
        st.info("This search has not evaluated anything yet; run its command again to go on.")
        return
    chart, side = st.columns([1.75, 1], gap="large")
    with side:
        ask_budgets(context, front)
        show_chosen(context, front)
        beside = select_beside(context, front)
    with chart:
        axes = find_axes(context, front)
        ask_axes(context, front, axes)
        show_selection(context)
        _show_chart(context, front, make_view(context, front, beside))
        ask_layers(context, front)
        _show_notes(context, front)


def make_view(context: Context, front: Front, beside: tuple[tuple[str, Front], ...]) -> ScatterView:
    """What the chart shows of a front.

    Args:
        context: What is looked at.
        front: The front.
        beside: Fronts of other searches by their labels.
    """
    state, axes = context.state, find_axes(context, front)
    filtered = state.region is not None or bool(state.filters)
    return ScatterView(
        x=axes.x,
        y=axes.y,
        color=axes.color,
        x_log=state.x_log,
        y_log=state.y_log,
        shown=state.shown,
        kept=context.kept if filtered else None,
        chosen=context.chosen.digest if context.chosen else None,
        compared=tuple(point.digest for point in context.compared),
        budgets=context.budgets,
        region=asdict(state.region) if state.region else None,
        references=tuple(list_references(context.run, front, context.space)),
        others=beside,
    )


def _show_chart(context: Context, front: Front, view: ScatterView) -> None:
    def click(digest: str) -> None:
        if front.find_places(digest):
            context.update(chosen=digest)

    def draw(region: dict[str, Any] | None) -> None:
        if region is None:
            context.update(region=None)
            return
        corners = thin_corners(region["corners"])
        try:
            context.update(region=Region(**{**region, "corners": corners}))
        except ValueError:
            # A lasso around nothing has no place on a logarithmic axis; there is none, then.
            context.update(region=None)

    show_scatter(
        build_payload(front, view),
        key=f"chart {context.key}",
        on_click=click,
        on_region=draw,
        on_budgets=lambda budgets: context.update(
            budgets=tuple(value for value in budgets if value > 0), chosen=""
        ),
    )


def _show_notes(context: Context, front: Front) -> None:
    method = front.latency_method
    st.caption(
        "Bars are 95 % intervals. Click a point to choose it; drag a budget to move it.",
        help=f"Latency: {write_text(method)}" if method else None,
    )
    for line in describe_tables(context.run, front):
        st.caption(line)
    if front.calibration is not None:
        st.caption(write_text(describe_calibration(front.calibration)))
    # As random search is judged, by single evaluations.
    baseline, volume = front.baseline, front.hypervolume.searched or front.hypervolume.verified
    if baseline is not None and baseline.hypervolume is not None and volume is not None:
        st.caption(
            f"Random search with as many evaluations reaches a hypervolume of "
            f"{baseline.hypervolume:.4g}, this search {volume:.4g}."
            + (" Its front is that of single evaluations." if baseline.front else "")
        )
