"""How well the predictors of a search did on architectures that they had not seen."""

from __future__ import annotations

import math

import numpy as np
import streamlit as st

from app.analysis.coverage import (
    Coverage,
    Predicted,
    cover_levels,
    measure_coverage,
    split_residuals,
)
from app.explorer import markup
from app.explorer.context import Context, linked
from app.explorer.derived import Selection, name_selection
from app.explorer.drawn import show_chart
from app.explorer.markup import write_text
from app.explorer.opened import isolated
from app.explorer.panels.header import show_next_step
from app.explorer.panels.selection_bar import show_selection
from app.records.numbers import format_items, format_percent
from app.records.quantities import Quantity
from app.records.searches.front import CardRecord, Front
from app.reporting.charts.chart_style import spread_evenly
from app.reporting.charts.predictor_charts import draw_coverage, draw_predictions, draw_residuals
from app.reporting.charts.progress_charts import draw_learning_curve

_MOST_KEPT = 32
# More predictions than this say nothing new about how far they are off.
_MOST_READ = 2000
# Of intervals whose report does not say what they are for.
_USUAL_LEVEL = 0.9


@linked
def show(context: Context) -> None:
    """Draw the report card, the errors and the intervals of one predictor."""
    front = context.front
    if front is None:
        show_next_step(context.run, context.place)
        return
    names = [name for name in _list_predicted(front) if name]
    if not names:
        st.info("This search used no predictor, or stored neither its report nor its predictions.")
        return
    axis = front.find_axis(names[0])
    if names[1:]:
        name = st.selectbox(
            "Predictor of",
            names,
            format_func=lambda found: front.find_axis(found).title,
            key=f"predictor {context.key}",
        )
        axis = front.find_axis(str(name))
    card = front.reports.get(axis.name)
    selection = name_selection(context)
    with isolated("The report card"):
        _show_card(context, selection[0], axis, card)
    show_selection(context)
    found = _open_predicted(selection[0], axis.name, front).select(context.kept)
    if not len(found.mean):
        st.info("No network that passes the filters has both a prediction and a value.")
        return
    if len(found.mean) < len(front.points):
        networks = format_items(len(found.mean), "network")
        st.caption(
            f"Below are {networks} of {len(front.points):,}, evenly spread over those with a "
            "prediction and a value of a whole split."
        )
    left, right = st.columns(2, gap="large")
    with left, isolated("The predictions"):
        _show_predictions(context, selection, front, axis, found)
    with right, isolated("The intervals"):
        _show_coverage(context, selection, axis, found, card)


def _list_predicted(front: Front) -> list[str]:
    """What a predictor was fitted to: what has a report, or is evaluated on data and predicted."""
    predicted = [
        axis.name
        for axis in front.objectives
        if axis.is_quality and not np.isnan(front.column(axis.name).predicted).all()
    ]
    return list(dict.fromkeys((*front.reports, *predicted)))


def _show_card(context: Context, content: str, axis: Quantity, card: CardRecord | None) -> None:
    st.markdown(f"**Report card of the predictor of {write_text(axis.title)}**")
    if card is None:
        st.info("This search stored no report of this predictor.")
        return
    st.caption("On architectures that it had not seen: each was predicted by a fit to the others.")
    st.markdown(markup.write_facts(markup.list_card(card, axis), grid=True), unsafe_allow_html=True)
    if len(card.curve) > 1:
        st.markdown("**Learning curve**")
        show_chart(
            f"curve {context.key}",
            (content, axis.name, str(card.samples)),
            lambda: draw_learning_curve(card.curve),
        )
        st.caption("The dashed line is where a ranking can be relied on.")
    else:
        st.caption("A search stores a learning curve of what it evaluated once it has enough.")


@st.cache_resource(max_entries=_MOST_KEPT, show_spinner=False)
def _open_predicted(content: str, name: str, _front: Front) -> Predicted:
    """Points of a front that were predicted, and evaluated on a whole split; of many, some.

    The others stay in their file.
    """
    column = _front.column(name)
    both = np.flatnonzero(~np.isnan(column.value) & ~np.isnan(column.predicted)).tolist()
    rows = []
    for place in spread_evenly(both, _MOST_READ):
        estimate = _front.points[place].estimate(name)
        # What was stopped early is an estimate of its own.
        if estimate.source != "stopped early":
            ends = (estimate.predicted_low, estimate.predicted_high)
            rows.append((place, estimate.predicted, *ends, estimate.value))
    columns = np.array(rows, dtype=np.float64).reshape(len(rows), 5).T
    places, mean, low, high, value = columns
    return Predicted(places.astype(np.intp), mean, low, high, value)


def _show_predictions(
    context: Context, selection: Selection, front: Front, axis: Quantity, found: Predicted
) -> None:
    state = (*selection, axis.name)
    st.markdown("**Predicted against evaluated**")
    show_chart(f"parity {context.key}", state, lambda: draw_predictions(front, axis, found))
    st.caption("Lines are the intervals of the predictions.")
    st.markdown("**Residuals**")
    parts = split_residuals(found)
    show_chart(f"residuals {context.key}", state, lambda: draw_residuals(front, axis, found, parts))
    st.caption(write_text(describe_errors(axis, found)))


def describe_errors(axis: Quantity, found: Predicted) -> str:
    """How far values are above their predictions, and how far off, in a sentence."""
    left = found.residuals
    bias = axis.show_difference(float(left.mean()), 0.0)
    root = axis.show_difference(float(np.sqrt((left**2).mean())), 0.0).lstrip("+")
    sentence = f"On average the value is {bias} off its prediction, the error (RMSE) {root}."
    if split_residuals(found):
        sentence += " The line joins medians; away from 0 it shows where predictions are biased."
    return sentence


def _show_coverage(
    context: Context,
    selection: Selection,
    axis: Quantity,
    found: Predicted,
    card: CardRecord | None,
) -> None:
    st.markdown("**Do the intervals hold?**")
    level = _USUAL_LEVEL if card is None or card.level is None else card.level
    covered = measure_coverage(found, level) if 0 < level < 1 else None
    if covered is None:
        st.info("This search stored no intervals of its predictions.")
        return
    show_chart(
        f"coverage {context.key}",
        (*selection, axis.name),
        lambda: draw_coverage(cover_levels(found, level)),
    )
    st.caption(describe_coverage(covered, None if card is None else card.coverage))


def describe_coverage(covered: Coverage, crossed: float | None = None) -> str:
    """How many values lie inside their intervals, and whether that is as many as wanted.

    Args:
        covered: What was counted.
        crossed: The report card's share, of intervals whose width came from other values.
    """
    ends = f"{format_percent(covered.low)} to {format_percent(covered.high)}"
    wanted = format_percent(covered.wanted, 0)
    verdict = "as many as they are for"
    if covered.high < covered.wanted:
        verdict = "fewer than they are for: the predictor is too sure of itself"
    elif covered.low > covered.wanted:
        verdict = "more than they are for: the predictor is too cautious"
    sentences = (
        f"Intervals for {wanted} hold {format_percent(covered.share)} of "
        f"{format_items(covered.values, 'value')} (95 % interval {ends}), {verdict}. Other shares "
        "are for intervals made wider or narrower as if errors were normal."
    )
    if crossed is not None and math.isfinite(crossed):
        # Two shares on one screen that differ have to say why.
        sentences += (
            f" The report card's {format_percent(crossed, 0)} is of intervals whose width is "
            "without the margin for few values, each from the other half of the values."
        )
    return sentences
