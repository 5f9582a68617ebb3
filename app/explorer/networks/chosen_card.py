"""The chosen subnetwork as a card: its figures, and the commands that lead on from it."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.explorer import markup
from app.explorer.context import Context
from app.explorer.markup import write_text
from app.records import numbers
from app.records.formats import list_formats, read_formats
from app.records.searches import picking
from app.records.searches.front import Front, Point
from app.reporting.markdown import write_code
from app.runs import command_lines


def show_chosen(context: Context, front: Front, *, actions: bool = True) -> None:
    """Draw the card of the chosen subnetwork, or the nearest one where none fits the budget.

    Args:
        context: What is looked at.
        front: The front of the search.
        actions: Whether there are buttons that lead on to the other screens.
    """
    point = context.chosen
    if not context.budgets and point is None:
        return
    cost, quality = front.cost, front.quality
    answer = picking.pick(front, context.budgets[0]) if context.budgets else None
    if point is None:
        nearest = answer.nearest if answer else None
        if nearest is not None:
            sentence = (
                f"No verified subnetwork meets {cost.show(context.budgets[0])}: the nearest "
                f"feasible is {nearest.digest} with {cost.show(nearest.best(cost.name))} and "
                f"{quality.show(nearest.best(quality.name))} {quality.title}."
            )
            st.error(write_text(sentence))
        return
    with st.container(border=True):
        title = "Chosen by hand" if context.state.chosen else "Recommended within the budget"
        st.markdown(f"{title}: **{write_code(point.digest)}**")
        st.markdown(
            markup.write_facts(list_figures(front, point), grid=True), unsafe_allow_html=True
        )
        formats = read_formats(point.choices)
        if formats:
            st.caption(write_text(f"Precision: {list_formats(formats)}."))
        if actions:
            _show_actions(context, point)
    knee = None if context.state.chosen else picking.pick_knee(front)
    if knee is not None and knee.digest == point.digest:
        sentence = (
            f"It is at the knee of the front, the best compromise of {cost.title} and "
            f"{quality.title}; another budget recommends another one."
        )
        st.caption(write_text(sentence))
    if answer and answer.best and answer.ties and not context.state.chosen:
        others = numbers.format_items(len(answer.ties), "other verified subnetwork")
        sentence = (
            f"{others} within the budget cannot be told apart from it in {quality.title}, of which "
            f"it is the cheapest; the best is {answer.best.digest} with "
            f"{quality.show(answer.best.best(quality.name))}."
        )
        st.caption(write_text(sentence))


def _show_actions(context: Context, point: Point) -> None:
    compared = context.state.compared
    with st.container(horizontal=True):
        st.button(
            "Open and export",
            type="primary",
            key=f"open {context.key}",
            on_click=lambda: context.update(screen="Network"),
        )
        if point.digest in compared:
            others = tuple(digest for digest in compared if digest != point.digest)
            st.button(
                "Do not compare",
                key=f"keep {context.key}",
                on_click=lambda: context.update(compared=others),
            )
        else:
            st.button(
                "Keep to compare",
                key=f"keep {context.key}",
                on_click=lambda: context.update(compared=(*compared, point.digest)),
                help="Choose another one afterwards: the screen Compare has both.",
            )
        if context.state.chosen and context.budgets:
            st.button(
                "Back to the best within the budget",
                key=f"back {context.key}",
                on_click=lambda: context.update(chosen=""),
            )


def show_commands(context: Context, front: Front, point: Point) -> None:
    """Draw the command lines that pick and export the same subnetwork."""
    lines = []
    if front.cost.per_device and context.budgets and not context.state.chosen:
        lines.append(command_lines.pick_command(context.place, front.search, context.budgets[0]))
    lines.append(
        command_lines.export_command(context.place, point.digest, Path(f"exported-{point.digest}"))
    )
    st.caption("The same from the command line")
    st.code("\n".join(lines), language="bash", wrap_lines=True)


def list_figures(front: Front, point: Point) -> list[tuple[str, str, str]]:
    """Every figure of a point with half the width of its interval."""
    entries = []
    for axis in front.axes:
        estimate = point.estimate(axis.name)
        if estimate.best is None:
            continue
        interval = estimate.interval
        note = ""
        if interval is not None:
            low, high = interval
            wide = max(estimate.best - low, high - estimate.best) * axis.scale
            note = f"± {numbers.format_digits(wide, 2)}" if wide else ""
        # As the command line calls it: what evaluations and predictor say together.
        expected = estimate.posterior is not None
        title = f"Expected {axis.title}" if expected else axis.title.capitalize()
        if estimate.alone is None:
            entries.append((title, axis.show(estimate.best), note))
        else:
            entries.append(
                (f"{axis.title.capitalize()} trained alone", axis.show(estimate.alone), note)
            )
            inherited = estimate.posterior if expected else estimate.value
            entries.append((f"Inherited {axis.title}", axis.show(inherited), ""))
        if estimate.test is not None:
            entries.append((f"Test {axis.title}", axis.show(estimate.test), ""))
    return entries
